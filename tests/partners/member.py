"""One member of a lock, theirs or ours: a process that contends from its start to its end.

The lines
---------
A member writes one JSON object a line, with an `event` and the instant `at` of the machine's
monotonic clock, in seconds (`time.monotonic()` in Python, `System.nanoTime() / 1e9` in Java: the
same clock). The events:

- `waiting`: it has looked at, or asked for, the lock and does not hold it;
- `holding`: from here on it believes that it holds; `token` is its fencing token, if it has one;
- `beat`: it still believes so, or did when it began what it has just done; every tenth of a second;
- `stopped`: it believes so no longer. Said before anything is given up.

SIGTERM asks it to give the lock up in order, and to end. SIGKILL is a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.speaker import Event, Speaker

ROOT = Path(__file__).resolve().parents[2]


class Member(Speaker):
    """A member that runs `command`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            name,
            command,
            log_path=folder / f"{name}.log",
            capture_output=True,
            environment=environment,
            working_dir=ROOT,
        )

    def leave(self, timeout_s: float) -> list[Event]:
        """Let it give up the lock in order, and return everything that it said."""
        self.terminate()
        return self.wait_ended(timeout_s)

    def crash(self, timeout_s: float) -> list[Event]:
        """End it at once, and return everything that it said."""
        self.kill()
        return self.wait_ended(timeout_s)
