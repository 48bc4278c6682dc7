"""The operator on real nodes: killed, cut off, and with people who delete what it has made.

It is installed by kubectl with the objects that `incumbent operator --manifests` prints. One
Singleton of each of three modes works. Then the operator's active replica is killed, and something
is to be changed; its next one's node is cut off, and something is to be made; workloads are deleted
in the background, one of them on a node that is cut off, one is orphaned, and a Singleton is
deleted and made anew. Each time it is said what the conditions are, as they change. At the end of
it stands for each how many were at work at once, by their own marks. Each worker takes two seconds
to end, as one with something to put away.

Marks are written into an empty folder of the Pod, for a Singleton cannot say a path of its node. On
this machine that is a folder like any other, and what was opened there stays readable after the
kubelet has taken it away. No cut is between a worker and its marks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.install import NAME, installation
from tests.cluster import images, reader
from tests.cluster.api import path_of
from tests.cluster.cluster import Cluster
from tests.cluster.live.kit import await_
from tests.cluster.observer import now_ns
from tests.cluster.reader import Span
from tests.cluster.site import HERE, PYTHON
from tests.operator.kit import singleton
from tests.servers import build
from tests.servers.kubernetes import ApiError
from tests.servers.process import ServerError

__all__ = ["show"]

HOME = "incumbent"
ENDING_S = 2
_OWNER = "operations@example.test"
_PLACE = "/var/marks"
_POLL_S = 0.1
_KUBECTL_S = 60.0
_PATIENCE_S = 5.0
_NS = "default"
_MODES = {
    "fetcher": Mode.AT_LEAST_ONE,
    "inbox": Mode.AT_MOST_ONE,
    "reports": Mode.ACTIVE_STANDBY,
}

Object = dict[str, Any]


def show(cluster: Cluster, rounds: int | None = None) -> bool:
    """Play everything once; tell whether never two were at work, and all came as it should."""
    play = _Play(cluster)
    with play.watching():
        _install(play)
        _apply(play)
        for _ in range(rounds or 1):
            _kill(play)
            _cut(play)
            _delete(play)
            _delete_out_of_reach(play)
            _orphan(play)
            _make_anew(play)
        _tell(play)
    return play.good


class _Play:
    """Says what happens, with the seconds since the beginning, and what was expected."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.good = True
        self._began_ns = now_ns()
        self._kubectl = str(build.ensure("kubectl"))
        self._told: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._files: dict[Path, int] = {}
        self._over = threading.Event()

    def say(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"{(now_ns() - self._began_ns) / 1e9:6.1f}  {line}", flush=True)

    def expect(self, so: bool, what: str) -> None:
        self.good &= so
        self.say(f"{'ok ' if so else 'NOT'} {what}")

    def kubectl(self, *words: str, given: Any = None) -> None:
        self.say(f"$ kubectl {' '.join(words)}")
        done = subprocess.run(
            [self._kubectl, "--kubeconfig", str(self.cluster.kubeconfig), *words],
            check=False,
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            timeout=_KUBECTL_S,
        )
        self.say(done.stdout + done.stderr)
        self.good &= done.returncode == 0

    # -- what is seen meanwhile -------------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            for file in self._files.values():
                os.close(file)

    def _watch(self) -> None:
        while not self._over.wait(_POLL_S):
            self._open_marks()
            with suppress(OSError, ApiError):
                for one in self.cluster.api.items(SINGLETONS.path(_NS)):
                    self._note(one)

    def _open_marks(self) -> None:
        below = "var/lib/kubelet/pods/*/volumes/kubernetes.io~empty-dir/*/*.marks"
        for node in self.cluster.nodes:
            for path in (self.cluster.folder / node).glob(below):
                if path not in self._files:
                    with suppress(OSError):
                        self._files[path] = os.open(path, os.O_RDONLY)

    def _note(self, one: Object) -> None:
        name = one["metadata"]["name"]
        for told in one.get("status", {}).get("conditions", ()):
            if told["type"] not in ("Held", "Degraded"):
                continue
            key, now = (name, told["type"]), (told["status"], told["reason"], told["message"])
            before = self._told.get(key)
            self._told[key] = now
            if now != before and (now[0] == "True" or before is not None):
                self.say(f"   {name}: {key[1]} is {now[0]}, {now[1]}: {now[2]}")

    def spans(self, name: str) -> list[Span]:
        """Return who was at work in this application, from when to when."""
        found: list[Span] = []
        for path, file in list(self._files.items()):
            if path.stem == name:
                # Each file is a Pod's own, and its worker may not know whose.
                copy = self.cluster.folder / "read.marks"
                copy.write_bytes(os.pread(file, os.fstat(file).st_size, 0))
                found += reader.spans(reader.read(copy))
        return sorted(found, key=lambda span: span.first_ns)

    # -- what there is ----------------------------------------------------------------------------

    def singleton(self, name: str) -> Object:
        return self.cluster.api.get(f"{SINGLETONS.path(_NS)}/{name}")

    def is_calm(self, name: str) -> bool:
        """Tell whether all that is wanted is there, and somebody is at work."""
        one = self.singleton(name)
        status = one.get("status", {})
        conditions = {told["type"]: told["status"] for told in status.get("conditions", ())}
        wanted = {"Ready": "True", "Progressing": "False", "Held": "False", "Degraded": "False"}
        return (
            conditions == wanted and status["observedGeneration"] == one["metadata"]["generation"]
        )

    def await_calm(self, *names: str) -> float:
        """Return after how many seconds all of these were as they shall be."""
        began_ns = now_ns()
        text = f"{', '.join(names)} to be as meant"
        await_(self.cluster, lambda: all(map(self.is_calm, names)), text)
        return (now_ns() - began_ns) / 1e9

    def workload(self, name: str) -> Object:
        kind = "StatefulSet" if _MODES[name] is Mode.AT_MOST_ONE else "Deployment"
        return self.cluster.api.get(path_of({"apiVersion": "apps/v1", "kind": kind}, name=name))

    def operators(self) -> dict[str, Object]:
        pods = self.cluster.api.items(f"/api/v1/namespaces/{HOME}/pods")
        return {pod["metadata"]["name"]: pod for pod in pods}

    def leader(self) -> str:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{NAME}"
        identity = str(self.cluster.api.get(path).get("spec", {}).get("holderIdentity") or "")
        return identity.partition("_")[0]

    def term(self) -> int:
        """Return the greatest term of an operator that has written a status."""
        found = self.cluster.api.items(SINGLETONS.path(_NS))
        return max((one.get("status", {}).get("operatorTerm", 0) for one in found), default=0)


