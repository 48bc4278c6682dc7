"""The simulator's command: many histories, or one of them in full.

    python -m incumbent.testing.simulator --histories 1000 --seed 0 --processes 2
    python -m incumbent.testing.simulator --replay 42

It exits with 1 if a rule was broken. What it prints of a failure is the seed, and the seed is all
that is needed to see it again, with the same sources and the same Python.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from incumbent.testing.simulator.history import Outcome
from incumbent.testing.simulator.stores import STORES, simulate

__all__ = ["Tally", "main"]

_CHUNK = 25
_SHOWN = 10


class Tally:
    """What came of many histories."""

    def __init__(self) -> None:
        self.histories = 0
        self.void = 0
        self.tampered = 0
        self.rolled_back = 0
        self.excused = 0
        self.takeovers = 0
        self.terms = 0
        self.steps = 0
        self.slowest = 0.0
        self.faults: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.violations: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Count one history."""
        self.histories += 1
        self.void += outcome.void
        self.tampered += outcome.tampered
        self.rolled_back += outcome.rolled_back
        self.excused += outcome.excused
        self.takeovers += outcome.takeovers
        self.terms += outcome.terms
        self.steps += outcome.steps
        self.faults += outcome.faults
        self.messages += outcome.messages
        if outcome.rule:
            self.violations.append(outcome)
        elif not outcome.rolled_back:
            self.slowest = max(self.slowest, outcome.recovery)

    def summary(self, elapsed_s: float) -> dict[str, Any]:
        """Return everything as values for JSON."""
        return {
            "histories": self.histories,
            "histories_per_s": round(self.histories / max(elapsed_s, 1e-9), 1),
            "void": self.void,
            "tampered": self.tampered,
            "rolled_back": self.rolled_back,
            "excused": self.excused,
            "takeovers": self.takeovers,
            "terms": self.terms,
            "steps": self.steps,
            "slowest_recovery_ttls": round(self.slowest, 2),
            "faults": dict(self.faults.most_common()),
            "messages": dict(self.messages.most_common()),
            "violations": [
                {"seed": outcome.seed, "rule": outcome.rule, "text": outcome.text}
                for outcome in self.violations
            ],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parse(arguments)
    if options.replay is not None:
        return _replay(options.replay, options.store)
    started = time.monotonic()
    tally = Tally()
    seeds = range(options.seed, options.seed + options.histories)
    next_report = 5.0
    for outcome in _outcomes(seeds, options.store, options.processes):
        tally.add(outcome)
        elapsed_s = time.monotonic() - started
        if elapsed_s >= next_report and not options.json:
            next_report = elapsed_s + 5.0
            _say(
                f"{tally.histories} of {options.histories} histories, "
                f"{tally.histories / elapsed_s:.0f}/s, {len(tally.violations)} violations"
            )
    summary = tally.summary(time.monotonic() - started)
    if options.json:
        _say(json.dumps(summary, indent=2))
    else:
        _report(summary, options.store)
    return 1 if tally.violations else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m incumbent.testing.simulator",
        description="Run elections against twins of clock, kernel, network and store.",
    )
    parser.add_argument("--histories", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first history")
    parser.add_argument("--processes", type=int, default=1, metavar="P")
    parser.add_argument("--store", choices=sorted(STORES), default="memory")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print this history in full")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def _outcomes(seeds: range, store: str, processes: int) -> Iterator[Outcome]:
    work = partial(simulate, store=store)
    if processes <= 1:
        yield from map(work, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(work, seeds, chunksize=_CHUNK)


def _replay(seed: int, store: str) -> int:
    outcome = simulate(seed, store=store, transcript=True)
    for line in outcome.transcript:
        _say(line)
    verdict = outcome.text or ("void: too little happened" if outcome.void else "no violation")
    _say(f"seed {seed}: {verdict}")
    return 1 if outcome.rule else 0


def _report(summary: dict[str, Any], store: str) -> None:
    _say(
        f"{summary['histories']} histories of the {store} store, "
        f"{summary['histories_per_s']:g} per second"
    )
    _say(
        f"{summary['void']} void; {summary['tampered']} with records tampered with, "
        f"{summary['rolled_back']} with a store that went back in time "
        f"({summary['excused']} excused from some rules)"
    )
    _say(
        f"{summary['terms']} terms, {summary['takeovers']} takeovers; slowest recovery after the "
        f"last fault: {summary['slowest_recovery_ttls']} TTL"
    )
    _say("faults    " + _counts(summary["faults"]))
    _say("messages  " + _counts(summary["messages"]))
    violations = summary["violations"]
    for violation in violations[:_SHOWN]:
        _say(f"VIOLATION seed {violation['seed']}: {violation['text']}")
        _say(f"          see it with --store {store} --replay {violation['seed']}")
    _say(f"{len(violations)} violations")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _say(line: str) -> None:
    print(line, flush=True)  # print: a development command


if __name__ == "__main__":
    sys.exit(main())
