"""A holder that lives but cannot work gives way.

A lease that is renewed proves that the keeper's thread runs, nothing more: a leader whose work has
got stuck, or has lost its database, would hold its election for ever. So the work may come with a
check. It is asked at intervals, on threads of its own, while a term lasts; after so many failures
in a row the candidate steps down: the work is stopped, then the lease released.

An answer that does not come in time is a failure. A check that raises is one too.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutine
from typing import Any

from incumbent.errors import ConfigError
from incumbent.runtime.settings import expect_number

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

    Raises:
        ConfigError: some of it cannot work.
    """

    check: Callable[[], Any]
    every_s: float = 5.0
    timeout_s: float = 5.0
    failures: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not callable(self.check):
            raise ConfigError(f"check={self.check!r} must be a function, called without arguments")
        for name, value, least in (
            ("every_s", self.every_s, 0.0),
            ("timeout_s", self.timeout_s, 0.0),
            ("failures", self.failures, 1),
        ):
            expect_number(value, name)
            if not least <= value < math.inf:
                raise ConfigError(f"{name}={value!r} must be a finite number, at least {least:g}")


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
                answer = self._ask(self._health.check)
                if iscoroutine(answer):
                    answer.close()  # Made and never awaited it would look like a yes.
                    raise TypeError("it is asynchronous: use incumbent.aio.Election")
                answers.append("" if answer else "it said no")
            except BaseException as error:
                answers.append(repr(error))

        asker = threading.Thread(target=ask, name="incumbent-health-check", daemon=True)
        asker.start()
        asker.join(self._health.timeout_s)
        return answers[0] if answers else f"no answer within {self._health.timeout_s:g} s"
