"""Whole workloads on real servers under a nemesis, judged by their rows and logs.

    python -m tests.work --kind consumer --source redis --items 10000
    python -m tests.work --kind periodic --source every --items 500 --rounds 20 --seed 7
    python -m tests.work --kind consumer --source postgresql --raw --planted unsealed

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
from pathlib import Path
from types import FrameType

from tests.work import checker, raw
from tests.work.nemesis import FAULTS, Plan, run
from tests.work.sources import SOURCES


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.work", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", choices=SOURCES, default="consumer")
    names = sorted({name for known in SOURCES.values() for name in known})
    parser.add_argument("--source", choices=names, help="[the first of its kind]")
    parser.add_argument("--items", type=int, default=10_000, help="items, or ticks [10000]")
    parser.add_argument("--rounds", type=int, default=20, help="of the nemesis [20]")
    parser.add_argument("--seed", type=int, help="repeats the plan of a run")
    parser.add_argument("--ttl", type=float, default=2.0, metavar="S")
    parser.add_argument("--store", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--every-ms", type=int, default=500, help="between ticks [500]")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=[], metavar="FAULT")
    parser.add_argument("--min-takeovers", type=int, metavar="N", help="[a third of the rounds]")
    parser.add_argument("--late", type=float, default=90.0, metavar="S", help="fails a run [90]")
    parser.add_argument("--poison", type=int, default=0, metavar="N", help="every Nth item [none]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all logs in a new folder")
    parser.add_argument("--raw", action="store_true", help="the consumer that is written by hand")
    parser.add_argument("--planted", choices=raw.PLANTED, default="", help="a mistake in it")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    source = options.source or next(iter(SOURCES[options.kind]))
    if source not in SOURCES[options.kind]:
        known = ", ".join(SOURCES[options.kind])
        print(f"error: a {options.kind} has one of {known}", file=sys.stderr)
        return 2
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    plan = Plan(
        options.kind,
        source,
        options.items,
        options.rounds,
        seed,
        ttl_s=options.ttl,
        every_ms=options.every_ms if source != "cron" else 1000,
        store=options.store,
        faults=tuple(options.faults),
        raw=options.raw or bool(options.planted),
        planted=options.planted,
        late_s=options.late,
        poison=options.poison,
    )

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="incumbent-work-"))).resolve()
    print(f"seed {seed}, {plan.kind} {plan.source}, {plan.items} in {plan.rounds} rounds")
    outcome = run(plan, folder, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    least = options.rounds // 3 if options.min_takeovers is None else options.min_takeovers
    status = checker.main([str(folder), "--min-takeovers", str(least)])
    for failure in outcome.failures:
        print(f"FAILED: {failure}")
    print(f"{outcome.took_s:.0f} s")
    if status == 0 and not outcome.failures and not options.keep:
        shutil.rmtree(folder)
    else:
        print(f"the logs are in {folder}")
    return status or int(bool(outcome.failures))


if __name__ == "__main__":
    sys.exit(main())
