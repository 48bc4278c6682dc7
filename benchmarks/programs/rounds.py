"""What ours costs without a rival: batches of acquire and release, one for each USR1.

`--way hold` enters and leaves `Election.hold()`: what users write, and what a neighbour's lock is
compared with. Each time a candidate is made, looks, takes, releases and withdraws.

`--way stay` is one candidate that stays one: whenever it is elected, its work has ended already. So
from one term to the next lie a release and a take, through the whole runtime, and nothing else:
what the raw requests are compared with.

Event: `batch`, with `took_ms`; the first round of each, which may have to connect, is not in it.
"""

from __future__ import annotations

import argparse
import queue
import signal
from collections.abc import Callable

from benchmarks.programs.stamps import now_ns, tell
from incumbent import Election
from incumbent.runtime.candidacy import Candidacy
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term

TTL_S = 6.0
"""No term here lasts long; but a newcomer to an election that is absent waits for a TTL."""
_LIMIT_S = 30.0


class Staying(Candidacy):
    """A candidate whose work ends at once, as often as it is let."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._left = 0
        self._at_ns: list[int] = []
        self._idle: queue.SimpleQueue[Term] = queue.SimpleQueue()

    def go_round(self, count: int) -> list[float]:
        """Go through so many terms; return what each change took, in milliseconds."""
        term = self._idle.get(timeout=_LIMIT_S)
        self._left, self._at_ns = count, [now_ns()]
        self.work_ended(term)
        self._idle.put(self._idle.get(timeout=_LIMIT_S))
        both = zip(self._at_ns, self._at_ns[1:], strict=False)
        return [(after - before) / 1e6 for before, after in both]

    def on_elected(self, term: Term) -> None:
        if not self._left:
            self._idle.put(term)
            return
        self._at_ns.append(now_ns())
        self._left -= 1
        if self._left:
            self.work_ended(term)
        else:
            self._idle.put(term)


def stay(store: str) -> Callable[[int], list[float]]:
    candidate = Staying(Settings.resolve("stay", store=store, ttl_s=TTL_S))
    candidate.start()
    return candidate.go_round


def hold(store: str) -> Callable[[int], list[float]]:
    election = Election("hold", store=store, ttl_s=TTL_S)

    def go_round(count: int) -> list[float]:
        took_ms = []
        for _ in range(count):
            began_ns = now_ns()
            with election.hold() as term:
                term.check()
            took_ms.append((now_ns() - began_ns) / 1e6)
        return took_ms

    return go_round


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--way", choices=("hold", "stay"), required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    go_round = {"hold": hold, "stay": stay}[options.way](options.store)
    go_round(1)  # Connects, makes what must exist, and opens the session.
    tell("ready")
    while True:
        signal.sigwait({signal.SIGUSR1})
        tell("batch", took_ms=go_round(options.batch + 1)[1:])


if __name__ == "__main__":
    main()
