"""Many elections with three candidates each, when nothing happens: what does that cost the server?

Three processes are candidates in the same elections; the first one holds all of them, the two
others stand by. Counted over one window, for all stores at the same time: what the server says it
was asked (what each counts stands in its row), the bytes both ways that went through a proxy before
it, and the CPU time of the server's processes, of the holder and of the standbys. Where there is
no server, the write calls of the three processes, and what they wrote.

What could bias it: what is asked for these figures is among the requests, a handful. A PostgreSQL
backend tells of its last transactions some seconds late. Statements are not requests: one message
of ours has several. A blocking query of Consul's counts when it ends.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.processes import Event, EventProcess, family_cpu_s, now_ns, python
from benchmarks.report import Report, Row, Target
from benchmarks.stores.kinds import Kind, started
from tests.servers.proxy import Proxy

NAME = "steady"
TITLE = "elections with three candidates each, in steady state"

TTL_S = 15
_LIMIT_S = 300.0
_SETTLE_S = 5.0
_ROLES = ("holder", "standby", "standby too")


@dataclass(slots=True)
class Scene:
    """The three processes of a store, and what is between them and its server."""

    kind: Kind
    proxy: Proxy | None
    processes: list[EventProcess]

    @property
    def url(self) -> str:
        """Where the candidates find the store."""
        return self.kind.url(self.proxy.address if self.proxy else "")


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted until an instant."""

    at_ns: int
    told: float
    passed_bytes: int
    server_s: float
    events: list[Event]

    @classmethod
    def of(cls, scene: Scene) -> Sample:
        """Count."""
        events = []
        for process in scene.processes:
            mark = process.mark()
            process.signal(signal.SIGUSR1)
            events.append(process.wait_for("sample", _LIMIT_S, mark=mark))
        told = scene.kind.told()
        written = sum(int(event["written_bytes"]) for event in events)
        return cls(
            at_ns=now_ns(),
            told=sum(event["write_calls"] for event in events) if told is None else told,
            passed_bytes=scene.proxy.read_bytes if scene.proxy else written,
            server_s=family_cpu_s(scene.kind.pids()),
            events=events,
        )


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    count, window_s = bench.many(1_000, 100), bench.many(45, 10)
    with started(bench, "steady") as kinds, ExitStack() as stack:
        scenes = [_scene(stack, kind) for kind in kinds]
        for role in _ROLES:
            # One store after the other: to take a thousand in each at once would starve them all.
            # But who comes to an absent election waits for a TTL, and a few are taken together.
            for scene in scenes:
                bench.progress(f"steady: {scene.kind.name}, {role} of {count:,} elections")
                scene.processes.append(_start(bench, stack, scene, role, count))
                if not bench.quick:
                    scene.processes[-1].wait_for("all", _LIMIT_S + 30.0)
            for scene in scenes:
                scene.processes[-1].wait_for("all", _LIMIT_S + 30.0)
        time.sleep(_SETTLE_S)
        bench.progress(f"steady: a window of {window_s} s")
        before = [Sample.of(scene) for scene in scenes]
        time.sleep(window_s)
        after = [Sample.of(scene) for scene in scenes]
    for scene, begin, end in zip(scenes, before, after, strict=True):
        _told(report, scene.kind, count, begin, end)
    report.notes.append(f"{count:,} elections, TTL {TTL_S} s, one window of {window_s} s")
    return report


def _scene(stack: ExitStack, kind: Kind) -> Scene:
    proxy = None
    if kind.address is not None:
        proxy = stack.enter_context(Proxy(*kind.address))
    return Scene(kind, proxy, [])


def _start(bench: Bench, stack: ExitStack, scene: Scene, role: str, count: int) -> EventProcess:
    words = (f"--store={scene.url}", f"--count={count}", f"--ttl={TTL_S}", f"--limit={_LIMIT_S}")
    name = f"steady-{scene.kind.name}-{role.replace(' ', '-')}"
    return bench.program(stack, name, python("steady", *words))


def _told(report: Report, kind: Kind, count: int, before: Sample, after: Sample) -> None:
    window_s = (after.at_ns - before.at_ns) / 1e9
    told = after.told - before.told
    rate = told / window_s
    passed = (after.passed_bytes - before.passed_bytes) / window_s / 1024

    def core(spent_s: float) -> float:
        return 100 * spent_s / window_s

    spent = [
        (b["cpu_ns"] - a["cpu_ns"]) / 1e9 for a, b in zip(before.events, after.events, strict=True)
    ]
    holder, *standbys = after.events
    report.rows += [
        Row(kind.counts, kind.name, "1/s", int(told), rate, against=f"{rate / 3:.2f} a process"),
        Row("bytes", kind.name, "KiB/s", 1, passed),
        Row("CPU, holder", kind.name, "% of a core", 1, core(spent[0])),
        Row("CPU, a standby", kind.name, "% of a core", 2, core(sum(spent[1:]) / 2)),
    ]
    if kind.address is not None:
        server = core(after.server_s - before.server_s)
        report.rows.append(Row("CPU, server", kind.name, "% of a core", 1, server))
    early = sum(event["lost"] for event in before.events)
    lost = sum(event["lost"] for event in after.events) - early
    report.targets.append(Target(f"{kind.name}, terms lost in the window", lost, 0, "terms"))
    by = [one["standby"] for one in standbys]
    if early or holder["held"] != count or by != [count, count]:
        causes = "; ".join({event["cause"] for event in after.events if event["cause"]})
        report.notes.append(
            f"{kind.name}: {holder['held']:,} of {count:,} held, {by[0]:,} and {by[1]:,} stood by "
            f"for; {early:,} terms were lost while all were being taken: {causes or 'none'}"
        )
