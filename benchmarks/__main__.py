"""`python -m benchmarks`: everything that this project claims to be fast or small, measured."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from rich.console import Console

from benchmarks import (
    check,
    ending,
    failover,
    handover,
    load,
    many,
    memory,
    neighbours,
    overhead,
    standby,
)
from benchmarks.bench import Bench
from benchmarks.processes import ROOT, now_ns
from benchmarks.report import Report, machine, write_docs
from benchmarks.stores import acquire, crash, steady
from benchmarks.stores import handover as handover_stores
from benchmarks.stores.kinds import NAMES, PROGRAMS
from tests.servers.build import ETCD_VERSION, KUBERNETES_VERSION, BuildError, ensure

MODULES: tuple[ModuleType, ...] = (
    check,
    overhead,
    memory,
    handover,
    failover,
    standby,
    load,
    ending,
    many,
    acquire,
    handover_stores,
    crash,
    steady,
)
STORES = {acquire, handover_stores, crash, steady}
DOCS = ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 1 with `--strict` if a target was missed."""
    options = _options(arguments)
    chosen = [module for module in MODULES if not options.only or module.NAME in options.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=None if sys.stdout.isatty() else 140)
    head = f"{machine()}; kube-apiserver {KUBERNETES_VERSION}, etcd {ETCD_VERSION} without fsync"
    if options.quick:
        head += "; QUICK: few rounds"
    console.print(head, highlight=False)
    reports: list[Report] = []
    started_ns = now_ns()
    try:
        for program in ("kube-apiserver", "clientgo-candidate", "clientgo-raw", *PROGRAMS):
            ensure(program)
        if STORES & set(chosen):
            neighbours.interpreter()
        with Bench(quick=options.quick, stores=options.stores) as bench:
            for module in chosen:
                began_ns = now_ns()
                report: Report = module.run(bench)
                report.took_s = (now_ns() - began_ns) / 1e9
                reports.append(report)
                report.show(console)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if options.json and reports:
            _write_json(options.json, head, reports, quick=options.quick)
    targets = [(report, target) for report in reports for target in report.targets]
    for report, target in targets:
        console.print(f"{report.name}: {target}", highlight=False, markup=False)
    missed = sum(not target.reached for _, target in targets)
    took_s = (now_ns() - started_ns) / 1e9
    summary = f"{len(targets) - missed} of {len(targets)} targets reached, {took_s:.0f} s"
    console.print(summary, highlight=False)
    if options.write_docs:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        write_docs(DOCS, f"{day}: {head}.\n\n**{summary}.**", reports)
    return 1 if missed and options.strict else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    names = [module.NAME for module in MODULES]
    for option, known in (("--only", names), ("--stores", list(NAMES))):
        parser.add_argument(
            option,
            nargs="+",
            action="extend",
            choices=known,
            metavar="NAME",
            default=[],
            help=", ".join(known),
        )
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--write-docs", action="store_true", help="write them into docs/ as well")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args(arguments)
    if options.write_docs and (options.only or options.stores):
        parser.error(
            "--write-docs writes all results anew, so it takes neither --only nor --stores: what "
            "is not measured would be lost from docs/benchmarks.md"
        )
    return options


def _write_json(path: Path, head: str, reports: Sequence[Report], *, quick: bool) -> None:
    data = {"machine": head, "quick": quick, "benchmarks": [r.as_json() for r in reports]}
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
