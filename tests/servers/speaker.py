"""A process that tells on its standard output what happens to it, one JSON object a line.

The lines are read by a thread as they come, so `wait_for` blocks until the event is there or its
deadline has passed, and never sleeps in hope.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.servers.process import ChildProcess, ServerError

Event = dict[str, Any]


class Speaker(ChildProcess):
    """`start` starts it, `terminate` asks it to end, `kill` ends it.

    It has to be made with `capture_output=True`.
    """

    _events: list[Event]
    _ended = True
    _changed: threading.Condition

    def start(self) -> None:
        """Start the process; the events of an earlier one are forgotten."""
        self.spawn()
        self._changed = threading.Condition()
        self._events = []
        self._ended = False
        threading.Thread(
            target=self._read_events, args=(self._events,), name=self.name, daemon=True
        ).start()

    @property
    def events(self) -> list[Event]:
        """The events so far, in the order in which they were written."""
        with self._changed:
            return list(self._events)

    def all(self, event: str) -> list[Event]:
        """The events of one kind."""
        return [found for found in self.events if found["event"] == event]

    def wait_for(
        self,
        event: str,
        timeout_s: float,
        *,
        where: Callable[[Event], bool] = lambda event: True,
        count: int = 1,
    ) -> Event:
        """Return the `count`th event of a kind that satisfies `where`, waiting until there is one.

        Raises:
            ServerError: there is none in time, or the process ended without.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = [e for e in self._events if e["event"] == event and where(e)]
                if len(found) >= count:
                    return found[count - 1]
                remaining_s = deadline_s - time.monotonic()
                if self._ended or remaining_s <= 0:
                    reason = "it ended" if self._ended else f"not within {timeout_s} s"
                    raise ServerError(
                        f"{self.name}: no event {event!r}, {reason}; "
                        f"got {self._events}\n{self.log_tail()}"
                    )
                self._changed.wait(remaining_s)

    def wait_ended(self, timeout_s: float) -> list[Event]:
        """Return everything that was said, once the process has ended and all of it is read."""
        self.wait(timeout_s)
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended, timeout_s):
                raise ServerError(f"{self.name} has ended, and its output has not")
            return list(self._events)

    def _read_events(self, events: list[Event]) -> None:
        with self.output as output:
            for line in output:
                event = json.loads(line)
                with self._changed:
                    events.append(event)
                    self._changed.notify_all()
        with self._changed:
            if events is self._events:
                self._ended = True
                self._changed.notify_all()
