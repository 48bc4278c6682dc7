"""A rolling update of three replicas: how often the active one changes, and for how long is nobody.

The same Deployment, with Kubernetes' own strategy: one of `incumbent run`, and one of client-go's
election with ReleaseOnCancel and its own times.
"""

from __future__ import annotations

from tests.cluster.api import path_of
from tests.cluster.cluster import Cluster
from tests.cluster.live.kit import App, await_, clientgo, ours, seconds
from tests.cluster.observer import now_ns
from tests.cluster.reader import gaps, most_at_once

__all__ = ["show"]

ROUNDS = 3
REPLICAS = 3
STEADY_NS = 2_000_000_000


def show(cluster: Cluster, rounds: int | None = None) -> bool:
    """Play the rounds, and print the table; tell whether never two were active."""
    print("| who | handovers | nobody active, in all | longest | rollout | at once |")
    print("| --- | --- | --- | --- | --- | --- |")
    good = True
    for name, app in (
        ("incumbent", ours(cluster, "rolled", replicas=REPLICAS)),
        ("client-go", clientgo(cluster, "rolled-theirs", replicas=REPLICAS)),
    ):
        app.make()
        try:
            for number in range(rounds or ROUNDS):
                good = _roll(app, name, number) and good
        finally:
            app.remove()
    return good


def _roll(app: App, name: str, number: int) -> bool:
    before = app.await_whole()
    deployment = path_of({"apiVersion": "apps/v1", "kind": "Deployment"}, name=app.name)
    old = {pod["metadata"]["uid"] for pod in app.pods()}
    began_ns = now_ns()
    change = {"metadata": {"annotations": {"round": str(number + 1)}}}
    app.cluster.api.patch(deployment, {"spec": {"template": change}})

    def rolled() -> bool:
        now = {pod["metadata"]["uid"] for pod in app.pods()}
        return not now & old and len(now) == REPLICAS and len(app.active()) == 1

    await_(app.cluster, rolled, f"{app.name} to be rolled out")
    ended_ns = now_ns()
    await_(app.cluster, lambda: now_ns() > ended_ns + STEADY_NS, "what comes after it")
    found = [span for span in app.spans() if span.token >= before.token]
    nobody = [seconds(end, start) for start, end in gaps(found, began_ns, ended_ns)]
    most = most_at_once(found)
    cells = f"{sum(nobody):.2f} s | {max(nobody, default=0.0):.2f} s"
    took = f"{seconds(ended_ns, began_ns):.0f} s"
    print(f"| {name} | {len(found) - 1} | {cells} | {took} | {most} |", flush=True)
    return most == 1
