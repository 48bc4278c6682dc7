"""What work in the background does when it fails, and what it says of itself.

Nobody waits for what was started in the background, so nobody could be told of its failure. Rules:

1. What might pass is begun anew, after a pause that doubles from `FIRST_PAUSE_S` to
   `LONGEST_PAUSE_S`, and is short again after a run that lasted for longer than the pause.
2. What cannot pass (a setting that cannot work, a package that is missing) is not: the work has
   failed, and `stop` raises the reason.
3. Either is logged, and shown by `Work.standing` for as long as it is so.
4. A program may end while work in a thread has only just begun: then no thread is to be had, which
   is no failure of the work, and nobody's to read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from incumbent.errors import ConfigError, UnsupportedPlatform
from incumbent.runtime.face import Election
from incumbent.workloads.reason import said

__all__ = ["Pauses", "Standing", "interpreter_ends"]

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

logger = logging.getLogger("incumbent")


@dataclass(frozen=True, slots=True)
class Standing:
    """What work in the background is doing, for people and for health endpoints.

    Attributes:
        name: of its election.
        role: "leader", "standby", "failed" (it has ended, or waits to begin anew) or "stopped".
        token: the fencing token under which it leads, if it does.
        failure: why the last run of it ended, if that was an error: its kind, and what it says.
    """

    name: str
    role: str
    token: int | None = None
    failure: str = ""

    @classmethod
    def of(cls, election: Election, *, begun: bool, failure: BaseException | None) -> Standing:
        """Return that of work that was begun, or not, and how its last run failed, if it did."""
        if not begun:
            return cls(election.name, "stopped")
        text = "" if failure is None else said(failure)
        if election.leads:
            return cls(election.name, "leader", election.token, text)
        return cls(election.name, "failed" if text else "standby", None, text)


class Pauses:
    """How long to wait after each failure of one work."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self._name = name
        self._now = now
        self._pause_s = FIRST_PAUSE_S
        self._begun_at = now()

    def after(self, error: BaseException) -> float | None:
        """Return the seconds to wait after a run that ended so; None if it is not begun anew."""
        lasts = isinstance(error, (ConfigError, UnsupportedPlatform, TypeError))
        if lasts or not isinstance(error, Exception):
            logger.error(
                "the work %r has failed, and is not begun anew", self._name, exc_info=error
            )
            return None
        if self._now() - self._begun_at > self._pause_s:
            self._pause_s = FIRST_PAUSE_S
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        logger.error(
            "the work %r has failed, and is begun anew in %g s", self._name, pause_s, exc_info=error
        )
        self._begun_at = self._now() + pause_s
        return pause_s


def interpreter_ends(error: BaseException) -> bool:
    """Tell whether `error` says no more than that the interpreter is about to end."""
    if not isinstance(error, RuntimeError):
        return False
    return "interpreter shutdown" in str(error) or not threading.main_thread().is_alive()
