"""A drain that asks, under a client of 20 requests a second: webhook, budget and routing at once.

What `incumbent manifests --mode active-standby --handover` writes, once with the role label and
once with the EndpointSlice, in a namespace that the webhook guards. A plain `kubectl drain` of the
active one's node is all that is done (with the flag that kubectl wants for any Pod with an
`emptyDir`); nobody consents to anything. It has to go through by itself:
the first eviction is refused, the candidate hands over because of that, and then its Pod goes.

The client is that of `drain`. Beside what it saw, it is printed what the former holder has logged
as its cause, when the next one began to work, and when the former one's Pod began to go; both are
counted from the first refusal.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.parts import Port
from tests.cluster import reader, workloads
from tests.cluster.api import path_of
from tests.cluster.cluster import NODES, Cluster
from tests.cluster.consent import HOME, Show, webhook, with_environment
from tests.cluster.live.drain import Client
from tests.cluster.live.kit import PORT, App, await_, seconds
from tests.cluster.observer import now_ns
from tests.cluster.reader import Span, gaps, most_at_once
from tests.cluster.site import HERE, PYTHON
from tests.servers.kubernetes import ApiError

__all__ = ["show"]

ROUNDS = 3
EMPTY = "--delete-emptydir-data"
"""Generated Pods have a folder for the probe's socket, and kubectl wants to be told so."""
ASKED = "has asked for the eviction of Pod"
_DRAIN_S = 90.0
_POLL_S = 0.02

Object = dict[str, Any]


