"""Shows what a partition makes of one active process, on a cluster of two nodes on this machine.

    python -m tests.cluster                          one cut, three modes side by side
    python -m tests.cluster --cause api --mode active-standby
    python -m tests.cluster --all                    every cause and mode, for `make faults`
    python -m tests.cluster --live evidence          a crash, beside client-go; also: silence,
                                                     rolling, drain, asked, operator
    python -m tests.cluster --shell                  a cluster to try things on, until Enter

The picture is written to `--picture` (one file for each cause). The exit status is 1 if anything
came otherwise than expected.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.causes import CAUSES
from tests.cluster.cluster import Cluster, running
from tests.cluster.expected import Finding, judge
from tests.cluster.fakecluster import PLAYED_CAUSES, played_cluster
from tests.cluster.picture import svg
from tests.cluster.rounds import Round, play
from tests.cluster.stage import Stage
from tests.cluster.timeline import Live, strips
from tests.cluster.workloads import AT_LEAST, AT_MOST, MODES, STANDBY
from tests.servers.build import BuildError
from tests.servers.process import ServerError

LIVE = ("evidence", "silence", "rolling", "drain", "asked", "operator")
SHOWN = (AT_LEAST, AT_MOST, STANDBY)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    causes = given.cause or (sorted(_possible(given)) if given.all else ["cut"])
    if given.played and given.cause is None and not given.all:
        causes = ["api"]
    modes = [mode for mode in MODES if mode in (given.mode or (MODES if given.all else SHOWN))]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        with _stage(given) as stage:
            if given.shell:
                _wait(stage)
                return 0
            if given.live:
                return 0 if all(_live(stage, name, given) for name in given.live) else 1
            outcomes = [_show(stage, cause, modes, given) for cause in causes]
    except (BuildError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if all(outcomes) else 1


def _possible(given: Any) -> set[str]:
    return set(PLAYED_CAUSES) if given.played else set(CAUSES)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--cause", action="append", choices=CAUSES, help="what is done")
    parser.add_argument("--mode", action="append", choices=MODES, help="what is deployed")
    parser.add_argument("--all", action="store_true", help="every cause, every mode")
    parser.add_argument("--played", action="store_true", help="local processes play the nodes")
    parser.add_argument("--evidence", action="store_true", help="standbys hear of deaths, too")
    parser.add_argument(
        "--live", nargs="+", action="extend", choices=LIVE, help="what users of the active see"
    )
    parser.add_argument("--rounds", type=int, help="of --live, fewer or more than usual")
    parser.add_argument("--shell", action="store_true", help="keep the cluster until Enter")
    parser.add_argument("--picture", type=Path, default=Path("build/cluster"), help="a folder")
    parser.add_argument("--keep", action="store_true", help="keep logs and disks of the nodes")
    return parser


@contextlib.contextmanager
def _stage(given: Any) -> Iterator[Stage]:
    started_s = time.monotonic()
    if given.played:
        with played_cluster() as played:
            yield played
        return
    with running(keep=given.keep, evidence=given.evidence) as cluster:
        seconds = time.monotonic() - started_s
        print(f"two nodes are Ready after {seconds:.1f} s; {cluster.folder}", flush=True)
        yield cluster


def _show(stage: Stage, name: str, modes: Sequence[str], given: Any) -> bool:
    cause = CAUSES[name]
    print(f"\n== {name}: {cause.title}\n", flush=True)
    live = Live()
    try:
        played = play(stage, cause, modes, live.say, live.look)
    finally:
        live.close()
    findings = judge(played)
    print()
    for line in strips(played):
        print(line)
    print()
    for finding in findings:
        print(f"{'ok  ' if finding.met else 'NOT '} {finding.mode:16} {finding.text}")
    print(f"\npicture: {_draw(played, findings, given.picture)}", flush=True)
    return all(finding.met for finding in findings)


def _draw(played: Round, findings: list[Finding], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{played.cause.name}.svg"
    path.write_text(svg(played, findings), encoding="utf-8")
    return path


def _live(stage: Stage, name: str, given: Any) -> bool:
    if not isinstance(stage, Cluster):
        raise ServerError("--live is for real nodes: leave out --played")
    print(f"\n== {name}\n", flush=True)
    show: Callable[[Cluster, int | None], bool]
    show = importlib.import_module(f"tests.cluster.live.{name}").show
    return show(stage, given.rounds)


def _wait(stage: Stage) -> None:
    print(f"export KUBECONFIG={stage.kubeconfig}\nEnter ends the cluster", flush=True)
    if isinstance(stage, Cluster):
        print(f"in its network: nsenter --net=/proc/{stage.network_pid}/ns/net -- …", flush=True)
    with contextlib.suppress(EOFError):
        os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    raise SystemExit(main())
