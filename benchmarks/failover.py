"""A crash: how long is nobody at work?

On Kubernetes from the *last renewal* of a holder that is then killed (SIGKILL) at a random instant
of its renewal period, to the first `check()` of the standby's term. Nothing proves the death there,
so a standby must wait a whole TTL from the renewal as it saw it; what we add to the TTL is measured
against two round trips of this run, a round trip being a lone PUT and its answer. The least that a
takeover is made of is shorter, and stands beside it: a lone PUT, and one that a watch sees.
client-go and the Python client have the same lease duration, and their holders are killed in the
same instant.

On one host the kernel proves the death, so there it is from the *death* (the instant just before
SIGKILL is sent) to the first `check()`.

What could bias it: ours is counted from the send of the last confirmed renewal, the others' from
the answer, which favours them by a round trip. A round whose holder died with a renewal under way
has no last renewal that anybody could name, and is left out (client-go does not tell, one in some
hundred). The three die and take over at about the same time, on few cores. The retry period of the
others is one second, the least that the Python client allows: their defaults would be slower.
"""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.handover import names
from benchmarks.processes import Event, EventProcess, now_ns
from benchmarks.report import Report, Target, distribution, percentile
from incumbent.core.timing import Timing
from tests.servers.clientgo import ClientGoCandidate

NAME = "failover"
TITLE = "crash of the holder, to the standby's first check()"

TTL_S = 3
TIMING = (TTL_S, 2, 1)
FROM_DEATH_MS = 100.0
_LONE = (4, float(TTL_S))
"""Raw writes are as far apart here as the last renewal and the takeover: what idles is slower."""
_LIMIT_S = 60.0


@dataclass(slots=True)
class Took:
    """What the rounds of one kind took, in milliseconds."""

    renewal_ms: list[float] = field(default_factory=list)
    death_ms: list[float] = field(default_factory=list)
    left_out: int = 0

    def add(self, renewed_ns: int | None, killed_ns: int, at_work_ns: int) -> None:
        """Add a round; without a last renewal it is left out."""
        if renewed_ns is None:
            self.left_out += 1
            return
        self.renewal_ms.append((at_work_ns - renewed_ns) / 1e6)
        self.death_ms.append((at_work_ns - killed_ns) / 1e6)


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    kubernetes(bench, report)
    for scheme in ("sqlite", "file"):
        on_disk(bench, report, scheme)
    return report


def on_disk(bench: Bench, report: Report, scheme: str) -> None:
    """Kill holders on one host."""
    rounds = bench.many(100, 10)
    url = f"{scheme}://{bench.dir / f'failover.{scheme}'}"
    took_ms = []
    with ExitStack() as stack:
        holder = bench.ours(stack, "host-0", url)
        holder.wait_for("checked", _LIMIT_S)
        for number in range(1, rounds + 1):
            bench.progress(f"failover, {scheme}: {number} of {rounds}", at_once=False)
            standby = bench.ours(stack, f"host-{number}", url)
            standby.wait_for("standby", _LIMIT_S)
            time.sleep(random.uniform(0.0, 0.1))
            killed_ns = holder.kill_now()
            checked = standby.wait_for("checked", _LIMIT_S)
            took_ms.append((checked["boottime_ns"] - killed_ns) / 1e6)
            holder = standby
    report.rows.append(distribution(f"{scheme}, from death", "incumbent", "ms", took_ms))
    text = f"{scheme}, from death, the slowest"
    report.targets.append(Target(text, max(took_ms), FROM_DEATH_MS, "ms"))