def show(cluster: Cluster, rounds: int | None = None) -> bool:
    """Play the rounds, and print the table; tell whether all came as it must."""
    told = Show(cluster)
    objects = webhook(cluster.site.image)
    with_environment(objects, cluster.site.environment)
    for made in objects:
        told.apply(made)
    told.await_ready(HOME, 2)
    rows = [
        row
        for routing in ("label", "endpointslice")
        for row in _play(told, _app(cluster, routing), routing, rounds or ROUNDS)
    ]
    print(
        "| through | requests | failed | no answer for | nobody active | lag | next at work "
        "| Pod goes | at once |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row, _ in rows:
        print(row)
    return told.ok and all(good for _, good in rows)


def _play(told: Show, app: App, routing: str, rounds: int) -> list[tuple[str, bool]]:
    app.make()
    try:
        before = app.await_whole()
        told.await_ready("default", app.replicas)
        told.cluster.await_(lambda: _is_asked(told, app, before), "the webhook to be asked")
        return [_drain(told, app, routing, whole=number == 0) for number in range(rounds)]
    finally:
        app.remove()


def _app(cluster: Cluster, routing: str) -> App:
    name = f"asked-by-{routing}"
    site = cluster.site
    app = Application(
        name=name,
        image=site.image,
        mode=Mode.ACTIVE_STANDBY,
        command=(PYTHON, str(HERE / "serve.py"), str(site.marks_of(name)), str(PORT)),
        env=site.environment,
        ports=(Port(PORT),),
        routing=routing,
        handover=True,
        pull_policy="Never",
        writable=(),
    )
    objects = objects_of(app)
    (deployment,) = (one for one in objects if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    workloads.patch(pod, site, more=[("POD_IP", "status.podIP")])
    return App(
        cluster,
        name,
        objects,
        lambda: reader.spans(reader.read(site.marks_of(name))),
        ("standby", "elected"),
    )


def _is_asked(told: Show, app: App, before: Span) -> bool:
    count = len(told.trail())
    told.evict(_pod_of(app, before)["metadata"]["name"])
    return len(told.trail()) > count


def _pod_of(app: App, span: Span) -> Object:
    (found,) = (pod for pod in app.pods() if pod["metadata"]["uid"] == span.pod)
    return found


@dataclass
class _Watched:
    """What befalls the Pod of a holder, what it logs, and what the webhook answers of it.

    Logs go with their Pods, also those of the replica that is drained, so they are read all the
    time. Each line has the time at which the runtime had it.
    """

    app: App
    pod: Object
    goes_ns: int = 0
    _lines: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> _Watched:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def cause(self) -> tuple[int, str]:
        """When it said why it hands over, and why."""
        return min(self._saying("handing over: "), default=(0, "none"))

    @property
    def answers(self) -> list[tuple[int, Object]]:
        """What evictions of it were answered, and when."""
        name = self.pod["metadata"]["name"]
        found = [(at_ns, json.loads("{" + text)) for at_ns, text in self._saying(" {")]
        return [each for each in found if (each[1]["pod"], each[1]["dry_run"]) == (name, False)]

    def _saying(self, words: str) -> list[tuple[int, str]]:
        # wall clock: the runtime has no other, and it is that of this machine
        offset_ns = now_ns() - time.time_ns()
        found = []
        for line in self._lines:
            before, there, text = line.partition(words)
            if there:
                at, nanos = before.split()[0].removesuffix("Z").split(".")
                began_s = int(datetime.fromisoformat(f"{at}+00:00").timestamp())
                found.append((began_s * 10**9 + int(nanos.ljust(9, "0")) + offset_ns, text))
        return sorted(found, key=lambda each: each[0])

    def _look(self) -> None:
        cluster, uid = self.app.cluster, self.pod["metadata"]["uid"]
        path = path_of({"apiVersion": "v1", "kind": "Pod"}, name=self.pod["metadata"]["name"])
        while not self._over.wait(_POLL_S):
            for pattern in (f"*/var/log/pods/*_{uid}/*/*.log", "*/var/log/pods/*/webhook/*.log"):
                for file in cluster.folder.glob(pattern):
                    with contextlib.suppress(OSError):
                        self._lines |= set(file.read_text(encoding="utf-8").splitlines())
            with contextlib.suppress(ApiError, OSError):
                if not self.goes_ns and "deletionTimestamp" in cluster.api.get(path)["metadata"]:
                    self.goes_ns = now_ns()


def _drain(told: Show, app: App, name: str, *, whole: bool) -> tuple[str, bool]:
    cluster = app.cluster
    before = app.await_whole()
    told.await_ready("default", app.replicas)
    pod = _pod_of(app, before)
    (stays,) = set(NODES) - {before.node}
    service = path_of({"apiVersion": "v1", "kind": "Service"}, name=app.name)
    client = Client(cluster.nodes[stays].pid, cluster.api.get(service)["spec"]["clusterIP"])
    client.start()
    try:
        await_(cluster, lambda: _answered(client, before.token), f"{app.name} to answer")
        began_ns = now_ns()
        with _Watched(app, pod) as watched, told.draining(before.node, EMPTY) as (drain, _):
            code = drain.wait(_DRAIN_S)
            after = app.await_follower(before)
        await_(cluster, lambda: _answered(client, after.token), "the next one to answer")
        ended_ns = now_ns()
    finally:
        client.stop()
        told.kubectl("uncordon", before.node)
    told.await_ready(HOME, 2)
    cause_ns, cause = watched.cause
    answers = watched.answers
    whys = [line["why"] for _, line in answers]
    # The request is on the Pod before the answer is given, and the candidate is quick.
    asked_ns = min([cause_ns, *(at_ns for at_ns, _ in answers)])
    goes_ns = watched.goes_ns or ended_ns
    told.expect(code == 0, f"the drain has ended with {code}, and nobody was asked")
    told.expect(ASKED in cause, f"the former holder's cause: {cause}")
    refused, let_go = whys[:-1], whys[-1:]
    told.expect(
        {*refused} == {"hand-over"} and let_go == ["unconcerned"],
        f"evictions were answered: {', '.join(whys)}",
    )
    told.expect(cause_ns < after.first_ns < goes_ns, "the next was at work before the Pod went")
    if whole:
        for at_ns, line in answers:
            after_s = seconds(at_ns, asked_ns)
            told.say(f"{after_s:5.2f} s {line['user']}: {line['verdict']}, {line['why']}")
    asked = [each for each in client.answers if began_ns <= each.sent_ns <= ended_ns]
    failed = [each for each in asked if not each.token]
    good_ns = sorted(each.at_ns for each in client.answers if each.token)
    longest = max((b - a for a, b in itertools.pairwise(good_ns)), default=0)
    first_ns = min(each.at_ns for each in client.answers if each.token == after.token)
    found = [span for span in app.spans() if span.token >= before.token]
    nobody = sum(seconds(end, start) for start, end in gaps(found, began_ns, ended_ns))
    most = most_at_once(found)
    why = ", ".join(sorted({each.why for each in failed}))
    text = f"{len(failed)}{f' ({why})' if why else ''}"
    row = (
        f"| {name} | {len(asked)} | {text} | {longest / 1e9:.2f} s | {nobody:.2f} s "
        f"| {seconds(first_ns, after.first_ns):.2f} s | {seconds(after.first_ns, asked_ns):.2f} s "
        f"| {seconds(goes_ns, asked_ns):.2f} s | {most} |"
    )
    return row, most == 1


def _answered(client: Client, token: int) -> bool:
    return sum(each.token == token for each in client.answers) >= 20
