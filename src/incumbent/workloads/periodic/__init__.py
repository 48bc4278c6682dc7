"""Periodic tasks: one run per tick, across replicas, failover and differing clocks.

`Periodic` is the workload: any number of tasks under one election, each with a document of its own.
How one run per tick is kept is said, with its reasons, at the head of `task`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from incumbent.errors import ConfigError, LeadershipLost, StaleToken
from incumbent.workloads.env import Env
from incumbent.workloads.periodic.agenda import Agenda
from incumbent.workloads.periodic.choices import Choices
from incumbent.workloads.periodic.orders import Desk
from incumbent.workloads.periodic.spec import Spec
from incumbent.workloads.periodic.task import Task
from incumbent.workloads.periodic.tick import Tick

__all__ = ["Choices", "Periodic", "Spec", "Tick"]


class Periodic:
    """The workload of one or more periodic tasks.

    Attributes:
        specs: the tasks.
        width: how many of them may run at a time; None for any number.
    """

    keeps = True

    def __init__(self, width: int | None = None) -> None:
        self.specs: list[Spec] = []
        self.width = width

    def add(self, spec: Spec) -> None:
        """Have one more task, from the next term on.

        Raises:
            ConfigError: there is one of that name.
        """
        if any(spec.name == other.name for other in self.specs):
            raise ConfigError(f"two tasks are called {spec.name!r}: give one of them a name=")
        self.specs.append(spec)

    async def run(self, env: Env) -> None:
        """Run each task when it is due, until the term ends.

        Raises:
            LeadershipLost, StaleToken: the term is over.
            ConfigError: there is no task.
        Exception: what a task raised, with errors="raise"; or the store.
        """
        if env.archive is None:
            raise AssertionError("periodic work keeps notes")
        if not self.specs:
            raise ConfigError("there is no task: add one, as with `@jobs.every('30s')`")
        agenda = Agenda(env.clock)
        desk = Desk(env.archive, env.term, env.clock, agenda)
        gate: AbstractAsyncContextManager[Any] = nullcontext()
        if self.width is not None:
            gate = asyncio.Semaphore(self.width)
        try:
            await desk.fresh()
            async with asyncio.TaskGroup() as group:
                group.create_task(agenda.serve())
                group.create_task(desk.watch())
                for spec in self.specs:
                    group.create_task(Task(spec, env, agenda, desk, gate).run(), name=spec.name)
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            await desk.close()


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return what ends the work: a lost term before anything that may have come of it."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            flat.append(error)
    for kind in (StaleToken, LeadershipLost):
        for error in flat:
            if isinstance(error, kind):
                return error
    return flat[-1]
