"""How much later a command starts under `incumbent run`.

From just before the process is made (`incumbent run … -- CMD`, or the bare CMD) to the first
instruction of CMD, which stamps the clock. The overhead is what the wrapped one takes longer than
the median of the bare one; both are started in turns. CMD is a bare Python interpreter, whose own
start is in both and falls out.

Warm: the election exists and is vacant, as it is when somebody has left in order; on Kubernetes an
absent Lease would be waited out for a TTL. What could bias it: the page cache is warm, and an
editable installation finds its modules a little later than an installed one.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import now_ns
from benchmarks.report import Report, Target, distribution, percentile

NAME = "overhead"
TITLE = "start of a command under `incumbent run`, against the bare command"

LIMIT_MS = 200.0
_STAMP = "import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME))"
_COMMAND = [sys.executable, "-I", "-S", "-c", _STAMP]
_INCUMBENT = str(Path(sys.executable).with_name("incumbent"))
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Start:
    """One run, in milliseconds: until CMD's stamp, from it to the exit, and CPU time of it all."""

    before_ms: float
    after_ms: float
    cpu_ms: float


def start(command: list[str], environment: dict[str, str]) -> Start:
    """Run a command that prints a stamp."""
    cpu_s = _cpu_s()
    started_ns = now_ns()
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, timeout=_LIMIT_S, check=True, text=True
    )
    ended_ns = now_ns()
    stamp_ns = int(done.stdout)
    return Start(
        (stamp_ns - started_ns) / 1e6, (ended_ns - stamp_ns) / 1e6, (_cpu_s() - cpu_s) * 1e3
    )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    rounds = bench.many(60, 10)
    namespace = bench.namespace()
    environment = {**os.environ, "KUBECONFIG": str(bench.server.kubeconfig())}
    urls = {
        "sqlite": f"sqlite://{bench.dir / 'overhead.db'}",
        "kubernetes": f"kubernetes://{namespace}",
    }
    wrapped = {
        store: [_INCUMBENT, "run", "--quiet", "overhead", f"--store={url}", "--", *_COMMAND]
        for store, url in urls.items()
    }
    bare: list[Start] = []
    runs: dict[str, list[Start]] = {store: [] for store in urls}
    for store, command in wrapped.items():
        bench.progress(f"overhead: warming {store}")
        start(command, environment)
    for number in range(rounds):
        bench.progress(f"overhead: {number} of {rounds}", at_once=False)
        bare.append(start(_COMMAND, environment))
        for store, command in wrapped.items():
            runs[store].append(start(command, environment))
    bare_ms = [run.before_ms for run in bare]
    usual_ms = percentile(bare_ms, 0.5)
    report.rows.append(distribution("exec to CMD", "bare", "ms", bare_ms))
    report.rows.append(distribution("CPU time", "bare", "ms", [run.cpu_ms for run in bare]))
    for store, started in runs.items():
        who = f"incumbent, {store}"
        over_ms = [run.before_ms - usual_ms for run in started]
        for what, values in (
            ("exec to CMD", [run.before_ms for run in started]),
            ("overhead", over_ms),
            ("CMD to exit", [run.after_ms for run in started]),
            ("CPU time, all of it", [run.cpu_ms for run in started]),
        ):
            report.rows.append(distribution(what, who, "ms", values))
        if store == "sqlite":
            for share in (0.5, 0.95):
                text = f"overhead on {store}, p{share * 100:.0f}"
                report.targets.append(Target(text, percentile(over_ms, share), LIMIT_MS, "ms"))
    report.notes.append("CPU time tells what is ours on a busy machine; it has CMD's own in it")
    return report
