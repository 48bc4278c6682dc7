"""Faults against real servers and real processes, and the judgement on what was done meanwhile.

    python -m tests.faults
    python -m tests.faults --promise --results promise.jsonl
    python -m tests.faults --store sqlite --mode library --faults kill stop --rounds 1000 --seed 7

Exit status 0 only if no holding overlapped another, nobody worked under an old token, every round
had its takeover, and nothing was left behind. The logs of cells that failed are kept. A run that
was interrupted goes on where it was if it is given the same --results again.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.faults import freezer
from tests.faults.nemesis import FAULTS, MODES, Cell, run
from tests.faults.results import Document, OtherRun, Results, is_limit, row, table
from tests.faults.stores import ADAPTERS
from tests.processes import namespaces_permitted

PR_SET_CHILD_SUBREAPER = 36
EVERYTHING = {"store": list(ADAPTERS), "mode": list(MODES), "faults": list(FAULTS), "rounds": 200}
PROMISE = {
    "store": ["sqlite", "kubernetes"],
    "mode": ["library", "command", "pid1"],
    "faults": ["kill", "stop", "step-down"],
    "rounds": 200,
}
"""The matrix that the promise was made with."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options, those that are not given filled in; the seed may stay open."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", nargs="+", action="extend", choices=ADAPTERS)
    parser.add_argument("--mode", nargs="+", action="extend", choices=MODES)
    parser.add_argument(
        "--faults",
        nargs="+",
        action="extend",
        choices=FAULTS,
        metavar="FAULT",
        help=", ".join(FAULTS),
    )
    parser.add_argument("--rounds", type=int, help="of each cell [200]")
    words = "; ".join(
        " ".join(map(str, value)) for value in PROMISE.values() if isinstance(value, list)
    )
    parser.add_argument(
        "--promise",
        action="store_true",
        help=f"what is not given is not everything, but: {words}; {PROMISE['rounds']} rounds",
    )
    parser.add_argument("--seed", type=int, help="repeats the plan of a run")
    parser.add_argument("--parallel", type=int, default=6, help="elections side by side [6]")
    parser.add_argument(
        "--ttl", type=float, metavar="S", help="[the shortest that the store allows]"
    )
    parser.add_argument(
        "--json", action="store_true", help="the results as JSON on standard output"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="a line of JSON for each finished cell; what stands there already is not run again",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all logs in a new folder")
    parser.add_argument(
        "--deaf", action="store_true", help="plant the mistake that the checker has to find"
    )
    options = parser.parse_args(arguments)
    options.chosen = options.faults
    for name, value in (PROMISE if options.promise else EVERYTHING).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """Return all that is to be done, in order."""
    return [
        Cell(
            store,
            mode,
            fault,
            rounds=options.rounds,
            seed=options.seed,
            parallel=options.parallel,
            ttl_s=options.ttl or ADAPTERS[store].least_ttl_s,
            deaf=options.deaf,
        )
        for store in options.store
        for mode in options.mode
        for fault in options.faults
        if fault in ADAPTERS[store].faults and (mode != "library" or not fault.endswith("-wrapper"))
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(place: str, cell: Cell, started_s: float) -> Callable[[int, int], None]:
    said = 0

    def progress(done: int, total: int) -> None:
        nonlocal said
        tenth = 10 * done // total
        if tenth != said:
            said = tenth
            spent_s = time.monotonic() - started_s
            _say(
                f"  {place} {cell.store} {cell.mode} {cell.fault}: {done} of {total} rounds, "
                f"{spent_s:.0f} s"
            )

    return progress


def _run_all(
    cells: list[Cell], results: Results, options: argparse.Namespace, folder: Path
) -> None:
    """Run what is not in the results yet, store by store."""
    todo = [cell for cell in cells if not results.has(cell)]
    if len(todo) < len(cells):
        _say(f"{len(cells) - len(todo)} of {len(cells)} cells stand in {results.path} already")
    for store in dict.fromkeys(cell.store for cell in todo):
        adapter = ADAPTERS[store](folder / store)
        try:
            adapter.start()
            for cell in [cell for cell in todo if cell.store == store]:
                place = f"[{len(cells) - len(todo) + todo.index(cell) + 1}/{len(cells)}]"
                logs = folder / f"{store}-{cell.mode}-{cell.fault}"
                result = run(
                    cell,
                    adapter,
                    logs,
                    threading.Event(),
                    _progress(place, cell, time.monotonic()),
                    adapter.processes,
                )
                document = results.add(result)
                cost = f"{result.took_s:.0f} s, the machine {result.busy:.0%} busy"
                _say(f"{place} {' '.join(row(document))} ({cost})")
                for kind in ("violations", "damaged", "failures"):
                    for line in document[kind]:
                        _say(f"  {line}")
                if document["verdict"] == "ok" and not options.keep:
                    shutil.rmtree(logs)
        finally:
            adapter.stop()


LIMIT = (
    "a tree that is frozen as a whole thaws as a whole, and works for as long as the kernel needs "
    "to deliver one SIGKILL (column `woke`); only a fencing token closes that"
)


def _show(documents: list[Document], options: argparse.Namespace) -> None:
    if documents:
        print(json.dumps(documents, indent=1) if options.json else table(documents), flush=True)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if any(fault.startswith("freeze") for fault in options.faults) and (why := freezer.why_not()):
        if options.chosen:
            _say(f"error: {why}")
            return 2
        _say(f"left out: freeze ({why})")
        options.faults = [fault for fault in options.faults if not fault.startswith("freeze")]
    if "pid1" in options.mode and not namespaces_permitted():
        _say("error: pid1 needs the right to make PID namespaces, by util-linux's `unshare`")
        return 2
    # What a worker leaves behind becomes a child of ours, and so is found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    # The workers' working folder is another.
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="incumbent-faults-"))).resolve()
    results = Results(options.results or folder / "results.jsonl")
    if options.seed is None:
        options.seed = secrets.randbelow(1 << 32) if results.seed is None else results.seed
    cells = cells_of(options)
    _say(f"seed {options.seed}, {len(cells)} cells")
    try:
        _run_all(cells, results, options, folder)
    except OtherRun as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _show(results.documents, options)
        _say(f"interrupted; to go on: --results {results.path}; the logs are in {folder}")
        return 130
    finally:
        results.close()
    limits = list(filter(is_limit, results.documents))
    for document in limits:
        _say(f"known limit, not counted: {document['plan']['mode']} freeze: {LIMIT}")
    counted = [document for document in results.documents if document not in limits]
    good = bool(results.documents) and all(document["verdict"] == "ok" for document in counted)
    _show(results.documents, options)
    if good and not options.keep:
        shutil.rmtree(folder)
    else:
        _say(f"the logs are in {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
