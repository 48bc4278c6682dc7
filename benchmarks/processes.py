"""The processes of a benchmark: started, read, told to hand over, killed; none outlives the run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers.process import ChildProcess, ServerError

__all__ = [
    "ROOT",
    "Event",
    "EventProcess",
    "cpu_s",
    "descendants",
    "family_cpu_s",
    "memory_mib",
    "now_ns",
    "python",
]

ROOT = Path(__file__).resolve().parents[1]
Event = dict[str, Any]


def now_ns() -> int:
    """Return the boot-time clock, which all processes of a host share."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class EventProcess(ChildProcess):
    """A process that writes one JSON line an event."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        log_path: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            name,
            command,
            log_path=log_path,
            environment=environment,
            working_dir=ROOT,
            capture_output=True,
        )
        self._events: list[Event] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start the process and read what it says."""
        self.spawn()
        self._reader = threading.Thread(target=self._read, name=self.name, daemon=True)
        self._reader.start()

    def mark(self) -> int:
        """Return how many events there are, to wait only for later ones."""
        with self._changed:
            return len(self._events)

    def since(self, mark: int = 0, kind: str = "") -> list[Event]:
        """Return the events after a mark, of one kind or of all."""
        with self._changed:
            return [e for e in self._events[mark:] if not kind or e["event"] == kind]

    def last(self, kind: str) -> Event | None:
        """Return the latest event of a kind."""
        with self._changed:
            return next((e for e in reversed(self._events) if e["event"] == kind), None)

    def wait_for(
        self,
        kind: str,
        timeout_s: float,
        *,
        mark: int = 0,
        where: Callable[[Event], bool] = lambda event: True,
    ) -> Event:
        """Return the first event of a kind after a mark, waiting until there is one."""
        deadline_s = time.monotonic() + timeout_s
        position = mark
        with self._changed:
            while True:
                while position < len(self._events):
                    event = self._events[position]
                    position += 1
                    if event["event"] == kind and where(event):
                        return event
                remaining_s = deadline_s - time.monotonic()
                if self._ended or remaining_s <= 0:
                    reason = "it ended" if self._ended else f"not within {timeout_s} s"
                    raise ServerError(
                        f"{self.name}: no event {kind!r}, {reason}; the last ones: "
                        f"{self._events[-5:]}\n{self.log_tail()}"
                    )
                self._changed.wait(remaining_s)

    def signal(self, number: signal.Signals) -> int:
        """Send a signal; return the instant just before."""
        pid, at_ns = self.pid, now_ns()
        os.kill(pid, number)
        return at_ns

    def kill_now(self) -> int:
        """Kill the process and read what it had said; return the instant just before."""
        at_ns = self.signal(signal.SIGKILL)
        self.kill()
        self.drain()
        return at_ns

    def drain(self) -> None:
        """Return when everything that the ended process had said is read."""
        if self._reader is not None:
            self._reader.join(5.0)

    def _read(self) -> None:
        with self.output as output:
            for line in output:
                event = json.loads(line)
                with self._changed:
                    self._events.append(event)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of the programs."""
    return [sys.executable, "-m", f"benchmarks.programs.{module}", *arguments]


def descendants(root: int) -> list[int]:
    """Return a process and all that descend from it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parent = int(text.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(sorted(children.get(pid, ())))
    return found


def memory_mib(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process, and its proportional share of shared pages."""
    rss = pss = 0.0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "Rss":
            rss = int(rest.split()[0]) / 1024
        elif name == "Pss":
            pss = int(rest.split()[0]) / 1024
    return rss, pss


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used."""
    return sum(_ticks(pid)[:2]) / os.sysconf("SC_CLK_TCK")


def family_cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU time of processes, and of the children that the first has buried."""
    ticks = sum(_ticks(pids[0])) if pids else 0
    for pid in pids[1:]:
        with suppress(FileNotFoundError):  # It has ended meanwhile: its parent tells.
            ticks += sum(_ticks(pid)[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> list[int]:
    """Return the time in user and in system mode: its own, and that of children it has buried."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return [int(word) for word in text.rpartition(")")[2].split()[11:15]]
