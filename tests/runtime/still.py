"""Candidates on a clock that stands still until the test moves it: what several tests need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from incumbent.core import events as ev
from incumbent.core.records import Snapshot
from incumbent.runtime.term import Term


class Listener:
    """Work that stops when the test says so."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self.stops: list[tuple[ev.Why, float]] = []
        self.stuck_ones: list[str] = []

    def begun(self, term: Term) -> None:
        self.terms.append(term)

    def stop(self, term: Term, why: ev.Why, cause: str, deadline: float) -> None:
        self.stops.append((why, deadline))

    def stuck(self, term: Term, cause: str) -> None:
        self.stuck_ones.append(cause)

    def waiting(self, snapshot: Snapshot, until: float) -> None:
        pass

    def note(self, code: str, text: str) -> None:
        assert code != "bug", text

    def closed(self) -> None:
        pass


class Alarm:
    def __init__(self, instant: float, callback: Callable[[], object]) -> None:
        self.instant = instant
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def ring(self) -> None:
        callback, self.callback = self.callback, None
        assert callback is not None
        callback()


class StillClock:
    """The clock, and the alarms that were set on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._alarms: list[Alarm] = []

    def call_at(self, instant: float, callback: Callable[[], object]) -> Alarm:
        self._alarms.append(Alarm(instant, callback))
        return self._alarms[-1]

    def _due(self, instant: float) -> list[Alarm]:
        return [a for a in self._alarms if a.callback and a.instant <= instant]

    def jump(self, instant: float) -> None:
        """Move the clock at once; all that is due by then is called, and nothing that follows."""
        self.now = instant
        for alarm in self._due(instant):
            alarm.ring()

    async def to(self, instant: float) -> None:
        """Move the clock, from one alarm to the next, and let happen what follows of each."""
        while due := self._due(instant):
            alarm = min(due, key=lambda alarm: alarm.instant)
            self.now = max(self.now, alarm.instant)
            alarm.ring()
            await settle()
        self.now = instant
        await settle()


async def settle() -> None:
    """Let everything happen that waits for nothing but its turn."""
    for _ in range(50):
        await asyncio.sleep(0)  # sleep: a turn of the loop
