"""Faults against real servers and real processes, and the judgement on what was done meanwhile.

    python -m tests.faults
    python -m tests.faults --store sqlite --mode library --faults kill stop --rounds 1000 --seed 7

Exit status 0 only if no holding overlapped another, nobody worked under an old token, every round
had its takeover, and nothing was left behind. The logs of a run that failed are kept.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.faults import freezer
from tests.faults.fleet import unshare_works
from tests.faults.nemesis import FAULTS, MODES, Cell, Result, run
from tests.faults.stores import ADAPTERS

PR_SET_CHILD_SUBREAPER = 36
COLUMNS = "store mode fault rounds takeovers overlap stale woke p50 p95 max survivors verdict"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", nargs="+", choices=ADAPTERS, default=list(ADAPTERS))
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument(
        "--faults", nargs="+", choices=FAULTS, metavar="FAULT", help=", ".join(FAULTS)
    )
    parser.add_argument("--rounds", type=int, default=200, help="of each cell [200]")
    parser.add_argument("--seed", type=int, help="repeats the plan of a run")
    parser.add_argument("--parallel", type=int, default=6, help="elections side by side [6]")
    parser.add_argument(
        "--ttl", type=float, metavar="S", help="[the shortest that the store allows]"
    )
    parser.add_argument(
        "--json", action="store_true", help="the results as JSON on standard output"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all logs in a new folder")
    parser.add_argument(
        "--deaf", action="store_true", help="plant the mistake that the checker has to find"
    )
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbelow(1 << 32)
    return options


def _cells(options: argparse.Namespace, store: str) -> Iterator[Cell]:
    adapter = ADAPTERS[store]
    for mode in options.mode:
        for fault in options.faults or adapter.faults:
            if fault in adapter.faults and (mode != "library" or not fault.endswith("-wrapper")):
                yield Cell(
                    store,
                    mode,
                    fault,
                    rounds=options.rounds,
                    seed=options.seed,
                    parallel=options.parallel,
                    ttl_s=options.ttl or adapter.least_ttl_s,
                    deaf=options.deaf,
                )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(cell: Cell, said: list[int], done: int, total: int) -> None:
    tenth = 10 * done // total
    if tenth != said[0]:
        said[0] = tenth
        _say(f"  {cell.store} {cell.mode} {cell.fault}: {done} of {total} rounds")


def _row(result: Result) -> list[str]:
    cell, report = result.cell, result.report
    milliseconds = [f"{report.gap_ns(share) / 1e6:.1f}" for share in (0.5, 0.95, 1.0)]
    overlap, woke = (
        f"{amount_ns / 1e6:.3f}" if report.overlaps else "0"
        for amount_ns in (report.overlap_ns, result.woke_ns)
    )
    return [
        cell.store,
        cell.mode,
        cell.fault,
        str(result.rounds),
        str(report.takeovers),
        overlap,
        str(report.stale_marks),
        woke,
        *milliseconds,
        str(result.survivors),
        result.verdict,
    ]


def table(results: list[Result]) -> str:
    """Return the final table; times are milliseconds.

    `overlap` is the greatest amount; `woke` how long the worst of those who overlapped went on
    after the end of his pause; p50, p95 and max are the gaps of the takeovers; `survivors` are
    those who lived on after a pause or cut.
    """
    rows = [COLUMNS.split(), *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < 3 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _document(result: Result) -> dict[str, object]:
    cell, report = result.cell, result.report
    return {
        "store": cell.store,
        "mode": cell.mode,
        "fault": cell.fault,
        "ttl_s": cell.ttl_s,
        "seed": cell.seed,
        "rounds": result.rounds,
        "takeovers": report.takeovers,
        "marks": report.marks,
        "overlaps": len(report.overlaps),
        "overlap_ns": report.overlap_ns,
        "stale_marks": report.stale_marks,
        "token_mistakes": len(report.token_mistakes),
        "woke_ns": result.woke_ns,
        "survivors": result.survivors,
        "gap_p50_ns": report.gap_ns(0.5),
        "gap_p95_ns": report.gap_ns(0.95),
        "gap_max_ns": report.gap_ns(1.0),
        "verdict": result.verdict,
        "violations": report.violations,
        "failures": result.failures,
        "took_s": round(result.took_s, 1),
    }


def _run_store(
    options: argparse.Namespace, store: str, folder: Path, stop: threading.Event
) -> Iterator[Result]:
    cells = list(_cells(options, store))
    if not cells:
        return
    adapter = ADAPTERS[store](folder / store)
    try:
        adapter.start()
        for cell in cells:
            result = run(
                cell,
                adapter,
                folder / f"{store}-{cell.mode}-{cell.fault}",
                stop,
                functools.partial(_progress, cell, [0]),
                adapter.processes,
            )
            _say(f"{' '.join(_row(result))} ({result.took_s:.0f} s)")
            for line in (*result.report.violations, *result.report.damaged, *result.failures):
                _say(f"  {line}")
            yield result
    finally:
        adapter.stop()


LIMIT = (
    "a tree that is frozen as a whole thaws as a whole, and works for as long as the kernel needs "
    "to deliver one SIGKILL (column `woke`); only a fencing token closes that"
)


def _is_limit(result: Result) -> bool:
    """Tell whether this is the one cell that is published as broken, and broken in no other way."""
    published = result.cell.fault == "freeze" and result.cell.mode in ("command", "pid1")
    return published and result.verdict == "VIOLATED" and not result.failures


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    faults = options.faults or list(FAULTS)
    if any(fault.startswith("freeze") for fault in faults) and (why := freezer.why_not()):
        if options.faults:
            _say(f"error: {why}")
            return 2
        _say(f"left out: freeze ({why})")
        options.faults = [fault for fault in faults if not fault.startswith("freeze")]
    if "pid1" in options.mode and not unshare_works():
        _say("error: pid1 needs the right to make PID namespaces, by util-linux's `unshare`")
        return 2
    # What a worker leaves behind becomes a child of ours, and so is found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    stop = threading.Event()
    # The workers' working folder is another.
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="incumbent-faults-"))).resolve()
    results: list[Result] = []
    _say(f"seed {options.seed}")
    try:
        for store in options.store:
            results += _run_store(options, store, folder, stop)
    except KeyboardInterrupt:
        _say(f"interrupted; the logs are in {folder}")
        return 130
    limits = [result for result in results if _is_limit(result)]
    for result in limits:
        _say(f"known limit, not counted: {result.cell.mode} {result.cell.fault}: {LIMIT}")
    counted = [result for result in results if result not in limits]
    good = bool(results) and all(result.verdict == "ok" for result in counted)
    if results:
        print(json.dumps([*map(_document, results)], indent=1) if options.json else table(results))
    if good and not options.keep:
        shutil.rmtree(folder)
    else:
        _say(f"the logs are in {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
