"""A planned handover: how long is nobody at work?

From the *end of the old work* (it ended by itself, as in a candidate that leaves; `step-down`: it
was asked to end) to the *first `check()` of the successor's term that returned*. In between lie,
for us: the release, the notification of the standby, the take, and two changes of thread.

Beside it the least that this can be made of: one raw write and one raw notification, by the same
HTTP layer in two processes, in batches between the handovers; by client-go's typed client too.

client-go (ReleaseOnCancel) and the Python client (which cannot release: its standby waits out the
lease) end with their process: from just before SIGTERM is sent to the successor's callback.

What could bias it: the standby is known to stand by before the holder is asked, which is the rule
in life, too. Terms last some 20 ms, so all connections are warm, and no renewal is in flight; in
life a standby's connection is idle and the take connects anew (`cold`: the release is warm then, as
it is for a holder that renews). Line writing of the processes is outside of what is measured. The
stamp before SIGTERM is early by what a signal takes, some 0.1 ms of seconds.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.processes import Event, EventProcess, now_ns
from benchmarks.report import Report, Target, distribution, percentile
from incumbent.core.watch import RESERVE_S

NAME = "handover"
TITLE = "planned handover, from the end of the old work to the successor's first check()"

TIMES_RAW = 3.0
DEFAULTS = (15, 10, 2)
"""Lease duration, renew deadline, retry period: client-go's own, and given to the Python client."""
_LIMIT_S = 30.0


@dataclass(slots=True)
class Pair:
    """Two candidates that hand over to one another.

    `names_holder` is whether the one that stands by says of whom; neighbours' locks do not know.
    """

    holder: EventProcess
    standby: EventProcess
    pause_s: tuple[float, float] = (0.005, 0.025)
    names_holder: bool = True
    took_ms: list[float] = field(default_factory=list)
    _mark: int = 0

    def hand_over(self, by: signal.Signals = signal.SIGUSR1) -> None:
        """Hand over once, and add what it took."""
        holder, standby = self.holder, self.standby
        of_whom = f"{holder.name}_" if self.names_holder else ""
        standby.wait_for("standby", _LIMIT_S, mark=self._mark, where=lambda e: of_whom in e["text"])
        time.sleep(random.uniform(*self.pause_s))
        holder_mark, standby_mark = holder.mark(), standby.mark()
        holder.signal(by)
        checked = standby.wait_for("checked", _LIMIT_S, mark=standby_mark)
        ended = holder.wait_for("ended", _LIMIT_S, mark=holder_mark)
        if by == signal.SIGUSR1:
            holder.signal(by)
        self.took_ms.append((checked["boottime_ns"] - ended["boottime_ns"]) / 1e6)
        self.holder, self.standby, self._mark = standby, holder, holder_mark


def ours(bench: Bench, stack: ExitStack, names: tuple[str, str], url: str, *options: str) -> Pair:
    """Start two candidates; the first of the names holds at first."""
    kubeconfig = bench.server.kubeconfig() if url.startswith("kubernetes") else None
    name = names[0].rpartition("-")[0]
    both: list[EventProcess] = []
    for identity in names:
        process = bench.ours(stack, identity, url, *options, name=name, kubeconfig=kubeconfig)
        process.wait_for("standby" if both else "checked", _LIMIT_S)
        both.append(process)
    return Pair(both[0], both[1])


def names(leader: str) -> Callable[[Event], bool]:
    """Return the condition that an event of client-go names this leader."""
    return lambda event: bool(event["leader"] == leader)


def clientgo(bench: Bench, stack: ExitStack, namespace: str, rounds: int) -> Iterator[float]:
    """Hand over `rounds` times, and give what each took in milliseconds."""
    holder = bench.clientgo(stack, "go-0", namespace, DEFAULTS)
    holder.wait_for("started", _LIMIT_S)
    for number in range(1, rounds + 1):
        standby = bench.clientgo(stack, f"go-{number}", namespace, DEFAULTS)
        standby.wait_for("new_leader", _LIMIT_S, where=names(f"go-{number - 1}"))
        time.sleep(random.uniform(0.0, 2.0))
        asked_ns = now_ns()
        holder.terminate()
        started = standby.wait_for("started", _LIMIT_S)
        holder.wait(_LIMIT_S)
        holder = standby
        yield (started["boottime_ns"] - asked_ns) / 1e6


