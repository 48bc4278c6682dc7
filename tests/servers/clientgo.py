"""A candidate that runs client-go's own leader election, for tests of interoperability.

The program is in `tests/clientgo`; its head describes the events. They are read by a thread as
they come, so `wait_for` blocks until the event is there or its deadline has passed, and never
sleeps in hope.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers import build
from tests.servers.process import ChildProcess, ServerError

Event = dict[str, Any]


class ClientGoCandidate(ChildProcess):
    """One candidate process; `start` starts it, `terminate` asks it to end, `kill` ends it."""

    def __init__(
        self,
        base_dir: Path,
        *,
        kubeconfig: Path,
        namespace: str,
        name: str,
        identity: str,
        lease_duration_s: float = 15.0,
        renew_deadline_s: float = 10.0,
        retry_period_s: float = 2.0,
        release_on_cancel: bool = False,
        marks_path: Path | None = None,
    ) -> None:
        command = [
            str(build.ensure("clientgo-candidate")),
            f"--kubeconfig={kubeconfig}",
            f"--namespace={namespace}",
            f"--name={name}",
            f"--id={identity}",
            f"--lease-duration={lease_duration_s}s",
            f"--renew-deadline={renew_deadline_s}s",
            f"--retry-period={retry_period_s}s",
            f"--release-on-cancel={str(release_on_cancel).lower()}",
        ]
        if marks_path is not None:
            command.append(f"--marks={marks_path}")
        self.identity = identity
        self._events: list[Event] = []
        self._ended = False
        self._changed = threading.Condition()
        super().__init__(
            f"client-go candidate {identity}",
            command,
            log_path=base_dir / f"clientgo-{identity}.log",
            capture_output=True,
        )

    def start(self) -> None:
        """Start the process; the events of an earlier one are forgotten."""
        self.spawn()
        with self._changed:
            self._events = []
            self._ended = False
        threading.Thread(
            target=self._read_events, args=(self._events,), name=self.name, daemon=True
        ).start()

    @property
    def events(self) -> list[Event]:
        """The events so far, in the order in which the candidate wrote them."""
        with self._changed:
            return list(self._events)

    def wait_for(
        self,
        event: str,
        timeout_s: float,
        *,
        where: Callable[[Event], bool] = lambda event: True,
    ) -> Event:
        """Return the first event of a kind that satisfies `where`, waiting until there is one."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for candidate in self._events:
                    if candidate["event"] == event and where(candidate):
                        return candidate
                remaining_s = deadline_s - time.monotonic()
                if self._ended or remaining_s <= 0:
                    reason = "it ended" if self._ended else f"not within {timeout_s} s"
                    raise ServerError(
                        f"{self.name}: no event {event!r}, {reason}; "
                        f"got {self._events}\n{self.log_tail()}"
                    )
                self._changed.wait(remaining_s)

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