# -- the beginning --------------------------------------------------------------------------------


def _install(play: _Play) -> None:
    objects = installation(images.REFERENCE, HOME)
    (deployment,) = (one for one in objects if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = play.cluster.site.environment
    container["env"] += [{"name": name, "value": value} for name, value in told.items()]
    # The interpreter may lie below /tmp, which an empty folder would hide.
    hiding = [one["name"] for one in container["volumeMounts"] if one["mountPath"] == "/tmp"]
    for holder, key in ((container, "volumeMounts"), (pod, "volumes")):
        holder[key] = [one for one in holder[key] if one["name"] not in hiding]
    play.kubectl("create", "namespace", HOME)
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    play.kubectl("apply", "--server-side", "-f", "-", given=items)
    await_(play.cluster, lambda: _ready(play) == 2, "both operators to be ready")
    await_(play.cluster, play.leader, "one of them to be elected")
    play.expect(True, f"two replicas are ready, and {play.leader()} is elected")


def _ready(play: _Play) -> int:
    return sum(
        condition["type"] == "Ready" and condition["status"] == "True"
        for pod in play.operators().values()
        for condition in pod["status"].get("conditions", ())
    )


def _wanted(play: _Play, name: str, mode: Mode) -> Object:
    worker = (PYTHON, "-I", "-S", str(HERE / "marks.py"), f"{_PLACE}/{name}.marks")
    given: dict[str, Any] = {
        "name": name,
        "image": images.REFERENCE,
        "mode": mode,
        "command": (*worker, "--linger", str(ENDING_S)),
        "env": play.cluster.site.environment,
        "pull_policy": "Never",
        "writable": (_PLACE,),
        # Nobody is moved while a node is cut off: what that does to each mode is shown elsewhere.
        "tolerations_s": 300,
    }
    if mode.single:
        return singleton(Application(**given, owner=_OWNER, grace_s=5.0))
    return singleton(Application(**given, ttl_s=6.0))


def _apply(play: _Play) -> None:
    play.say("== one Singleton of each mode")
    for name, mode in _MODES.items():
        play.kubectl("apply", "-f", "-", given=_wanted(play, name, mode))
    took_s = play.await_calm(*_MODES)
    play.expect(True, f"all are as meant after {took_s:.1f} s")
    play.kubectl("get", "singletons")


# -- what befalls the operator --------------------------------------------------------------------


def _kill(play: _Play) -> None:
    play.say("== the active operator is killed, and something is changed")
    leader, term = play.leader(), play.term()
    began_ns = now_ns()
    os.kill(_process_of(leader), signal.SIGKILL)
    patch = json.dumps({"spec": {"env": {"ROUND": str(term)}}})
    play.kubectl("patch", "singleton", "inbox", "--type=merge", "-p", patch)
    await_(play.cluster, lambda: play.term() > term, "the next term of an operator")
    play.await_calm("inbox")
    took_s = (now_ns() - began_ns) / 1e9
    play.expect(True, f"{play.leader()} has done it in term {play.term()}, {took_s:.1f} s later")
    await_(play.cluster, lambda: _ready(play) == 2, "both operators to be ready")


def _process_of(pod: str) -> int:
    """Return the process that is the operator in this Pod, as this machine knows it."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            told = (folder / "environ").read_bytes().split(b"\0")
            if b"operator" in words and f"POD_NAME={pod}".encode() in told:
                return int(folder.name)
    raise ServerError(f"there is no operator in the Pod {pod}")


def _cut(play: _Play) -> None:
    leader, term = play.leader(), play.term()
    node = play.operators()[leader]["spec"]["nodeName"]
    play.say(f"== {node}, where {leader} is the active operator, is cut off")
    play.cluster.cut(node)
    play.kubectl("apply", "-f", "-", given=_wanted(play, "added", Mode.ACTIVE_STANDBY))
    began_ns = now_ns()
    await_(play.cluster, lambda: play.term() > term, "the next term of an operator")
    await_(play.cluster, lambda: _holder(play, "added"), "a holder of what was added")
    took_s = (now_ns() - began_ns) / 1e9
    other = play.leader()
    play.expect(
        other != leader, f"{other} has made what was asked for meanwhile, {took_s:.1f} s later"
    )
    await_(play.cluster, lambda: _holder_is_elsewhere(play, node), "a holder on the other node")
    play.kubectl("get", "singletons")
    play.cluster.heal()
    play.cluster.await_ready(*play.cluster.nodes)
    play.await_calm(*_MODES, "added")
    await_(play.cluster, lambda: _ready(play) == 2, "both operators to be ready")
    play.expect(play.leader() == other, f"healed: {play.leader()} goes on in term {play.term()}")
    play.kubectl("get", "pods", "-n", HOME)


def _holder(play: _Play, name: str) -> str:
    return str(play.singleton(name).get("status", {}).get("holder") or "")


def _holder_is_elsewhere(play: _Play, node: str) -> bool:
    holder = _holder(play, "reports")
    pods = play.cluster.api.items(f"/api/v1/namespaces/{_NS}/pods")
    return any(
        pod["metadata"]["name"] == holder and pod["spec"].get("nodeName") != node for pod in pods
    )


# -- what people do with what it has made ---------------------------------------------------------


def _delete(play: _Play) -> None:
    for name, mode in _MODES.items():
        before = play.workload(name)
        kind = "statefulset" if mode is Mode.AT_MOST_ONE else "deployment"
        play.say(f"== {kind} {name} is deleted in the background")
        play.kubectl("delete", kind, name, "--cascade=background", "--wait=false")
        _await_another(play, name, before)


def _delete_out_of_reach(play: _Play) -> None:
    """The Pod works on where nobody can be told to end it, and so nothing else may begin."""
    before = play.workload("fetcher")
    pods = play.cluster.api.items(f"/api/v1/namespaces/{_NS}/pods")
    holder = _holder(play, "fetcher")
    (node,) = (one["spec"]["nodeName"] for one in pods if one["metadata"]["name"] == holder)
    play.say(f"== {node}, where {holder} works, is cut off, and its deployment deleted")
    play.cluster.cut(node)
    play.kubectl("delete", "deployment", "fetcher", "--cascade=background", "--wait=false")
    told = f"Pod {holder} on {node}"
    await_(play.cluster, lambda: told in _message(play, "fetcher", "Held"), "it to be waited for")
    time.sleep(_PATIENCE_S)  # sleep: that nothing is made has no event
    working = [one for one in play.spans("fetcher") if one.last_ns >= now_ns() - 1_000_000_000]
    left = play.cluster.api.items("/apis/apps/v1/namespaces/default/deployments")
    nothing = "fetcher" not in [one["metadata"]["name"] for one in left]
    play.expect(len(working) == 1 and nothing, "it works on, and nothing is made beside it")
    play.cluster.heal()
    play.cluster.await_ready(*play.cluster.nodes)
    _await_another(play, "fetcher", before)
    await_(play.cluster, lambda: _ready(play) == 2, "both operators to be ready")


def _orphan(play: _Play) -> None:
    play.say("== deployment fetcher is deleted, and what it has made is orphaned")
    before = play.workload("fetcher")
    play.kubectl("delete", "deployment", "fetcher", "--cascade=orphan")
    await_(
        play.cluster,
        lambda: "No workload keeps" in _message(play, "fetcher", "Held"),
        "the orphans to be told",
    )
    chosen = "app.kubernetes.io/name=fetcher"
    play.kubectl("delete", "replicasets", "-l", chosen, "--wait=false")
    _await_another(play, "fetcher", before)


def _make_anew(play: _Play) -> None:
    for name in ("fetcher", "inbox"):
        play.say(f"== the Singleton {name} is deleted, and made anew at once")
        before = play.workload(name)
        play.kubectl("delete", "singleton", name)
        play.kubectl("apply", "-f", "-", given=_wanted(play, name, _MODES[name]))
        _await_another(play, name, before)


def _message(play: _Play, name: str, kind: str) -> str:
    told = play.singleton(name).get("status", {}).get("conditions", ())
    return next((str(one["message"]) for one in told if one["type"] == kind), "")


def _await_another(play: _Play, name: str, before: Object) -> None:
    """Wait until another workload is as meant, and say for how long nobody was at work."""
    began_ns = now_ns()
    uid = before["metadata"]["uid"]

    def another() -> bool:
        if play.workload(name)["metadata"]["uid"] == uid or not play.is_calm(name):
            return False
        return any(one.first_ns >= began_ns for one in play.spans(name))

    await_(play.cluster, another, f"another workload of {name}")
    ended_ns = now_ns()
    time.sleep(1)  # sleep: so that there is some work to be seen
    spans = play.spans(name)
    nobody_s = sum(to - from_ for from_, to in reader.gaps(spans, began_ns, ended_ns)) / 1e9
    most = reader.most_at_once([one for one in spans if one.last_ns >= began_ns])
    play.expect(most == 1, f"{name}: at most {most} at work at once, nobody for {nobody_s:.1f} s")


# -- the end --------------------------------------------------------------------------------------


def _tell(play: _Play) -> None:
    play.say("== what came of it")
    for name in (*_MODES, "added"):
        spans = play.spans(name)
        most = reader.most_at_once(spans)
        play.expect(most == 1, f"{name}: {len(spans)} workers, at most {most} at work at once")
    play.kubectl("get", "singletons", "-o", "wide")
    for name in _MODES:
        for told in play.singleton(name)["status"]["conditions"]:
            text = f"{told['type']} {told['status']} {told['reason']}: {told['message']}"
            play.say(f"{name}: {text}")
        play.kubectl("events", "--for", f"singleton/{name}")