def python_client(bench: Bench, stack: ExitStack, namespace: str, rounds: int) -> Iterator[float]:
    """The same for the Python client."""
    holder = bench.python_client(stack, "python-0", namespace, DEFAULTS)
    holder.wait_for("started", _LIMIT_S)
    for number in range(1, rounds + 1):
        standby = bench.python_client(stack, f"python-{number}", namespace, DEFAULTS)
        standby.wait_for("standby", _LIMIT_S)
        time.sleep(random.uniform(0.0, 2.0))
        asked_ns = holder.signal(signal.SIGTERM)
        started = standby.wait_for("started", _LIMIT_S)
        holder.wait(_LIMIT_S)
        holder = standby
        yield (started["boottime_ns"] - asked_ns) / 1e6


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    batches = bench.many(1_000, 100) // raw.BATCH
    cold_each = bench.many(5, 5)
    go_rounds, python_rounds = bench.many(20, 3), bench.many(4, 1)
    with ExitStack() as stack:
        namespace = bench.namespace()
        url = f"kubernetes://{namespace}"
        by_us = raw.kubernetes(bench, stack, namespace)
        by_go = raw.kubernetes_by_go(bench, stack, namespace)
        warm = ours(bench, stack, ("warm-a", "warm-b"), url)
        cold = ours(bench, stack, ("cold-a", "cold-b"), url, "--cold")
        path = bench.dir / "handover.db"
        commits = raw.sqlite(bench, stack, bench.dir / "raw.db")
        embedded = ours(bench, stack, ("embedded-a", "embedded-b"), f"sqlite://{path}")
        plain = ours(bench, stack, ("plain-a", "plain-b"), f"file://{bench.dir / 'handover.d'}")
        asked = {
            "kubernetes": ours(bench, stack, ("asked-a", "asked-b"), url),
            "sqlite": ours(
                bench, stack, ("asked-on-host-a", "asked-on-host-b"), f"sqlite://{path}"
            ),
        }
        go_ms: list[float] = []
        python_ms: list[float] = []
        go = clientgo(bench, stack, namespace, go_rounds)
        client = python_client(bench, stack, namespace, python_rounds)
        for batch in range(batches):
            bench.progress(f"handover: {batch * raw.BATCH} of {batches * raw.BATCH}")
            for kind in (warm, embedded, plain):
                for _ in range(raw.BATCH):
                    kind.hand_over()
            for _ in range(cold_each):
                cold.hand_over()
            for kind in asked.values():
                kind.hand_over(signal.SIGUSR2)
            asked_at_s = time.monotonic()
            for kind_of_raw in (by_us, by_go, commits):
                kind_of_raw.batch()
            go_ms += _share(go, go_rounds, batch, batches)
            python_ms += _share(client, python_rounds, batch, batches)
            # Who stepped down leaves the election to others for a while: not what is measured here.
            time.sleep(max(0.0, asked_at_s + RESERVE_S + 0.2 - time.monotonic()))

    raw_us, raw_go, raw_sqlite = by_us.sum_ms, by_go.sum_ms, commits.sum_ms
    for who, yard in (("our HTTP layer", by_us), ("client-go", by_go)):
        report.rows.append(distribution("raw PUT", who, "ms", yard.write_ms))
        report.rows.append(distribution("raw PUT→watch", who, "ms", yard.notice_ms))
    report.rows += [
        distribution("PUT + PUT→watch", "our HTTP layer", "ms", raw_us),
        distribution("PUT + PUT→watch", "client-go", "ms", raw_go),
        distribution(
            "handover, kubernetes", "incumbent", "ms", warm.took_ms, _times(warm.took_ms, raw_us)
        ),
        distribution(
            "handover, kubernetes, cold",
            "incumbent",
            "ms",
            cold.took_ms,
            _times(cold.took_ms, raw_us),
        ),
        distribution(
            "handover, kubernetes", "client-go", "ms", go_ms, _slower(go_ms, warm.took_ms)
        ),
        distribution(
            "handover, kubernetes",
            "Python client",
            "ms",
            python_ms,
            _slower(python_ms, warm.took_ms),
        ),
        distribution(
            "handover, kubernetes, step-down",
            "incumbent",
            "ms",
            asked["kubernetes"].took_ms,
            _times(asked["kubernetes"].took_ms, raw_us),
        ),
        distribution("raw synced commit", "sqlite", "ms", commits.write_ms),
        distribution("raw commit→bell→read", "sqlite", "ms", commits.notice_ms),
        distribution("commit + commit→bell", "sqlite", "ms", raw_sqlite),
        distribution(
            "handover, sqlite",
            "incumbent",
            "ms",
            embedded.took_ms,
            _times(embedded.took_ms, raw_sqlite),
        ),
    ]
    report.rows.append(
        distribution(
            "handover, sqlite, step-down",
            "incumbent",
            "ms",
            asked["sqlite"].took_ms,
            _times(asked["sqlite"].took_ms, raw_sqlite),
        )
    )
    report.rows.append(distribution("handover, file", "incumbent", "ms", plain.took_ms))
    for store, took_ms, yard_ms in (
        ("kubernetes", warm.took_ms, raw_us),
        ("sqlite", embedded.took_ms, raw_sqlite),
    ):
        for share in (0.5, 0.95):
            text = f"{store}, p{share * 100:.0f} within {TIMES_RAW:g} × raw"
            limit = TIMES_RAW * percentile(yard_ms, share)
            report.targets.append(Target(text, percentile(took_ms, share), limit, "ms"))
    return report


def _share(rounds: Iterator[float], count: int, batch: int, batches: int) -> list[float]:
    """Do the part of some rounds that belongs to this batch."""
    due = count * (batch + 1) // batches - count * batch // batches
    return [next(rounds) for _ in range(due)]


def _times(values: list[float], yard: list[float]) -> str:
    p50, p95 = (percentile(values, share) / percentile(yard, share) for share in (0.5, 0.95))
    return f"{p50:.2f} × raw (p95: {p95:.2f})"


def _slower(values: list[float], ours_ms: list[float]) -> str:
    return f"{percentile(values, 0.5) / percentile(ours_ms, 0.5):,.0f} × incumbent"
