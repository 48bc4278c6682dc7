"""What the machine itself allows: writes, and notifications of them, with no election around."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import EventProcess, python
from tests.servers import build

__all__ = ["Raw", "kubernetes", "kubernetes_by_go", "sqlite"]

BATCH = 25
PAUSE_S = 0.025
"""The longest pause before a write, the shortest being a fifth of it: that of the handovers."""
_LIMIT_S = 60.0

Pace = tuple[int, float]


@dataclass(slots=True)
class Raw:
    """A writer and a watcher, which may be one process.

    `write_ms` is from the send of a write to its answer; `notice_ms` from the send of a write to
    the watcher's sight of it.
    """

    writer: EventProcess
    watcher: EventProcess
    write_ms: list[float] = field(default_factory=list)
    notice_ms: list[float] = field(default_factory=list)

    def batch(self) -> None:
        """Write a batch, and add what it took."""
        writer_mark, watcher_mark = self.writer.mark(), self.watcher.mark()
        self.writer.signal(signal.SIGUSR1)
        self.writer.wait_for("batch", _LIMIT_S, mark=writer_mark)
        puts = self.writer.since(writer_mark, "put")
        last = puts[-1]["version"]
        self.watcher.wait_for(
            "seen", _LIMIT_S, mark=watcher_mark, where=lambda e: bool(e["version"] >= last)
        )
        seen = {e["version"]: e["boottime_ns"] for e in self.watcher.since(watcher_mark, "seen")}
        for put in puts:
            if put["version"] in seen:
                rung_ns = put.get("rung_ns", put["sent_ns"])
                self.write_ms.append((put["boottime_ns"] - put["sent_ns"]) / 1e6)
                self.notice_ms.append((seen[put["version"]] - rung_ns) / 1e6)

    @property
    def sum_ms(self) -> list[float]:
        """One write and one notification, of the same pair each."""
        return [a + b for a, b in zip(self.write_ms, self.notice_ms, strict=True)]


def _pair(
    bench: Bench, stack: ExitStack, name: str, module: str, pace: Pace, *arguments: str
) -> Raw:
    """Start writer and watcher, in this order: the writer makes what is watched."""
    both: list[EventProcess] = []
    for role in ("write", "watch"):
        batch, pause_s = pace
        pacing = (f"--batch={batch}", f"--pause={pause_s}")
        command = python(module, role, *arguments, *pacing)
        process = bench.program(stack, f"{name}-{role}", command)
        process.wait_for("ready", _LIMIT_S)
        both.append(process)
    return Raw(both[0], both[1])


def kubernetes(
    bench: Bench, stack: ExitStack, namespace: str, pace: Pace = (BATCH, PAUSE_S)
) -> Raw:
    """Start the raw writes of our own HTTP layer, a batch of so many with such pauses."""
    return _pair(
        bench,
        stack,
        "raw-kubernetes",
        "raw_kubernetes",
        pace,
        f"--kubeconfig={bench.server.kubeconfig()}",
        f"--namespace={namespace}",
        "--name=raw",
    )


def kubernetes_by_go(bench: Bench, stack: ExitStack, namespace: str) -> Raw:
    """Start the raw writes of client-go."""
    command = [
        str(build.ensure("clientgo-raw")),
        f"--kubeconfig={bench.server.kubeconfig()}",
        f"--namespace={namespace}",
        "--name=raw-go",
        f"--batch={BATCH}",
    ]
    process = bench.program(stack, "raw-clientgo", command)
    process.wait_for("ready", _LIMIT_S)
    return Raw(process, process)


def sqlite(bench: Bench, stack: ExitStack, path: Path) -> Raw:
    """Start the raw commits, and a watcher of the bell."""
    return _pair(bench, stack, "raw-sqlite", "raw_sqlite", (BATCH, PAUSE_S), f"--path={path}")
