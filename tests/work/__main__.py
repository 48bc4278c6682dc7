"""Whole workloads on real servers under a nemesis, judged by their rows and logs.

    python -m tests.work --kind consumer --source redis --items 10000
    python -m tests.work --kind periodic --source every --items 500 --rounds 20 --seed 7
    python -m tests.work --kind consumer --source postgresql --raw --planted unsealed
    python -m tests.work --all

Exit status 0 only if nothing was lost, twice, out of order or stale, and the nemesis had its
takeovers. The logs of a run that failed are kept.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.work import checker, raw
from tests.work.nemesis import FAULTS, Plan, run
from tests.work.sources import SOURCES

TICKS = 500
_COLUMNS = ("produced", "committed", *checker.Report.FINDINGS, "dead", "takeovers")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.work", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--all", action="store_true", help="every kind and source")
    parser.add_argument("--kind", choices=SOURCES, default="consumer")
    names = sorted({name for known in SOURCES.values() for name in known})
    parser.add_argument("--source", choices=names, help="[the first of its kind]")
    parser.add_argument("--items", type=int, help="[10000; 500 ticks]")
    parser.add_argument("--rounds", type=int, default=20, help="of the nemesis [20]")
    parser.add_argument("--seed", type=int, help="repeats the plan of a run")
    parser.add_argument("--replicas", type=int, default=3, metavar="N", help="[3]")
    parser.add_argument("--ttl", type=float, default=2.0, metavar="S")
    parser.add_argument("--store", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--every-ms", type=int, default=500, help="between ticks [500]")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=[], metavar="FAULT")
    parser.add_argument("--min-takeovers", type=int, metavar="N", help="[a quarter of the rounds]")
    parser.add_argument("--late", type=float, default=90.0, metavar="S", help="fails a run [90]")
    parser.add_argument("--poison", type=int, default=0, metavar="N", help="every Nth item [none]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all logs in a new folder")
    parser.add_argument("--raw", action="store_true", help="the consumer that is written by hand")
    parser.add_argument("--planted", choices=raw.PLANTED, default="", help="a mistake in it")
    options = parser.parse_args(arguments)
    if options.source is not None and options.source not in SOURCES[options.kind]:
        parser.error(f"a {options.kind} has one of {', '.join(SOURCES[options.kind])}")
    return options


def plans_of(options: argparse.Namespace) -> Iterator[Plan]:
    """Yield all that is to be done, in order."""
    chosen = (
        [(kind, source) for kind, known in SOURCES.items() for source in known]
        if options.all
        else [(options.kind, options.source or next(iter(SOURCES[options.kind])))]
    )
    for kind, source in chosen:
        yield Plan(
            kind,
            source,
            options.items or (TICKS if kind == "periodic" else 10_000),
            options.rounds,
            options.seed,
            replicas=options.replicas,
            ttl_s=options.ttl,
            every_ms=1000 if source == "cron" else options.every_ms,
            store=options.store,
            faults=tuple(options.faults),
            raw=options.raw or bool(options.planted),
            planted=options.planted,
            late_s=options.late,
            poison=options.poison if kind == "consumer" else 0,
        )


def _row(plan: Plan, report: checker.Report, verdict: str, took_s: float) -> list[str]:
    counts = [str(report.counts()[name]) for name in _COLUMNS]
    rounds = str(sum(report.faults.values()))
    return [plan.kind, plan.source, *counts, rounds, f"{took_s:.0f}", verdict]


def _table(rows: list[list[str]]) -> str:
    head = ["kind", "source", *(name.replace("_", " ") for name in _COLUMNS)]
    lines = [[*head, "rounds", "s", "verdict"], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.seed is None:
        options.seed = secrets.randbelow(1 << 32)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    base = (options.keep or Path(tempfile.mkdtemp(prefix="incumbent-work-"))).resolve()
    least = options.rounds // 4 if options.min_takeovers is None else options.min_takeovers
    rows, good = [], True
    for plan in plans_of(options):
        folder = base / f"{plan.kind}-{plan.source}"
        print(f"{plan.kind} {plan.source}: {plan.items} in {plan.rounds} rounds, seed {plan.seed}")
        outcome = run(plan, folder, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
        status = checker.main([str(folder), "--min-takeovers", str(least)])
        for text in outcome.ended:
            print(text)
        for failure in outcome.failures:
            print(f"FAILED: {failure}", flush=True)
        report = checker.judge(folder)
        verdict = report.verdict(least) if not outcome.failures else "FAILED"
        rows.append(_row(plan, report, verdict, outcome.took_s))
        exact = status == 0 and not outcome.failures
        good = good and exact
        if exact and not options.keep:
            shutil.rmtree(folder)
        else:
            print(f"the logs are in {folder}", flush=True)
    print(_table(rows))
    if good and not options.keep:
        shutil.rmtree(base)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
