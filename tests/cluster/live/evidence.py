"""How soon a crash is followed: the first process of the active container is killed.

The time is from the kill to the first mark of the next one's work, which starts as a process of its
own. Three Deployments of two on the same two nodes: ours with evidence, ours without, client-go's
with its own times. The TTL is 15 s in all.
"""

from __future__ import annotations

import os
import signal

from tests.cluster.cluster import Cluster
from tests.cluster.live.kit import App, clientgo, first_process, ours, percentile, seconds
from tests.cluster.observer import now_ns
from tests.cluster.reader import Span, most_at_once

__all__ = ["show"]

ROUNDS, SLOW_SHARE = 20, 4
"""Crashes with evidence, and how many times fewer of those that are waited out."""


def show(cluster: Cluster, rounds: int | None = None) -> bool:
    """Play the rounds, and print the table; tell whether never two were active."""
    many = rounds or ROUNDS
    few = max(1, many // SLOW_SHARE)
    print("| who | crashes | p50 | p95 | most | at once |\n| --- | --- | --- | --- | --- | --- |")
    good = True
    for name, count, app in (
        ("with evidence", many, ours(cluster, "proven", store="kubernetes://?evidence=1")),
        ("without", few, ours(cluster, "waited")),
        ("client-go", few, clientgo(cluster, "theirs")),
    ):
        took_s, most = crashes(app, count)
        good = good and most == 1
        columns = [percentile(took_s, 0.5), percentile(took_s, 0.95), max(took_s)]
        cells = " | ".join(f"{each:.2f} s" for each in columns)
        print(f"| {name} | {count} | {cells} | {most} |", flush=True)
    return good


def crashes(app: App, count: int) -> tuple[list[float], int]:
    """Kill the active one so often; return how long each took, and how many were active at once."""
    took_s: list[float] = []
    app.make()
    try:
        for _ in range(count):
            before = app.await_whole()
            uid = before.pod or _holder(app)
            victim = first_process(uid)
            killed_ns = now_ns()
            os.kill(victim, signal.SIGKILL)
            after = app.await_follower(before)
            took_s.append(seconds(after.first_ns, killed_ns))
            app.delete_pod(uid)  # One that has crashed is restarted later each time.
        found: list[Span] = app.spans()
    finally:
        app.remove()
    return took_s, most_at_once(found)


def _holder(app: App) -> str:
    """Return the UID of the Pod that the Lease of client-go's names."""
    lease = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{app.name}"
    identity: str = app.cluster.api.get(lease)["spec"]["holderIdentity"]
    return identity.split("_")[1]
