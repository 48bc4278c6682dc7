"""`python -m tests.operator`: every change of mode and election, on played nodes, by the marks.

The control plane is real, Pods are local processes, and each says on one disk that it works. Two
operators run, one of them elected; before every other change one of the two is killed, and started
again afterwards. What is printed is for each change how many were active at once, at most, and for
how long nobody was. It takes a few minutes; it fails if two ever were.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from pathlib import Path

from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.parts import Port
from incumbent.operator.definition import SINGLETONS, definition
from tests.cluster import reader
from tests.cluster.fakecluster import FakeCluster, played_cluster
from tests.cluster.site import HERE, PYTHON, ROOT
from tests.operator.kit import singleton
from tests.servers.kubernetes import ApiError
from tests.servers.process import ChildProcess, ServerError

_NAME = "reports"
_LIMIT_S = 60.0
_PORT = 8080
_IMAGE = "registry.example/reports:1"


@dataclass(frozen=True, slots=True)
class Change:
    """One change, from when on it was wanted, and until when it was done, on the marks' clock."""

    before: str
    after: str
    killed: bool
    from_ns: int
    to_ns: int


def _applications(marks: Path) -> dict[str, Application]:
    worker = (PYTHON, "-m", "tests.operator.slow", str(marks))
    # By the last one a candidate knows that it is in a Pod, and calls itself so.
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "KUBERNETES_SERVICE_HOST": "127.0.0.1"}
    common = {"name": _NAME, "image": _IMAGE, "env": environment}
    # The interpreter may lie below /tmp, in place of which a played node takes a folder of its own.
    common["writable"] = ()
    single = {**common, "command": worker, "owner": "somebody@example.com", "grace_s": 3.0}
    elected = {**common, "ttl_s": 6.0}
    standby = Application(
        **elected,  # type: ignore[arg-type]
        mode=Mode.ACTIVE_STANDBY,
        command=worker,
    )
    poller = (PYTHON, str(HERE / "poller.py"), str(marks), _NAME, str(_PORT))
    return {
        "at-least-one": Application(**single, mode=Mode.AT_LEAST_ONE),  # type: ignore[arg-type]
        "at-most-one": Application(**single, mode=Mode.AT_MOST_ONE),  # type: ignore[arg-type]
        "active-standby": standby,
        "another election": replace(standby, lease="another"),
        "partly-singleton": Application(
            **elected,  # type: ignore[arg-type]
            mode=Mode.PARTLY_SINGLETON,
            command=poller,
            ports=(Port(_PORT),),
            readiness=None,
        ),
    }


def _walk(names: list[str], rng: random.Random) -> list[str]:
    """Return a way on which each change is made once."""
    left = list(permutations(names, 2))
    rng.shuffle(left)
    way = [names[0]]
    while left:
        here = [pair for pair in left if pair[0] == way[-1]]
        pair = here[0] if here else left[0]
        if not here:
            way.append(pair[0])
        left.remove(pair)
        way.append(pair[1])
    return way


@contextmanager
def _operators(cluster: FakeCluster) -> Iterator[list[ChildProcess]]:
    command = [sys.executable, "-m", "incumbent", "operator", "--namespace", "default"]
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "INCUMBENT_TTL": "6",
    }
    found = [
        ChildProcess(
            f"operator-{number}",
            command,
            log_path=cluster.folder / "operators" / f"{number}.log",
            environment=environment,
        )
        for number in range(2)
    ]
    (cluster.folder / "operators").mkdir()
    try:
        for one in found:
            one.spawn()
        yield found
    finally:
        for one in found:
            one.kill()


def _status(cluster: FakeCluster) -> dict[str, str]:
    found = cluster.api.get(f"{SINGLETONS.path('default')}/{_NAME}")
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return {}
    return {one["type"]: one["status"] for one in status.get("conditions", ())}


def _await_ready(cluster: FakeCluster) -> None:
    wanted = {"Ready": "True", "Held": "False", "Progressing": "False", "Degraded": "False"}
    _await(cluster, lambda: _status(cluster) == wanted, "it does not come to rest")


def _await(cluster: FakeCluster, holds: Callable[[], bool], otherwise: str) -> None:
    deadline_s = time.monotonic() + _LIMIT_S
    while not holds():
        cluster.check()
        if time.monotonic() > deadline_s:
            raise ServerError(otherwise)
        time.sleep(0.1)  # sleep: it can be watched, but by no simpler means than those under test


def _is_served(cluster: FakeCluster) -> bool:
    try:
        cluster.api.get(SINGLETONS.path("default"))
    except ApiError:
        return False
    return True


def _apply(cluster: FakeCluster, app: Application) -> None:
    path = SINGLETONS.path("default")
    wanted = singleton(app)
    try:
        found = cluster.api.get(f"{path}/{_NAME}")
    except ApiError:
        cluster.api.request("POST", path, wanted)
        return
    del found["spec"]
    cluster.api.request("PUT", f"{path}/{_NAME}", {**found, "spec": wanted["spec"]})


def _play(cluster: FakeCluster, seed: int) -> Iterator[Change]:
    rng = random.Random(seed)
    marks = cluster.site.marks_of(_NAME)
    applications = _applications(marks)
    way = _walk(list(applications), rng)
    with _operators(cluster) as operators:
        _apply(cluster, applications[way[0]])
        _await_ready(cluster)
        for number, (before, after) in enumerate(pairwise(way)):
            from_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            _apply(cluster, applications[after])
            killed = rng.choice(operators) if number % 2 else None
            if killed is not None:
                time.sleep(rng.uniform(0, 2))  # sleep: at any step of the change
                killed.kill()
            _await_ready(cluster)
            if killed is not None:
                killed.spawn()
            time.sleep(1)  # sleep: so that there is some work to be seen
            to_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            yield Change(before, after, killed is not None, from_ns, to_ns)


def main(seed: int) -> int:
    most = 0
    with played_cluster() as cluster:
        # A played node looks for a command where it stands, and not along the path.
        os.chdir(cluster.folder)
        Path("incumbent").symlink_to(Path(sys.executable).parent / "incumbent")
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        cluster.api.request("POST", path, definition())
        _await(cluster, lambda: _is_served(cluster), "the definition is not served")
        print(f"seed {seed}\n\n| change | operator killed | active at once | nobody for |")
        print("| --- | --- | --- | --- |", flush=True)
        try:
            for change in _play(cluster, seed):
                spans = reader.spans(reader.read(cluster.site.marks_of(_NAME)))
                here = [one for one in spans if one.last_ns >= change.from_ns]
                at_once = reader.most_at_once(here)
                gaps = reader.gaps(here, change.from_ns, change.to_ns)
                nobody_s = sum(end - start for start, end in gaps) / 1e9
                most = max(most, at_once)
                name = f"{change.before} → {change.after}"
                print(f"| {name} | {change.killed} | {at_once} | {nobody_s:.1f} s |", flush=True)
        except ServerError:
            print(json.dumps(cluster.api.get(f"{SINGLETONS.path('default')}/{_NAME}"), indent=1))
            for log in sorted(cluster.folder.glob("*/*.log")):
                print(f"{log}:\n{log.read_text()[-2000:]}")
            raise
    return 0 if most == 1 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 1))
