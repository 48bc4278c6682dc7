"""Times `Term.check()` in a process that holds a real term, whose keeper goes on renewing it.

Prints one line: for each of the calls, nanoseconds per call in each of the rounds. The rounds go
around, so that a change of the machine's pace hits all alike. The loop that calls is part of each.
"""

from __future__ import annotations

import argparse
import threading
import time
import timeit

from benchmarks.programs.stamps import tell
from incumbent.runtime.term import Term
from incumbent.sync import Election


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--calls", type=int, default=200_000)
    options = parser.parse_args()

    def measure(term: Term) -> None:
        names = {"term": term, "event": threading.Event(), "time": time, "f": lambda: None}
        calls = {
            "term.check()": "term.check()",
            "clock_gettime_ns(CLOCK_BOOTTIME)": "time.clock_gettime_ns(time.CLOCK_BOOTTIME)",
            "lambda: None": "f()",
            "threading.Event.is_set()": "event.is_set()",
        }
        timers = {name: timeit.Timer(call, globals=names) for name, call in calls.items()}
        took_ns: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(options.rounds):
            for name, timer in timers.items():
                took_ns[name].append(timer.timeit(options.calls) / options.calls * 1e9)
        tell("timed", took_ns=took_ns)

    Election("check", store=options.store).lead(measure)


if __name__ == "__main__":
    main()
