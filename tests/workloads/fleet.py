"""Replicas of a spread in processes of their own: some are ended, all is counted.

    python -m tests.workloads.fleet sqlite:///tmp/x.db --elections 30

prints who has how many after each step, how many handovers that took, and what the checker says of
the marks that every work left.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import IO

from tests.faces.programs import LIMIT_S, environment
from tests.faults.checker import Report, judge_all

__all__ = ["Fleet", "play"]


class Fleet:
    """The processes, and what they said."""

    def __init__(self, url: str, folder: Path, elections: int, *, ttl_s: float, group: str) -> None:
        self._url = url
        self._folder = folder
        self._elections = elections
        self._ttl_s = ttl_s
        self._group = group
        self._changed = threading.Condition()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._held: dict[str, set[str]] = {}
        self.asked = 0

    def start(self, label: str, face: str = "threads") -> None:
        """Start a replica."""
        settings = {
            "INCUMBENT_STORE": self._url,
            "INCUMBENT_TTL": str(self._ttl_s),
            "INCUMBENT_IDENTITY": label,
        }
        worker = str(len(self._threads) + 1)
        arguments = [self._group, str(self._folder), worker, str(self._elections), face]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.workloads.replica", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(settings),
        )
        self._held[label] = set()
        self._processes[label] = process
        reading = threading.Thread(target=self._read, args=(label, process.stdout))
        reading.start()
        self._threads.append(reading)

    def end(self, label: str, number: signal.Signals) -> None:
        """Kill a replica, or have it stop or stand still, and wait for its end.

        One that stands still is ended by the kernel's timer, if it holds anything.
        """
        process = self._processes.pop(label)
        process.send_signal(number)
        process.wait(LIMIT_S)
        with self._changed:
            del self._held[label]
            self._changed.notify_all()

    def until_even(self) -> None:
        """Wait until every election has a holder, and no replica more than its share."""

        def even() -> bool:
            loads = self.loads.values()
            return sum(loads) == self._elections and max(loads) - min(loads) <= 1

        with self._changed:
            assert self._changed.wait_for(even, 4 * LIMIT_S), self.loads

    @property
    def loads(self) -> dict[str, int]:
        return {label: len(names) for label, names in sorted(self._held.items())}

    def close(self) -> None:
        for label in list(self._processes):
            self.end(label, signal.SIGTERM)
        for thread in self._threads:
            thread.join(LIMIT_S)

    def kill(self) -> None:
        """End whatever is left, in whatever way."""
        for process in self._processes.values():
            process.kill()
            process.wait(LIMIT_S)

    def _read(self, label: str, lines: IO[str] | None) -> None:
        assert lines is not None
        with lines:
            for line in lines:
                what, name = line.split()
                with self._changed:
                    held = self._held.get(label, set())
                    if what == "+":
                        held.add(name)
                    elif what == "-":
                        held.discard(name)
                    else:
                        self.asked += 1
                    self._changed.notify_all()


def play(
    url: str, folder: Path, elections: int, *, ttl_s: float = 3.0, group: str = "group"
) -> tuple[list[str], Report]:
    """Play it, and return what was seen after each step, and what the marks say."""
    fleet = Fleet(url, folder, elections, ttl_s=ttl_s, group=group)
    told: list[str] = []

    def settled(step: str) -> None:
        before = fleet.asked
        fleet.until_even()
        loads = " ".join(f"{label}={load}" for label, load in fleet.loads.items())
        told.append(f"{step:<40} {loads:<24} handovers asked for: {fleet.asked - before}")

    try:
        fleet.start("a")
        fleet.start("b", "asyncio")
        fleet.start("c")
        settled("three start")
        fleet.end("a", signal.SIGKILL)
        settled("one is killed")
        fleet.end("b", signal.SIGTERM)
        settled("one is stopped")
        fleet.start("d")
        settled("one more starts")
        fleet.start("e", "asyncio")
        settled("another one starts")
        fleet.end("c", signal.SIGSTOP)
        settled("one is paused, and ended by its kernel")
        fleet.close()
    finally:
        fleet.kill()
    return told, judge_all(folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AsWritten)
    parser.add_argument("store", help="its URL")
    parser.add_argument("--elections", type=int, default=30)
    parser.add_argument("--ttl", type=float, default=3.0, help="in seconds")
    parser.add_argument("--group", default=f"group-{os.getpid()}")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        told, report = play(
            given.store, Path(folder), given.elections, ttl_s=given.ttl, group=given.group
        )
    kinds = Counter(mistake.split(":")[0] for mistake in report.violations)
    sys.stdout.write("\n".join([*told, ""]))
    sys.stdout.write(
        f"{report.marks} marks of {report.holdings} terms, {report.takeovers} takeovers; "
        f"overlaps {len(report.overlaps)}, stale {len(report.stale)}, "
        f"mistakes of tokens {len(report.token_mistakes)}\n"
    )
    return 1 if kinds or report.damaged else 0


_AsWritten = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
