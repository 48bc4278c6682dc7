"""The generic poller: a function of the user's, called again and again, and what it is given."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from incumbent.errors import ConfigError, StoreUnusable
from incumbent.runtime.checkpoints import Progress
from incumbent.runtime.flag import Flag
from incumbent.runtime.term import Term
from incumbent.workloads.env import Env
from incumbent.workloads.polling.byname import named, resolved
from incumbent.workloads.polling.calling import called, check_kind
from incumbent.workloads.polling.pace import Pace

__all__ = ["Poll", "Polling", "check_errors"]

PART = "poll"

logger = logging.getLogger("incumbent")


class Poll:
    """One poll, in the hands of the user's function.

    The two faces add `save`, each in its own way.

    Attributes:
        term: under which it runs.
        attempt: 1, and one more for each poll in a row that has failed.
    """

    def __init__(self, term: Term, attempt: int, progress: Progress | None) -> None:
        self.term = term
        self.attempt = attempt
        self._progress = progress
        self._loop = asyncio.get_running_loop()

    @property
    def token(self) -> int | None:
        """The fencing token of the term."""
        return self.term.token

    @property
    def lost(self) -> Flag:
        """Set as soon as the term is to end: see `Term.lost`."""
        return self.term.lost

    @property
    def checkpoint(self) -> bytes | None:
        """What was saved last, by whichever holder; None if nothing was."""
        return self._kept().value or None

    @property
    def value(self) -> Any:
        """The checkpoint, decoded from JSON; None if nothing was saved.

        Raises:
            StoreUnusable: it is no JSON: it was saved as bytes.
        """
        kept = self.checkpoint
        try:
            return None if kept is None else json.loads(kept)
        except ValueError as error:
            raise StoreUnusable(
                f"the checkpoint of {self.term.name!r} is no JSON: use `checkpoint`, if it was "
                "saved as bytes"
            ) from error

    def check(self) -> None:
        """Return if this poll may still act now.

        Raises:
            LeadershipLost: the term is over.
        """
        self.term.check()

    async def _saved(self, value: Any) -> None:
        """Save; run on the loop of the workload."""
        await self._kept().save(value if isinstance(value, bytes) else _encoded(value))

    def _kept(self) -> Progress:
        if self._progress is None:
            raise ConfigError(
                f"the poller {self.term.name!r} keeps no checkpoint: leave out keeps=False"
            )
        return self._progress


class Polling:
    """The workload.

    A poll that raises is logged; the next one comes later, as after one that found nothing.
    """

    handle: ClassVar[type[Poll]] = Poll
    awaits: ClassVar[bool] = False

    def __init__(
        self, func: Callable[..., Any], pace: Pace, *, errors: str = "log", keeps: bool = True
    ) -> None:
        check_kind(func, "poll", awaits=self.awaits)
        self.keeps = keeps
        self._func = func
        self._pace = pace
        self._errors = check_errors(errors)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, which imports the function by its name."""
        return {**self.__dict__, "_func": named(self._func)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive there."""
        self.__dict__.update(state)
        self._func = resolved(self._func)

    async def run(self, env: Env) -> None:
        """Poll until the term ends."""
        progress = env.progress(PART) if self.keeps else None
        if progress is not None:
            await progress.open()
        idle = failures = 0
        while True:
            poll = self.handle(env.term, failures + 1, progress)
            outcome = await called(env, self._func, poll, awaits=self.awaits)
            if outcome.ending:
                raise asyncio.CancelledError
            if outcome.error is None:
                failures = 0
            else:
                failures += 1
                if self._errors == "raise":
                    raise outcome.error
                logger.error(
                    "the poll of %r has failed (%d in a row)",
                    env.term.name,
                    failures,
                    exc_info=outcome.error,
                )
            idle = 0 if outcome.result else idle + 1
            await env.clock.sleep(self._pace.wait_s(idle))


def check_errors(errors: str) -> str:
    """Return it, if it is one of the two choices.

    Raises:
        ConfigError: it is none.
    """
    if errors not in ("log", "raise"):
        raise ConfigError(f"errors={errors!r} must be 'log' or 'raise'")
    return errors


def _encoded(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a checkpoint is bytes, or what JSON can hold: {error}") from error
