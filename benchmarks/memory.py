"""What `incumbent run` weighs beside the command that it wraps.

All processes of it together while it holds and idles: the wrapper, the init of the tree, the
warden; the command itself left out. RSS counts shared pages in each process again, PSS divides them
among all that share them, other programs on the machine included; so the truth for a container lies
between the two. Taken some renewals after the command has started.

As PID 1 of a container (a PID namespace, here) there is one process more. That needs the right to
make one; where it is missing the report says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import EventProcess, descendants, memory_mib
from benchmarks.report import Report, Row, Target, distribution, percentile

NAME = "memory"
TITLE = "resident memory of `incumbent run`, without its command"

LIMITS_MIB = {"sqlite": 45.0, "kubernetes": 60.0}
_INCUMBENT = str(Path(sys.executable).with_name("incumbent"))
_COMMAND = ["sh", "-c", """echo '{"event": "started"}'; exec sleep 600"""]
_SETTLE_S = 8.0
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Weight:
    """The processes of one wrapper, parents first: name, RSS and PSS in MiB."""

    parts: list[tuple[str, float, float]]

    @property
    def rss_mib(self) -> float:
        """The sum of the resident sets."""
        return sum(rss for _, rss, _ in self.parts)

    @property
    def pss_mib(self) -> float:
        """The sum of the proportional shares."""
        return sum(pss for _, _, pss in self.parts)


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    rounds = bench.many(5, 2)
    namespace = bench.namespace()
    kubeconfig = str(bench.server.kubeconfig())
    urls = {
        "sqlite": f"sqlite://{bench.dir / 'memory.db'}",
        "kubernetes": f"kubernetes://{namespace}",
    }
    weights: dict[tuple[str, bool], list[Weight]] = {}
    for number in range(rounds):
        bench.progress(f"memory: {number} of {rounds}")
        with ExitStack() as stack:
            started = {
                (store, pid1): _start(bench, stack, store, url, kubeconfig, pid1=pid1)
                for store, url in urls.items()
                for pid1 in (False, True)
            }
            held = {key: process for key, process in started.items() if process is not None}
            time.sleep(_SETTLE_S)
            for key, process in held.items():
                weights.setdefault(key, []).append(_weigh(process, pid1=key[1]))
            for key, process in held.items():
                # `unshare` does not pass signals on: ask the one below it.
                os.kill(descendants(process.pid)[1 if key[1] else 0], signal.SIGTERM)
            for process in held.values():
                process.wait(_LIMIT_S)
    for (store, pid1), found in weights.items():
        who = f"{store}, as PID 1" if pid1 else store
        rss = [weight.rss_mib for weight in found]
        pss = [weight.pss_mib for weight in found]
        report.rows.append(distribution("RSS, all processes", who, "MiB", rss))
        report.rows.append(distribution("PSS, all processes", who, "MiB", pss))
        for position, (part, _, _) in enumerate(found[0].parts):
            rss_mib = percentile([w.parts[position][1] for w in found], 0.5)
            pss_mib = percentile([w.parts[position][2] for w in found], 0.5)
            report.rows.append(
                Row(f"  {part}", who, "MiB", len(found), rss_mib, against=f"PSS {pss_mib:.1f}")
            )
        if not pid1:
            text = f"RSS on {store}, p50"
            report.targets.append(Target(text, percentile(rss, 0.5), LIMITS_MIB[store], "MiB"))
    if not any(pid1 for _, pid1 in weights):
        report.notes.append("as PID 1: not measured, this user may not make a PID namespace")
    return report


def _start(
    bench: Bench, stack: ExitStack, store: str, url: str, kubeconfig: str, *, pid1: bool
) -> EventProcess | None:
    name = f"memory-{store}-{'pid1' if pid1 else 'plain'}"
    command = [_INCUMBENT, "run", "--quiet", name, f"--store={url}", "--", *_COMMAND]
    if pid1:
        unshare = shutil.which("unshare")
        if unshare is None:
            return None
        command = [unshare, "--pid", "--fork", "--kill-child", *command]
    process = EventProcess(
        name, _absolute(command), bench.dir / "logs" / f"{name}.log", {"KUBECONFIG": kubeconfig}
    )
    process.start()
    stack.callback(process.kill)
    try:
        process.wait_for("started", _LIMIT_S)
    except RuntimeError:
        if pid1 and "Operation not permitted" in process.log_tail():
            return None
        raise
    return process


def _absolute(command: list[str]) -> list[str]:
    return [shutil.which(command[0]) or command[0], *command[1:]]


def _weigh(process: EventProcess, *, pid1: bool) -> Weight:
    """Weigh a wrapper and what descends from it, without the command and `unshare`."""
    parts: list[tuple[str, float, float]] = []
    for pid in descendants(process.pid)[1 if pid1 else 0 :]:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if Path(words[0]).name == "sleep":
            continue
        of_tree = "-S" in words  # the program of a tree is a bare interpreter, `-I -S`
        named = "init or warden of the tree" if of_tree else "wrapper"
        if pid1 and not parts:
            named = "PID 1"
        parts.append((f"{len(parts) + 1}. {named}", *memory_mib(pid)))
    return Weight(parts)
