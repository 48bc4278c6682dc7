"""A candidate that marks while it believes that it holds.

    python -m tests.faults.worker ELECTION LOG WORKER [--isolate] [--stubborn | --deaf]

The store and the TTL come from the environment (INCUMBENT_STORE, INCUMBENT_TTL). What happens to
the candidate is written to standard error, a line each.

An honest worker stops as soon as it is told to. A *stubborn* one does not listen and goes on for as
long as `term.check()` lets it: that is allowed, and uses up the last microsecond of the trust. A
*deaf* one is the planted mistake: it asks nobody, has no dead-man, and stops 50 ms after it was
told to. The checker must find it out. With `--isolate` the work runs in a child process.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import incumbent
from tests.faults.mark import EVERY_S, mark, open_log

DEAF_S = 0.05


@dataclass(frozen=True, slots=True)
class Work:
    """What a holder does; it may have to travel to another process."""

    kind: str
    path: str
    worker: int

    def __call__(self, term: incumbent.Term) -> None:
        log, pid = open_log(self.path), os.getpid()

        def act() -> None:
            mark(log, term.token or 0, pid, self.worker)

        try:
            _KINDS[self.kind](term, act)
        finally:
            os.close(log)


def _honest(term: incumbent.Term, act: Callable[[], None]) -> None:
    while not term.lost.wait(EVERY_S):
        term.check()
        act()


def _stubborn(term: incumbent.Term, act: Callable[[], None]) -> None:
    never = threading.Event()
    while not never.wait(EVERY_S):
        term.check()
        act()


def _deaf(term: incumbent.Term, act: Callable[[], None]) -> None:
    never = threading.Event()
    told_at: float | None = None
    while told_at is None or time.monotonic() < told_at + DEAF_S:
        act()
        never.wait(EVERY_S)
        if told_at is None and term.lost.is_set():
            told_at = time.monotonic()


_KINDS = {"honest": _honest, "stubborn": _stubborn, "deaf": _deaf}


def say(sighting: incumbent.Sighting) -> None:
    """Write to standard error what a candidate sees."""
    print(
        f"{time.clock_gettime(time.CLOCK_BOOTTIME):.6f}",
        sighting.event,
        sighting.text,
        file=sys.stderr,
        flush=True,
    )


def main(arguments: list[str]) -> None:
    name, path, number, *flags = arguments
    kind = next((kind for kind in _KINDS if f"--{kind}" in flags), "honest")
    # By its name in the module, and not in the program, so that another process finds it.
    work = importlib.import_module("tests.faults.worker").Work(kind, path, int(number))
    election = incumbent.Election(name, observer=say)
    election.lead(work, deadman=kind != "deaf", isolate="--isolate" in flags)


if __name__ == "__main__":
    main(sys.argv[1:])
