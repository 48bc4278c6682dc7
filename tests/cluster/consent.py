"""A drain that asks first, on two real nodes, as a transcript.

    python -m tests.cluster.consent

Two replicas of the webhook, as `incumbent consent-webhook --manifests` writes them, and one only
replica, as `incumbent manifests` does. Its node is drained by kubectl: it waits, the owner
consents, it goes through. Then the webhook is slow, is gone, and one of its replicas is drained.
Last, the node of an active candidate is cordoned, which hands over before anything is evicted. The
exit status is 1 if anything came otherwise than expected.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from incumbent.consent import certificates
from incumbent.consent.objects import Installation, service_name, webhook_objects
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from tests.cluster import images, leftovers
from tests.cluster.cluster import Cluster, running
from tests.cluster.site import PYTHON
from tests.servers import build
from tests.servers.kubernetes import ApiError
from tests.servers.process import ChildProcess, ServerError

HOME = "incumbent"
OWNER = "payments@example.com"
_WAITS = "import signal,sys; signal.signal(15, lambda *_: sys.exit()); signal.pause()"
_LIMIT_S = 90.0

Object = dict[str, Any]


class Show:
    """Says what happens, with the seconds since its beginning, and what was expected."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ok = True
        self._began_s = time.monotonic()
        self._kubectl = str(build.ensure("kubectl"))

    def say(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"{time.monotonic() - self._began_s:6.1f}  {line}", flush=True)

    def expect(self, so: bool, what: str) -> None:
        self.ok &= so
        self.say(f"{'ok ' if so else 'NOT'} {what}")

    def kubectl(self, *words: str, limit_s: float = _LIMIT_S) -> subprocess.CompletedProcess[str]:
        self.say(f"$ kubectl {' '.join(words)}")
        done = subprocess.run(
            [self._kubectl, "--kubeconfig", str(self.cluster.kubeconfig), *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
        self.say(done.stdout + done.stderr)
        return done

    @contextlib.contextmanager
    def draining(self, node: str, *more: str) -> Iterator[tuple[ChildProcess, Path]]:
        log = self.cluster.folder / f"drain-{time.monotonic_ns()}.log"
        words = ["drain", node, "--timeout=90s", *more]
        self.say(f"$ kubectl {' '.join(words)} &")
        made = ChildProcess(
            "kubectl",
            [self._kubectl, "--kubeconfig", str(self.cluster.kubeconfig), *words],
            log_path=log,
        )
        made.spawn()
        try:
            yield made, log
        finally:
            made.kill()
            self.say(log.read_text(encoding="utf-8"))

    def consent(self, *words: str) -> None:
        self.say(f"$ kubectl incumbent consent {' '.join(words)}")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "incumbent", "consent", *words),
                *("--kubeconfig", str(self.cluster.kubeconfig)),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        self.say(done.stdout + done.stderr)

    # -- the cluster ------------------------------------------------------------------------------

    def apply(self, made: Object, namespace: str = "default") -> None:
        path = self.cluster.folder / "apply.json"
        path.write_text(json.dumps(made), encoding="utf-8")
        done = subprocess.run(
            [
                *(self._kubectl, "--kubeconfig", str(self.cluster.kubeconfig)),
                *("apply", "--server-side", "-f", str(path)),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        if done.returncode != 0:
            raise ServerError(f"{made['kind']}: {done.stderr}")

    def pods(self, namespace: str = "default") -> list[Object]:
        return self.cluster.api.items(f"/api/v1/namespaces/{namespace}/pods")

    def ready(self, namespace: str) -> list[Object]:
        return [
            pod
            for pod in self.pods(namespace)
            if "deletionTimestamp" not in pod["metadata"]
            for condition in pod["status"].get("conditions", ())
            if (condition["type"], condition["status"]) == ("Ready", "True")
        ]

    def await_ready(self, namespace: str, count: int) -> None:
        what = f"{count} ready in {namespace}"
        self.cluster.await_(lambda: len(self.ready(namespace)) >= count, what, _LIMIT_S)

    def evict(self, name: str) -> tuple[int, str]:
        """Evict without a drain; return the code and the text, and say how long it took."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": "default"},
        }
        began_s = time.monotonic()
        try:
            path = f"/api/v1/namespaces/default/pods/{name}/eviction?dryRun=All"
            self.cluster.api.request("POST", path, eviction)
            found = 201, "evicted"
        except ApiError as error:
            found = error.status, str(error)
        took_s = time.monotonic() - began_s
        self.say(f"eviction of {name} (dry run), after {took_s:.1f} s: {found[0]} {found[1]}")
        return found

    def trail(self) -> list[Object]:
        """What the replicas have written: the audit trail."""
        found = []
        for path in self.cluster.folder.rglob("webhook/*.log"):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                text = line.partition(" F ")[2]
                if text.startswith("{"):
                    found.append(json.loads(text))
        return sorted(found, key=lambda line: str(line["time"]))

    def tell_trail(self) -> None:
        """Say what the replicas that are there have written, but for dry runs."""
        self.say("the audit trail:")
        for line in self.trail():
            if not line["dry_run"]:
                kept = ("time", "user", "pod", "verdict", "why")
                self.say(json.dumps({key: line[key] for key in kept}))


def webhook(image: str) -> list[Object]:
    """The objects of the webhook, with a command that this image has."""
    made = Installation(image=image, guarded=("default",), namespace=HOME)
    pair = certificates.made(service_name(made), 2, datetime.now(UTC))
    found = webhook_objects(made, pair)
    (deployment,) = (one for one in found if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["command"] = [PYTHON, "-m", "incumbent", *container["command"][1:]]
    return found


def singleton(image: str) -> list[Object]:
    app = Application(
        name="reports",
        image=image,
        mode=Mode.AT_MOST_ONE,
        owner=OWNER,
        command=(PYTHON, "-c", _WAITS),
        grace_s=2.0,
        pull_policy="Never",
        # The interpreter may lie below /tmp, which an empty folder would hide.
        writable=(),
    )
    return objects_of(app)


def standby(image: str) -> list[Object]:
    """Two candidates that hand over when their node is cordoned."""
    app = Application(
        name="inbox",
        image=image,
        mode=Mode.ACTIVE_STANDBY,
        command=(PYTHON, "-c", _WAITS),
        ttl_s=15.0,
        pull_policy="Never",
        writable=(),
        handover=True,
        handover_cordon=True,
    )
    return objects_of(app)


def with_environment(objects: list[Object], given: Mapping[str, str]) -> None:
    """Tell containers where the package is."""
    for made in objects:
        if made["kind"] in ("Deployment", "StatefulSet"):
            (container,) = made["spec"]["template"]["spec"]["containers"]
            more = [{"name": name, "value": value} for name, value in given.items()]
            container["env"] = [*container.get("env", ()), *more]


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        with running() as cluster:
            return 0 if play(Show(cluster)) else 1
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def play(show: Show) -> bool:
    site = show.cluster.site
    for objects in (webhook(images.REFERENCE), singleton(images.REFERENCE)):
        with_environment(objects, site.environment)
        for made in objects:
            show.apply(made)
    show.await_ready(HOME, 2)
    show.await_ready("default", 1)
    _await_asked(show)
    consented(show)
    slow(show)
    away(show)
    drained_itself(show)
    show.tell_trail()
    cordoned(show)
    return show.ok


def _await_asked(show: Show) -> None:
    """The API server takes a configuration in within a second or so."""
    show.cluster.await_(lambda: _asks(show), "the webhook to be asked", _LIMIT_S)


def _asks(show: Show) -> bool:
    before = len(show.trail())
    show.evict("reports-0")
    return len(show.trail()) > before


def consented(show: Show) -> None:
    show.say("== the owner is asked, and consents")
    (pod,) = show.ready("default")
    uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
    with show.draining(node) as (drain, log):
        show.cluster.await_(
            lambda: b"will retry after" in log.read_bytes(), "kubectl to wait", _LIMIT_S
        )
        show.expect(drain.running, "the drain waits")
        show.consent()
        show.consent("reports")
        code = drain.wait(_LIMIT_S)
    show.expect(code == 0, f"the drain has ended with {code}")
    show.await_ready("default", 1)
    (after,) = show.ready("default")
    moved = (after["metadata"]["uid"] != uid, after["spec"]["nodeName"] != node)
    show.expect(moved == (True, True), f"{after['metadata']['name']} is another, elsewhere")
    show.tell_trail()
    show.kubectl("get", "events", "--field-selector", "involvedObject.name=reports-0")
    show.kubectl("uncordon", node)
    show.await_ready(HOME, 2)


def _webhooks(show: Show) -> list[int]:
    """The processes of the replicas, and of no other cluster."""
    group, found = leftovers.name_of_run(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            if b"consent-webhook" in words and group in (folder / "cgroup").read_text():
                found.append(int(folder.name))
    show.say(f"{len(found)} processes of the webhook")
    return found


def slow(show: Show) -> None:
    show.say("== both replicas are stopped: too slow for the API server")
    stopped = _webhooks(show)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        code, text = show.evict("reports-0")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    show.expect(code == 429 and "disruption budget" in text, "its budget answers, with 429")
    show.cluster.await_(lambda: len(show.ready(HOME)) == 2, "the replicas to be ready", _LIMIT_S)


def away(show: Show) -> None:
    show.say("== no replica at all, and the owner has consented")
    show.kubectl("-n", HOME, "scale", "deployment", "incumbent-consent", "--replicas=0")
    show.cluster.await_(lambda: not show.pods(HOME), "the replicas to be gone", _LIMIT_S)
    show.consent("reports")
    code, text = show.evict("reports-0")
    show.expect(code == 429 and "disruption budget" in text, "its budget answers, with 429")
    show.kubectl("-n", HOME, "scale", "deployment", "incumbent-consent", "--replicas=2")
    show.await_ready(HOME, 2)
    show.cluster.await_(lambda: _asks(show), "the webhook to be asked", _LIMIT_S)
    show.consent("reports", "--revoke")


def drained_itself(show: Show) -> None:
    show.say("== a replica of the webhook is drained, with what it guards")
    (pod,) = show.ready("default")
    node = pod["spec"]["nodeName"]
    with show.draining(node) as (drain, log):
        show.cluster.await_(
            lambda: len(show.ready(HOME)) == 1 and b"will retry after" in log.read_bytes(),
            "one replica to be gone",
            _LIMIT_S,
        )
        show.expect(drain.running, "the drain waits for the owner, and the replica has gone")
        show.consent("reports", "--until", "10m")
        code = drain.wait(_LIMIT_S)
    show.expect(code == 0, f"the drain has ended with {code}: the other replica has answered")


def cordoned(show: Show) -> None:
    show.say("== the node of an active candidate is cordoned")
    show.kubectl("uncordon", *show.cluster.nodes)
    objects = standby(images.REFERENCE)
    with_environment(objects, show.cluster.site.environment)
    for made in objects:
        show.apply(made)
    show.cluster.await_(lambda: len(_candidates(show)) == 2, "two candidates", _LIMIT_S)
    show.cluster.await_(lambda: _holder(show), "one of them to be elected", _LIMIT_S)
    holder = _holder(show)
    before = _candidates(show)
    show.kubectl("cordon", before[holder])
    began_s = time.monotonic()
    show.cluster.await_(lambda: _holder(show) not in ("", holder), "a handover", _LIMIT_S)
    took_s = time.monotonic() - began_s
    now = _candidates(show)
    show.expect(holder in now, f"{holder} runs on, as a standby")
    show.expect(now[_holder(show)] != before[holder], f"{_holder(show)} holds, elsewhere")
    show.expect(took_s < 10.0, f"{took_s:.1f} s after the cordon, with a TTL of 15 s")


def _candidates(show: Show) -> dict[str, str]:
    """The candidates that are ready, and their nodes."""
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in show.ready("default")
        if pod["metadata"]["name"].startswith("inbox-")
    }


def _holder(show: Show) -> str:
    """The Pod that holds the Lease, or ""."""
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/inbox"
    identity = str(show.cluster.api.get(path).get("spec", {}).get("holderIdentity") or "")
    return identity.partition("_")[0]


if __name__ == "__main__":
    raise SystemExit(main())
