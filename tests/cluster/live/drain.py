"""`kubectl drain` under a client of 20 requests a second, through a label and through a slice.

The client runs on the node that stays, and calls the Service's address, each time on a new
connection. Only the active one listens. Printed are the requests that failed, the longest time
without an answer, for how long nobody was active, and how long after the next one began to work the
first request reached it: that is what the Service's change needs to reach kube-proxy.

For the slice, also: how often kube-proxy wrote its rules anew while nothing but renewals happened.
"""

from __future__ import annotations

import http.client
import itertools
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.api import path_of
from tests.cluster.cluster import NODES, Cluster
from tests.cluster.inside import inside
from tests.cluster.live.kit import PORT, App, await_, ours, seconds
from tests.cluster.observer import now_ns
from tests.cluster.reader import gaps, most_at_once
from tests.cluster.site import HERE, PYTHON
from tests.servers import build

__all__ = ["show"]

ROUNDS = 3
EVERY_S = 0.05
LIMIT_S = 2.0
IDLE_S = 15.0
PROXY_METRICS = "http://127.0.0.1:10249/metrics"
SYNCS = "kubeproxy_sync_proxy_rules_duration_seconds_count"

Object = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What became of one request: the token that answered, or 0 and why not."""

    sent_ns: int
    at_ns: int
    token: int
    why: str = ""


@dataclass
class Client:
    """Calls, twenty times a second, until it is stopped; in the network of the process `pid`."""

    pid: int
    address: str
    answers: list[Answer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=inside, args=(self.pid, self._call), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _call(self) -> None:
        calls = []
        while not self._over.wait(EVERY_S):
            calls.append(threading.Thread(target=self._one, daemon=True))
            calls[-1].start()
        for call in calls:
            call.join()

    def _one(self) -> None:
        sent_ns = now_ns()
        connection = http.client.HTTPConnection(self.address, PORT, timeout=LIMIT_S)
        try:
            connection.request("GET", "/")
            token, why = int(connection.getresponse().read()), ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            token, why = 0, type(error).__name__
        finally:
            connection.close()
        self.answers.append(Answer(sent_ns, now_ns(), token, why))


def show(cluster: Cluster, rounds: int | None = None) -> bool:
    """Play the rounds, and print the table; tell whether never two were active."""
    good = True
    syncs = {}
    print("| through | requests | failed | no answer for | nobody active | lag | at once |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, app in (("a label", _labelled(cluster)), ("a slice", _sliced(cluster))):
        app.make()
        try:
            app.await_whole()
            syncs[name] = _syncs_in_peace(cluster)
            for _ in range(rounds or ROUNDS):
                good = _drain(cluster, app, name) and good
        finally:
            app.remove()
    for name, count in syncs.items():
        print(f"\nkube-proxy, {IDLE_S:.0f} s of renewals alone, by {name}: {count} syncs of rules")
    return good


def _serving(name: str, cluster: Cluster) -> list[str]:
    return [PYTHON, str(HERE / "serve.py"), str(cluster.site.marks_of(name)), str(PORT)]


def _service(name: str, selector: Object | None) -> Object:
    spec: Object = {"ports": [{"name": "http", "port": PORT}]}
    if selector is not None:
        spec["selector"] = selector
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _labelled(cluster: Cluster) -> App:
    name = "called-by-label"
    selector = {"app.kubernetes.io/name": name, "incumbent.dev/role": "active"}
    return ours(
        cluster,
        name,
        store="kubernetes://?role_label=1",
        command=_serving(name, cluster),
        more=[_service(name, selector)],
    )


def _sliced(cluster: Cluster) -> App:
    name = "called-by-slice"
    lock = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "incumbent.dev",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": [],
    }
    return ours(
        cluster,
        name,
        store="kubernetes://?recipe=slice",
        command=_serving(name, cluster),
        lock=lock,
        more=[_service(name, None)],
    )


def _drain(cluster: Cluster, app: App, name: str) -> bool:
    before = app.await_whole()
    (stays,) = set(NODES) - {before.node}
    service = path_of({"apiVersion": "v1", "kind": "Service"}, name=app.name)
    address = cluster.api.get(service)["spec"]["clusterIP"]
    client = Client(cluster.nodes[stays].pid, address)
    client.start()
    try:
        await_(cluster, lambda: _answered(client, before.token), f"{app.name} to answer")
        began_ns = now_ns()
        _kubectl(cluster, "drain", before.node, "--ignore-daemonsets", "--force", "--timeout=60s")
        after = app.await_follower(before)
        await_(cluster, lambda: _answered(client, after.token), "the next one to answer")
        ended_ns = now_ns()
    finally:
        client.stop()
        _kubectl(cluster, "uncordon", before.node)
    asked = [each for each in client.answers if began_ns <= each.sent_ns <= ended_ns]
    failed = [each for each in asked if not each.token]
    good_ns = sorted(each.at_ns for each in client.answers if each.token)
    longest = max((b - a for a, b in itertools.pairwise(good_ns)), default=0)
    first_ns = min(each.at_ns for each in client.answers if each.token == after.token)
    found = [span for span in app.spans() if span.token >= before.token]
    nobody = sum(seconds(end, start) for start, end in gaps(found, began_ns, ended_ns))
    most = most_at_once(found)
    why = ", ".join(sorted({each.why for each in failed}))
    told = f"{len(failed)}{f' ({why})' if why else ''}"
    lag_s = seconds(first_ns, after.first_ns)
    print(
        f"| {name} | {len(asked)} | {told} | {longest / 1e9:.2f} s | {nobody:.2f} s "
        f"| {lag_s:.2f} s | {most} |",
        flush=True,
    )
    return most == 1


def _answered(client: Client, token: int) -> bool:
    return sum(each.token == token for each in client.answers) >= 20


def _kubectl(cluster: Cluster, *words: str) -> None:
    subprocess.run(
        [str(build.ensure("kubectl")), "--kubeconfig", str(cluster.kubeconfig), *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )


def _syncs_in_peace(cluster: Cluster) -> int:
    """Return how often kube-proxy synced while nothing but renewals happened."""
    before = _syncs(cluster)
    time.sleep(IDLE_S)  # sleep: time has to pass, and nothing says that it has
    return _syncs(cluster) - before


def _syncs(cluster: Cluster) -> int:
    def read() -> str:
        with urllib.request.urlopen(PROXY_METRICS, timeout=LIMIT_S) as answer:
            found: str = answer.read().decode()
        return found

    text = inside(cluster.nodes[NODES[0]].pid, read)
    return sum(int(float(row.split()[-1])) for row in text.splitlines() if row.startswith(SYNCS))
