"""`[[periodic]]` sections of a file: tasks, those of one `election` together.

A task's election is called as the task is, unless it says `election = "…"`; then tasks that say the
same are under one election, which runs `threads` of them at a time, as the first of them says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from incumbent.cli.options import Options
from incumbent.cli.run import refusal
from incumbent.cli.voice import Voice
from incumbent.cli.working import CommandTask, Piece, observer, refuse_one_process
from incumbent.core.records import check_name
from incumbent.errors import ConfigError
from incumbent.runtime.settings import Settings
from incumbent.sync.periodic import Jobs
from incumbent.workloads.command import Command
from incumbent.workloads.config import Section
from incumbent.workloads.periodic.choices import Choices, refuse_idle
from incumbent.workloads.periodic.spec import MAIN, by_cron, by_interval
from incumbent.workloads.schedule import Schedule

__all__ = ["NO_ZONE", "pieces"]

NO_ZONE = (
    "a time zone is for a line of cron: an interval is counted from the epoch, whatever the zone. "
    "Write a line of cron, or leave it out"
)
_NUMBERS = ("late_s", "jitter_s", "timeout_s", "backoff_s")
_COUNTS = ("missed_limit", "reruns", "retries", "history")
_WORDS = ("missed", "on_overrun", "on_interrupted", "errors")


@dataclass
class _Task:
    """One section, read."""

    section: Section
    name: str
    election: str
    settings: dict[str, Any]
    threads: int
    schedule: Schedule
    choices: Choices
    command: list[str] | None
    call: str | None


def pieces(options: Options, sections: Iterable[Section]) -> list[Piece]:
    """Return a piece of work for each election.

    Raises:
        ConfigError: a section cannot be meant.
    """
    elections: dict[str, list[_Task]] = {}
    for section in sections:
        task = _read(section)
        elections.setdefault(task.election, []).append(task)
    return [_piece(options, name, tasks) for name, tasks in elections.items()]


def _read(section: Section) -> _Task:
    name = section.name
    alone = section.take("election", str)
    section.one_of(("every", "cron"), 'when: every = "30s", or cron = "*/5 * * * *"')
    every, cron = section.take("every", str, int, float), section.take("cron", str)
    zone = section.take("tz", str)
    section.one_of(
        ("command", "call"), 'what: command = ["prog", "arg"], or call = "module:function"'
    )
    command, call = section.take_words("command"), section.take("call", str)
    values: dict[str, Any] = {key: section.take(key, float, int) for key in _NUMBERS}
    values |= {key: section.take(key, int) for key in _COUNTS}
    values |= {key: section.take(key, str) for key in _WORDS}
    values = {key: value for key, value in values.items() if value is not None}
    try:
        refuse_idle(values)
        if zone is not None and cron is None:
            raise ConfigError(NO_ZONE)
        task = _Task(
            section=section,
            name=MAIN if alone is None else name,
            election=name if alone is None else check_name(alone),
            settings=section.election(),
            threads=section.take("threads", int) or 1,
            schedule=by_interval(every) if cron is None else by_cron(cron, zone or "UTC"),
            choices=Choices(**values),
            command=command,
            call=call,
        )
    except ConfigError as error:
        raise ConfigError(f"{section.where}: {error}") from None
    section.done()
    return task


def _piece(options: Options, name: str, tasks: list[_Task]) -> Piece:
    first = tasks[0]
    called: set[str] = set()
    for task in tasks:
        if task.name in called:
            raise ConfigError(
                f"{task.section.where}: another section of this file has the same name: give each "
                "a name of its own"
            )
        called.add(task.name)
    for task in tasks[1:]:
        if task.settings != first.settings:
            raise ConfigError(
                f"{task.section.where}: the election {name!r} is described in another way by "
                f"{first.section.where}: say the same in both, or above all sections"
            )
    values = dict(first.settings)
    if options.store:
        values["store"] = options.store
    state = values.pop("state", None)
    settings = Settings.resolve(name, armed=True, **values)
    refuse_one_process(settings)
    voice = Voice(name, json=options.json, verbosity=options.verbosity)
    jobs = Jobs(name, threads=first.threads, state=state, observer=observer(voice), **values)
    commands = []
    for task in tasks:
        func: Callable[..., Any]
        if task.command is not None:
            if (refused := refusal(task.command[0])) is not None:
                raise ConfigError(f"{task.section.where}: {refused[1]}")
            command = Command(task.command, grace_s=settings.timing.grace_s)
            commands.append(command)
            func = CommandTask(command, settings.store_url, voice)
        else:
            func = task.section.function(task.call or "")
        try:
            jobs.add(func, task.schedule, name=task.name, choices=task.choices)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{task.section.where}: {error}") from None
    return Piece(name, jobs, voice, commands)