def kubernetes(bench: Bench, report: Report) -> None:
    """Kill holders of all three kinds."""
    rounds = bench.many(20, 3)
    ours, go, client = Took(), Took(), Took()
    renew_every_s = Timing.plan(TTL_S, whole_seconds=True).renew_every_s
    with ExitStack() as stack:
        namespace = bench.namespace()
        yard = raw.kubernetes(bench, stack, namespace, _LONE)
        kubeconfig = bench.server.kubeconfig()

        def start(number: int) -> tuple[EventProcess, ClientGoCandidate, EventProcess]:
            url, ttl = f"kubernetes://{namespace}", f"--ttl={TTL_S}"
            return (
                bench.ours(stack, f"crash-{number}", url, ttl, "--stamps", kubeconfig=kubeconfig),
                bench.clientgo(stack, f"crash-go-{number}", namespace, TIMING, kubeconfig),
                bench.python_client(
                    stack, f"crash-python-{number}", namespace, TIMING, kubeconfig=kubeconfig
                ),
            )

        holders = start(0)
        _await_work(holders)
        for number in range(1, rounds + 1):
            bench.progress(f"failover, kubernetes: {number} of {rounds}")
            standbys = start(number)
            standbys[0].wait_for("standby", _LIMIT_S, where=lambda e: "held by" in e["text"])
            standbys[1].wait_for("new_leader", _LIMIT_S, where=names(f"crash-go-{number - 1}"))
            standbys[2].wait_for("standby", _LIMIT_S)
            yard.batch()
            for process in (holders[0], holders[2]):
                process.wait_for("renewed", _LIMIT_S, mark=process.mark())
            time.sleep(random.uniform(0.0, renew_every_s))
            killed_ns = [holders[0].signal(signal.SIGKILL), now_ns()]
            holders[1].kill()
            killed_ns.append(holders[2].signal(signal.SIGKILL))
            for process in (holders[0], holders[2]):
                process.kill()
                process.drain()
            at_work = _await_work(standbys)
            ours.add(last_sent(holders[0]), killed_ns[0], at_work[0])
            go.add(_last_told(holders[1]), killed_ns[1], at_work[1])
            client.add(_last_answered(holders[2]), killed_ns[2], at_work[2])
            holders = standbys
    over_ms = [took - TTL_S * 1e3 for took in ours.renewal_ms]
    trips_ms = [2 * write_ms for write_ms in yard.write_ms]
    for who, took in (("incumbent", ours), ("client-go", go), ("Python client", client)):
        ratio = f"{percentile(took.renewal_ms, 0.5) / (TTL_S * 1e3):.2f} × TTL"
        rows = (("renewal", took.renewal_ms, ratio), ("death", took.death_ms, ""))
        for since, took_ms, against in rows:
            what = f"kubernetes, from {since}, TTL {TTL_S} s"
            report.rows.append(distribution(what, who, "ms", took_ms, against))
        if took.left_out:
            report.notes.append(f"{who}: {took.left_out} rounds without a last renewal left out")
    ratio = f"{percentile(over_ms, 0.5) / percentile(trips_ms, 0.5):.2f} × two round trips"
    report.rows += [
        distribution("kubernetes, beyond the TTL", "incumbent", "ms", over_ms, ratio),
        distribution("two round trips: 2 × PUT", "our HTTP layer", "ms", trips_ms),
        distribution("PUT + PUT→watch", "our HTTP layer", "ms", yard.sum_ms),
    ]
    for share in (0.5, 0.95):
        text = f"kubernetes, beyond TTL from the last renewal, p{share * 100:.0f}, two round trips"
        limit_ms = percentile(trips_ms, share)
        report.targets.append(Target(text, percentile(over_ms, share), limit_ms, "ms"))


def _await_work(
    candidates: tuple[EventProcess, ClientGoCandidate, EventProcess],
) -> tuple[int, int, int]:
    ours, go, client = candidates
    return (
        int(ours.wait_for("checked", _LIMIT_S)["boottime_ns"]),
        int(go.wait_for("started", _LIMIT_S)["boottime_ns"]),
        int(client.wait_for("started", _LIMIT_S)["boottime_ns"]),
    )


def _certain(process: EventProcess) -> Event | None:
    """Return the last renewal that was answered, if no other one was under way."""
    renewing, renewed = process.last("renewing"), process.last("renewed")
    if renewing is None or renewed is None:
        return None
    return renewed if renewed["sent_ns"] >= renewing["boottime_ns"] else None


def last_sent(process: EventProcess) -> int | None:
    """Return when the last renewal of ours was sent, if it is certain which one that was."""
    event = _certain(process)
    return None if event is None else int(event["sent_ns"])


def _last_answered(process: EventProcess) -> int | None:
    event = _certain(process)
    return None if event is None else int(event["boottime_ns"])


def _last_told(candidate: ClientGoCandidate) -> int | None:
    times = [e["boottime_ns"] for e in candidate.events if e["event"] in {"acquired", "renewed"}]
    return max(times, default=None)
