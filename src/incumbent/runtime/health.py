"""A holder that lives but cannot work gives way.

A lease that is renewed proves that the keeper's thread runs, nothing more: a leader whose work has
got stuck, or has lost its database, would hold its election for ever. So the work may come with a
check. It is asked at intervals, on threads of its own, while a term lasts; after so many failures
in a row the candidate steps down: the work is stopped, then the lease released.

An answer that does not come in time is a failure. A check that raises is one too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Health", "HealthMonitor"]


@dataclass(frozen=True, slots=True)
class Health:
    """How the work is known to be well.

    Attributes:
        check: returns whether the work is well; anything false, an exception or silence is a
            failure. With `aio` it may be a coroutine function.
        every_s: seconds from one answer to the next question.
        timeout_s: seconds after which silence is a failure.
        failures: how many in a row make the candidate step down.
    """

    check: Callable[[], Any]
    every_s: float = 5.0
    timeout_s: float = 5.0
    failures: int = 3


class HealthMonitor:
    """Asks for the health of one term's work until `stop`."""

    def __init__(
        self,
        health: Health,
        on_sick: Callable[[str], None],
        ask: Callable[[Callable[[], Any]], Any] = lambda check: check(),
    ) -> None:
        self._health = health
        self._on_sick = on_sick
        self._ask = ask
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="incumbent-health", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _watch(self) -> None:
        failures = 0
        while not self._stopped.wait(self._health.every_s):
            failure = self._failure()
            failures = failures + 1 if failure else 0
            if failures >= self._health.failures and not self._stopped.is_set():
                self._on_sick(f"the health check failed {failures} times: {failure}")
                return

    def _failure(self) -> str:
        """Ask once; return what is wrong, or ""."""
        answers: list[str] = []

        def ask() -> None:
            try:
                answers.append("" if self._ask(self._health.check) else "it said no")
            except BaseException as error:
                answers.append(repr(error))

        asker = threading.Thread(target=ask, name="incumbent-health-check", daemon=True)
        asker.start()
        asker.join(self._health.timeout_s)
        return answers[0] if answers else f"no answer within {self._health.timeout_s:g} s"
