"""A replica of a spread in a process of its own, which leaves marks for `tests.faults.checker`.

    python -m tests.workloads.replica GROUP FOLDER WORKER ELECTIONS threads|asyncio

The store and the TTL come from the environment. Each work marks in `FOLDER/ELECTION.log` for as
long as it believes in its term, and says on standard output when it begins (`+ ELECTION`) and ends
(`- ELECTION`); each request to hand over is a line, too (`rebalance`). SIGTERM stops the replica.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import incumbent
from incumbent import aio
from incumbent.runtime.term import Term
from tests.faults.mark import mark, open_log

EVERY_S = 0.02


class Marks:
    """What the work of one term leaves behind."""

    def __init__(self, folder: str, worker: int, term: Term) -> None:
        self._log = open_log(str(Path(folder) / f"{term.name}.log"))
        self._worker = worker
        self._term = term

    def __enter__(self) -> Marks:
        say("+", self._term.name)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._log)
        say("-", self._term.name)

    def make(self) -> None:
        """Make one, if the term is trusted."""
        self._term.check()
        mark(self._log, self._term.token or 0, os.getpid(), self._worker)


def say(*words: object) -> None:
    """Write a line, in one piece: many threads do."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def observe(sighting: incumbent.Sighting) -> None:
    """Tell of what is moved."""
    if sighting.event == "rebalance":
        say("rebalance", sighting.name)


def main(arguments: list[str]) -> None:
    group, folder, worker, elections, face = arguments
    names = [f"{group}-e{number}" for number in range(int(elections))]

    def in_thread(term: incumbent.Term) -> None:
        with Marks(folder, int(worker), term) as marks:
            while not term.lost.wait(EVERY_S):
                marks.make()

    async def in_task(term: aio.Term) -> None:
        with Marks(folder, int(worker), term) as marks:
            while True:
                await asyncio.sleep(EVERY_S)  # sleep: one mark each time is the work
                marks.make()

    if face == "threads":
        threads = incumbent.Spread(group, names, in_thread, observer=observe)
        signal.signal(signal.SIGTERM, lambda *_: threads.stop())
        threads.run()
    else:
        tasks = aio.Spread(group, names, in_task, observer=observe)
        signal.signal(signal.SIGTERM, lambda *_: tasks.stop())
        asyncio.run(tasks.run())


if __name__ == "__main__":
    main(sys.argv[1:])
