"""How long a command works on after its deadline, on a machine that has more to do than it can.

The last sign of the work, against the deadline (negative: it had just slept). For each processor
there are four busy processes, in a session of their own each, and six trees come to their end at
the same instant. Ours has the timer of `incumbent run` in the parent and the small init around the
command; beside it a plain parent that sleeps until the deadline and then kills. Once they are left
alone; once all but the command are stopped (SIGSTOP), where a plain parent never acts at all and
has no row.

What could bias it: the work writes every half millisecond when it has a processor, and a starved
one may not have had it for longer; so the lateness is what can be seen of it, at the least.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import python
from benchmarks.report import Report, Row, Target, distribution
from incumbent.core.timing import Timing
from tests.processes import children

NAME = "ending"
TITLE = "work of a command after its deadline, on a starved machine"

AFTER_S = 0.6
_BUSY_PER_CPU = 4
_AT_ONCE = 6
_LIMIT_S = 60.0
_SHORTEST_TTL_S = 1.0


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    batches = bench.many(10, 2)
    worst_ms: list[float] = []
    busy = _BUSY_PER_CPU * (os.cpu_count() or 1)
    with _busy(busy):
        for stopped, hows in ((False, ("pidns", "group", "plain")), (True, ("pidns", "group"))):
            what = "parent and init stopped" if stopped else "left alone"
            for how in hows:
                late_ms: list[float] = []
                for number in range(batches):
                    bench.progress(f"ending: {how}, {what}, {number} of {batches}", at_once=False)
                    late_ms += _batch(how, stopped=stopped)
                who = "plain parent" if how == "plain" else f"incumbent, {how}"
                report.rows.append(distribution(what, who, "ms", late_ms))
                if how == "pidns":
                    worst_ms.append(max(late_ms))
    timing = Timing.plan(_SHORTEST_TTL_S)
    room_ms = (timing.ttl_s - timing.validity_s) * 1e3
    text = f"TTL − W at a TTL of {_SHORTEST_TTL_S:g} s"
    report.rows.append(Row(text, "incumbent", "ms", 1, room_ms))
    report.targets.append(Target("slowest end in a PID namespace", max(worst_ms), 20.0, "ms"))
    report.notes.append(f"{busy} busy processes, {_AT_ONCE} trees end at once")
    return report


@contextmanager
def _busy(count: int) -> Iterator[None]:
    command = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(command, start_new_session=True))
            stack.callback(process.kill)
        yield


def _batch(how: str, *, stopped: bool) -> list[float]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        trees = []
        for number in range(_AT_ONCE):
            page = folder / str(number)
            page.write_bytes(bytes(4096))
            process = stack.enter_context(
                subprocess.Popen(
                    python("ending", how, str(page), str(AFTER_S)),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
            stack.callback(process.kill)
            trees.append((process, page))
        deadlines = []
        for process, _ in trees:
            assert process.stdout is not None
            deadlines.append(float(process.stdout.readline()))
            if stopped:
                for pid in (process.pid, *children(process.pid)):
                    os.kill(pid, signal.SIGSTOP)
        for process, _ in trees:
            # Everything in the tree has the pipe: its end is the end of all of them.
            process.communicate(timeout=_LIMIT_S)
        signs = [struct.unpack_from("=d", page.read_bytes())[0] for _, page in trees]
    return [
        (sign - deadline) * 1e3
        for sign, deadline in zip(signs, deadlines, strict=True)
        if sign > deadline - AFTER_S
    ]
