"""Files that appear in a folder, handled one after the other by one holder at a time.

What happens to a file, and why no crash loses one, is at the head of `claims`. The handler may be
given a file again, with a greater `attempt`: after a failure, and after a crash between its effect
and the rename. `File.id` is the same then, so that an effect in a database can be made once, by
`Fence.once`.

A file has `retries` + 1 strikes. A failure is one, and so is a crash while it was in hand, so that
a file which kills its process is put aside in the end. A term that ends by a handover is none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from incumbent.errors import ConfigError, LeadershipLost, StaleToken
from incumbent.runtime.flag import Flag
from incumbent.runtime.term import Term
from incumbent.workloads.env import Env
from incumbent.workloads.polling.arrivals import ORDERS, Arrivals, Bell
from incumbent.workloads.polling.byname import named, resolved
from incumbent.workloads.polling.calling import apart, called, check_kind
from incumbent.workloads.polling.claims import Claim, Claims
from incumbent.workloads.polling.mounts import refuse_elsewhere
from incumbent.workloads.polling.pace import Pace
from incumbent.workloads.polling.poll import check_errors
from incumbent.workloads.reason import said
from incumbent.workloads.schedule import seconds_of

__all__ = ["IGNORED", "File", "Filing", "HandlingFailed", "options"]

IGNORED = ("*.part", "*.partial", "*.tmp", "*.filepart", "*.crdownload", "*~")
LONGEST_BACKOFF_S = 600.0
_LEAST_PAUSE_S = 0.1
_NO_ROOM = (ENOSPC, EDQUOT)

T = TypeVar("T")

logger = logging.getLogger("incumbent")

ROOT = ".incumbent"
ERROR = ".error"
LONGEST_NAME_BYTES = 255

_NO_FAULT_OF_THE_FILE = (
    asyncio.CancelledError,
    LeadershipLost,
    KeyboardInterrupt,
    SystemExit,
    ConfigError,
)
"""What ends a run without a strike against the file in hand."""


class HandlingFailed(Exception):
    """A file could not be handled, and the text says all that there is to say."""


class File:
    """A file in the hands of the handler.

    Attributes:
        path: where it lies now; it stays there until the handler returns.
        name: which it had in the folder.
        attempt: 1 for the first time that it is handled.
        term: under which that is done.
    """

    def __init__(self, term: Term, claim: Claim) -> None:
        self.term = term
        self.path = claim.path
        self.name = claim.path.name
        self.attempt = claim.attempt

    def __fspath__(self) -> str:
        """Return the path, for `open` and its like."""
        return str(self.path)

    @property
    def id(self) -> str:
        """What tells it from every other file, and is the same however often it is handled.

        It is made of name, inode, size and time of change: handle the file without changing it.
        """
        status = os.stat(self.path)
        return f"{self.name}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"

    @property
    def token(self) -> int:
        """The fencing token of the term."""
        return _token(self.term)

    @property
    def lost(self) -> Flag:
        """Set as soon as the term is to end: see `Term.lost`."""
        return self.term.lost

    def check(self) -> None:
        """Return if the file may still be handled now.

        Raises:
            LeadershipLost: the term is over.
        """
        self.term.check()


class Filing:
    """The workload, and its settings."""

    keeps = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        handler: Callable[..., Any],
        pace: Pace,
        *,
        awaits: bool,
        done: str | os.PathLike[str] | None = "done",
        failed: str | os.PathLike[str] = "failed",
        order: str = "name",
        ignore: Sequence[str] = IGNORED,
        settle: str | float = "1s",
        retries: int = 3,
        backoff: str | float = "1s",
        errors: str = "log",
        durable: bool = True,
    ) -> None:
        """Check the settings.

        Args:
            path: the folder.
            handler: is called with a `File`.
            pace: how long to wait.
            awaits: whether the handler is a coroutine function.
            done: where to move what was handled, seen from `path`; None to delete it.
            failed: where to move what could not be handled; why is told in `NAME.error` beside it.
            order: "name", or "mtime" for the one that was changed first.
            ignore: patterns of names that are not taken; hidden ones never are.
            settle: for how long a file has to stand still before it is taken.
            retries: how often a file is tried again, before it is put aside.
            backoff: the pause before the first retry; it doubles.
            errors: "log" to go on with the next file then; "raise" to end with the exception.
            durable: whether the folders are synchronised to the disk after each file.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        check_kind(handler, "Directory", awaits=awaits)
        self._inbox = Path(path).absolute()
        self._handler = handler
        self._pace = pace
        self._awaits = awaits
        self._done = None if done is None else self._inbox / done
        self._failed = self._inbox / failed
        self._order = order
        self._ignore = ignore
        self._settle_s = seconds_of(settle)
        self._retries = retries
        self._backoff_s = seconds_of(backoff)
        self._errors = check_errors(errors)
        self._durable = durable
        if not self._inbox.is_dir():
            raise ConfigError(f"{self._inbox} is no folder: make it, or name another one")
        if order not in ORDERS:
            raise ConfigError(f"order={order!r} must be {' or '.join(map(repr, ORDERS))}")
        if isinstance(ignore, str):
            raise ConfigError(f"ignore={ignore!r} must be a list of patterns")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ConfigError(f"retries={retries!r} must be a number from 0 on")
        if self._inbox in (self._done, self._failed):
            raise ConfigError("what was handled would be new again: name a folder other than '.'")
        refuse_elsewhere(self._inbox, self._inbox / ROOT, *self._targets())

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, which imports the handler by its name."""
        return {**self.__dict__, "_handler": named(self._handler)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive there."""
        self.__dict__.update(state)
        self._handler = resolved(self._handler)

    async def run(self, env: Env) -> None:
        """Handle files until the term ends."""
        root = self._inbox / ROOT / env.term.name
        claims = Claims(self._inbox, root, _token(env.term), env.term.check, durable=self._durable)
        try:
            for claim in await apart(claims.open, *self._targets()):
                await self._handle(env, claims, claim)
            await self._watch(env, claims)
        except _NO_FAULT_OF_THE_FILE:
            with suppress(LeadershipLost, StaleToken, ConfigError):
                await apart(claims.leave)
            raise

    def _targets(self) -> list[Path]:
        return [folder for folder in (self._done, self._failed) if folder is not None]

    async def _watch(self, env: Env, claims: Claims) -> None:
        arrivals = Arrivals(
            self._inbox, order=self._order, ignore=self._ignore, settle_s=self._settle_s
        )
        idle = 0
        with Bell(self._inbox) as bell:
            while True:
                bell.silence()
                ready, soon_s = await apart(arrivals.ready, env.clock.now())
                for name in ready:
                    claim = await self._with_room(env, name, "claimed", claims.claim, name)
                    if claim is not None:
                        await self._handle(env, claims, claim)
                idle = 0 if ready or soon_s is not None else idle + 1
                if not ready:
                    wait_s = self._pace.wait_s(max(1, idle))
                    await bell.wait(env.clock, wait_s if soon_s is None else min(wait_s, soon_s))

    async def _handle(self, env: Env, claims: Claims, begun: Claim) -> None:
        """Handle one file until it is in hand no more."""
        claim: Claim | None = begun
        while claim is not None:
            if claim.strikes > self._retries + 1:
                text = f"it was begun {claim.attempt - 1} times, and never came to its end\n"
                await self._put_aside(env, claims, claim, text)
                return
            file = File(env.term, claim)
            outcome = await called(env, self._handler, file, awaits=self._awaits)
            if outcome.error is None:
                await self._finished(env, claims, claim, self._done)
            if outcome.ending:
                raise asyncio.CancelledError
            if outcome.error is None:
                return
            told = isinstance(outcome.error, HandlingFailed)
            logger.error(
                "%r could not be handled (attempt %d): %s",
                str(self._inbox / file.name),
                claim.attempt,
                outcome.error if told else said(outcome.error),
                exc_info=None if told else outcome.error,
            )
            if claim.strikes > self._retries:
                lines = traceback.format_exception(outcome.error)
                text = f"{outcome.error}\n" if told else "".join(lines)
                await self._put_aside(env, claims, claim, text)
                if self._errors == "raise":
                    raise outcome.error
                return
            await env.clock.sleep(self._pause_s(claim.strikes))
            claim = await self._with_room(env, file.name, "tried again", claims.again, claim)

    async def _finished(
        self, env: Env, claims: Claims, claim: Claim, into: Path | None, *beside: str
    ) -> Path | None:
        """Move it; while that fails, it is not handled once more but moved once more."""
        failures = 0
        while True:
            try:
                return await apart(claims.finish, claim, into, *beside)
            except OSError as error:
                failures += 1
                logger.error("%r cannot be moved to %r: %s", str(claim.path), str(into), error)
                await env.clock.sleep(self._pause_s(failures))

    async def _with_room(
        self, env: Env, name: str, what: str, step: Callable[[T], Claim | None], arg: T
    ) -> Claim | None:
        """Take a step; while its disk has no room, nothing was changed, and it is taken again."""
        failures = 0
        while True:
            try:
                return await apart(step, arg)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                failures += 1
                if failures == 1:
                    text = "%r is not %s, for there is no room on its disk: %s; this waits for it"
                    logger.error(text, name, what, error.strerror)
                await env.clock.sleep(max(_LEAST_PAUSE_S, self._pause_s(failures)))

    def _pause_s(self, failures: int) -> float:
        return min(self._backoff_s * 2.0 ** min(failures - 1, 60), LONGEST_BACKOFF_S)

    async def _put_aside(self, env: Env, claims: Claims, claim: Claim, text: str) -> None:
        """Move it to what has failed; why is told beside it, if there is room for it."""
        target = await self._finished(env, claims, claim, self._failed, ERROR)
        if target is None:
            return
        logger.error("%r was put aside", str(target))
        with suppress(OSError):
            await apart(_write_new, _reason_of(target), text)


def _reason_of(target: Path) -> Path:
    """Return where it is told why a file has failed; a long name is cut."""
    name, most = os.fsencode(target.name), LONGEST_NAME_BYTES - len(ERROR)
    cut = target.name if len(name) <= most else name[:most].decode(errors="ignore")
    return target.with_name(f"{cut}{ERROR}")


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there; a text that is no UTF-8 is escaped."""
    with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _token(term: Term) -> int:
    if term.token is None:
        raise ConfigError(
            f"the election {term.name!r} has no fencing tokens, by which claims are told apart: "
            'choose another store, and require="token" to be told at the start'
        )
    return term.token


def options(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of `Filing` among them, and the rest."""
    known = set(signature(Filing).parameters) - {"path", "handler", "pace", "awaits"}
    own = {key: value for key, value in settings.items() if key in known}
    return own, {key: value for key, value in settings.items() if key not in known}
