"""What an application may be: each bad value is one error that names the field and the way out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from incumbent.core.timing import Timing
from incumbent.errors import ConfigError, ImpossibleTiming
from incumbent.manifests.marks import ROLE
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.parts import ASKED_IN, Port
from incumbent.manifests.reading import application_of, read
from tests.manifests.kit import EVERY, FULL, PLAIN, by_name

GOOD: dict[str, dict[str, Any]] = {
    "one": {"name": "a", "image": "a/b:1", "mode": "at-most-one", "owner": "ann"},
    "standby": {"name": "a", "image": "a/b:1", "mode": "active-standby", "command": ["run"]},
    "partly": {"name": "a", "image": "a/b:1", "mode": "partly-singleton", "ports": [80]},
}

BAD = [
    ("one", {"mode": None}, "mode: is missing"),
    ("one", {"mode": "single"}, "mode: 'single' must be one of at-least-one, at-most-one"),
    ("one", {"name": None}, "name: is missing: add it"),
    ("one", {"name": "Reports"}, "name: 'Reports' is no name"),
    ("one", {"name": "a" * 53}, "use 1 to 52 of"),
    ("one", {"name": 7}, "name: 7 is no name"),
    ("one", {"image": "reports"}, "image: 'reports' is whatever was pushed last"),
    ("one", {"image": "r.e:5000/reports:latest"}, "add a version"),
    ("one", {"image": "Not An Image:1"}, "is no reference of an image"),
    ("one", {"namspace": "x"}, "namspace: no such field: did you mean 'namespace'?"),
    ("one", {"zzz": 1}, "zzz: no such field: there are: name, image"),
    ("one", {"replicas": 2}, "replicas: 2 in mode at-most-one, which is one replica"),
    ("one", {"owner": None}, "owner: in mode at-most-one no drain"),
    ("one", {"owner": "a\nb"}, "owner: 'a\\nb' must be text of one line"),
    ("one", {"lease": "a"}, "lease: in mode at-most-one nothing is elected"),
    ("one", {"store": "kubernetes://"}, "store: in mode at-most-one nothing is elected"),
    ("one", {"autoscaling": {"min_replicas": 1, "max_replicas": 2}}, "autoscaling: what scales"),
    ("one", {"grace_s": 0}, "grace_s: 0 must be more than 0"),
    ("one", {"grace_s": "5"}, "grace_s: '5' must be a number"),
    ("one", {"grace_s": math.inf}, "grace_s: inf must be a number"),
    ("one", {"tolerations_s": -1}, "tolerations_s: -1 must be a whole number"),
    ("one", {"tolerations_s": True}, "tolerations_s: True must be a whole number"),
    ("one", {"command": "python x.py"}, "command: 'python x.py' must be a list of words"),
    ("one", {"args": ["a", True]}, "args: True is no text: put it into quotes"),
    ("one", {"env": {"A": 1}}, "env.A: 1 is no text: put it into quotes"),
    ("one", {"env": {"A-B": "x"}}, "env: 'A-B' is no name of a variable"),
    ("one", {"resources": {"cpu": "lots"}}, "resources.cpu: 'lots' is no amount"),
    ("one", {"resources": {"memory": "0"}}, "resources.memory: '0' is no amount"),
    ("one", {"resources": ["1"]}, "resources: ['1'] must map fields to values"),
    ("one", {"storage": {"path": "/x"}}, "storage.size: is missing: add it"),
    ("one", {"storage": {"size": "1Gi", "path": "x"}}, "storage.path: 'x' must be an absolute"),
    ("one", {"storage": {"size": "1Gi", "path": "/tmp"}}, "writable: '/tmp' is mounted twice"),
    ("one", {"ports": [80, {"name": "http", "number": 81}]}, "'http' is the name of two ports"),
    ("one", {"ports": [0]}, "ports.number: 0 must be a whole number from 1"),
    ("one", {"ports": 80}, "ports: 80 must be a list"),
    ("one", {"liveness": {"path": "/x"}}, "liveness: there is no port to ask"),
    ("one", {"liveness": {"path": "x"}, "ports": [80]}, "liveness: path of a probe: 'x' must"),
    ("one", {"liveness": {"path": "/", "command": ["a"]}}, "liveness: a probe has a path or a"),
    ("one", {"liveness": {"timeout_s": 11}, "ports": [80]}, "timeout_s of a probe: 11 must"),
    ("one", {"readiness": {"path": "/x", "port": "y"}, "ports": [80]}, "readiness.port: 'y' is"),
    ("one", {"readiness": {"path": "/v1/leader"}, "ports": [80]}, "readiness.path: '/v1/leader'"),
    (
        "one",
        {"mode": "at-least-one", "storage": {"size": "1Gi"}},
        "storage: a successor would wait",
    ),
    ("one", {"companion": {"image": "x:1", "ports": [0]}}, "companion: ports.number: 0 must be"),
    ("one", {"companion": {"image": "x:1", "resources": {"cp": 1}}}, "companion: resources.cp: no"),
    ("one", {"handover": True}, "handover: in mode at-most-one there is nobody to hand over to"),
    ("standby", {"handover": "eviction"}, "handover: 'eviction' must be true or false"),
    ("standby", {"handover_cordon": True}, "handover_cordon: it is a further cause to hand over"),
    ("standby", {"handover": True, "handover_cordon": 1}, "handover_cordon: 1 must be true or"),
    ("standby", {"handover": True, "store": "etcd://etcd"}, "handover: it is about Pods and"),
    ("one", {"pull_policy": "Sometimes"}, "pull_policy: 'Sometimes' must be one of"),
    ("one", {"pull_secrets": ["A_b"]}, "pull_secrets: 'A_b' is no name of an object"),
    ("one", {"priority_class": "A b"}, "priority_class: 'A b' is no name"),
    ("one", {"user": 0}, "user: 0 must be a whole number from 1"),
    ("one", {"writable": ["tmp"]}, "writable: 'tmp' must be an absolute path"),
    ("one", {"companion": {"image": "x"}}, "companion.image: 'x' is whatever was pushed last"),
    ("one", {"companion": {"image": "x:1", "ports": []}}, "companion.ports: a Service needs one"),
    ("one", {"companion": {"image": "x:1", "replicas": 0}}, "companion.replicas: 0 must be"),
    ("standby", {"writable": ["/run/incumbent"]}, "writable: '/run/incumbent' is mounted twice"),
    ("one", {"guard": "yes"}, "guard: 'yes' must be true or false"),
    ("standby", {"guard": True}, "guard: it keeps a marked singleton at one replica, and mode"),
    ("standby", {"replicas": 1}, "replicas: 1 must be a whole number from 2"),
    ("standby", {"command": None}, "command: `incumbent run` starts the process"),
    ("standby", {"ports": [80]}, "ports: in mode active-standby only the active replica listens"),
    ("standby", {"storage": {"size": "1Gi"}}, "storage: one volume is mounted by one replica"),
    ("standby", {"liveness": {"path": "/x"}}, "liveness: in a standby nothing listens"),
    ("standby", {"lease": "A"}, "lease: 'A' is no name of an object"),
    ("standby", {"ttl_s": 5, "grace_s": 10}, "ttl_s=5 gives W = "),
    ("standby", {"ttl_s": 2.5}, "keeps the TTL in whole seconds"),
    ("standby", {"store": "sqlite:///x.db"}, "store: with sqlite:// every Pod has a store"),
    ("standby", {"store": "postgresql://me:word@host/db"}, "store: the password in it"),
    ("standby", {"store": "consul://the-token@host/locks"}, "store: the password in it"),
    ("standby", {"store": "kubernetes://other"}, "store: the Lease lies in namespace 'other'"),
    ("standby", {"store": "kubernetes://?session=1"}, "rights here are those of one Lease"),
    ("standby", {"store": "nothing"}, "has no scheme"),
    ("standby", {"store_secret": "stores"}, "store_secret: 'stores' must be SECRET/KEY"),
    ("standby", {"store": "kubernetes://", "store_secret": "a/b"}, "exclude each other"),
    (
        "standby",
        {"autoscaling": {"min_replicas": 2, "max_replicas": 3}},
        "autoscaling: standbys do no work",
    ),
    ("partly", {"ports": None}, "ports: a partly-singleton answers behind a Service"),
    ("partly", {"ports": None, "command": ["incumbent", "run"]}, "ports: a partly-singleton"),
    ("partly", {"ports": None, "args": ["incumbent", "work"]}, "ports: a partly-singleton"),
    ("partly", {"ports": None, "command": ["incumbent"]}, "ports: a partly-singleton"),
    ("partly", {"checkpoints": ["Job"]}, "checkpoints: 'Job' is no part of any work: use names"),
    ("partly", {"checkpoints": "consumer"}, "checkpoints: 'consumer' must be a list of words"),
    ("partly", {"checkpoints": ["consumer"], "store": "etcd://etcd"}, "checkpoints: it is about"),
    ("partly", {"checkpoints": ["consumer"], "store_secret": "a/b"}, "checkpoints: it is about"),
    ("standby", {"checkpoints": ["consumer"]}, "checkpoints: in mode active-standby `incumbent"),
    ("one", {"checkpoints": ["consumer"]}, "checkpoints: in mode at-most-one nothing is elected"),
    (
        "partly",
        {"command": ["incumbent", "every", "1m", "b", "--", "a"]},
        "command: `incumbent every` must name the election 'a', for the rights here are",
    ),
    (
        "partly",
        {"autoscaling": {"min_replicas": 1, "max_replicas": 3}},
        "autoscaling.min_replicas: 1 leaves nobody",
    ),
    (
        "partly",
        {"autoscaling": {"min_replicas": 4, "max_replicas": 3}},
        "autoscaling: max_replicas=3 is less than",
    ),
    (
        "partly",
        {"replicas": 2, "autoscaling": {"min_replicas": 2, "max_replicas": 3}},
        "replicas: the autoscaler sets the number",
    ),
]


@pytest.mark.parametrize(("base", "change", "text"), BAD)
def test_what_cannot_work_is_one_error_that_says_how_to_mend_it(
    base: str, change: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        application_of({**GOOD[base], **change})
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("base", GOOD)
def test_what_the_table_changes_is_good_before(base: str) -> None:
    assert objects_of(application_of(GOOD[base]))


@pytest.mark.parametrize(
    "image",
    ["a:1", "a/b:1", "r.e:5000/a:1", "r.e:5000/a/b_c:v1.2-x", "a@sha256:" + "0" * 64],
)
def test_an_image_with_a_version_is_taken(image: str) -> None:
    assert application_of({**GOOD["one"], "image": image}).image == image


def test_what_is_empty_in_a_file_is_not_said() -> None:
    assert application_of({**GOOD["one"], "storage": None, "replicas": None}).storage is None


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.yaml", "- a\n", "must map fields to values"),
        ("a.yaml", "a: [", "is no YAML"),
        ("a.yaml", "a: 1\n---\nb: 2\n", "is no YAML of one document"),
        ("a.json", "{", "is no JSON"),
        ("missing.yaml", None, "No such file"),
        ("a.yaml", "\udcff", "is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, text: str | None, error: str
) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=error) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


# -- what follows from what -----------------------------------------------------------------------


def test_a_standby_is_asked_whether_it_is_alive_and_never_what_only_the_active_one_knows() -> None:
    plain, full = (
        by_name(objects_of(of[Mode.ACTIVE_STANDBY]))["Deployment", "reports"]["spec"]["template"]
        for of in (PLAIN, FULL)
    )
    (container,) = plain["spec"]["containers"]
    command, socket = container["command"], f"{ASKED_IN}/probe"
    assert command[command.index("--probe") + 1] == socket
    assert command.index("--probe") < command.index("--")
    mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert {"name": mounted[ASKED_IN], "emptyDir": {}} in plain["spec"]["volumes"]
    for name in ("startupProbe", "livenessProbe"):
        assert container[name]["exec"]["command"] == ["incumbent", "probe", socket]
    assert "readinessProbe" not in container
    # A wrapper that has begun to listen is not asked for the first time a whole period later.
    assert container["startupProbe"]["periodSeconds"] <= 2
    (container,) = full["spec"]["containers"]
    assert container["startupProbe"]["exec"]["command"] == ["incumbent", "probe", socket]
    for name in ("livenessProbe", "readinessProbe"):
        assert container[name]["exec"]["command"][:4] == ["incumbent", "probe", socket, "--"]


@pytest.mark.parametrize("ttl_s", [3, 15, 60, 600])
def test_a_pod_has_time_for_the_whole_stop_and_the_release(ttl_s: float) -> None:
    for mode in (Mode.ACTIVE_STANDBY, Mode.PARTLY_SINGLETON):
        base = GOOD["standby" if mode is Mode.ACTIVE_STANDBY else "partly"]
        times = application_of({**base, "ttl_s": ttl_s}).times
        timing = Timing.plan(ttl_s, grace_s=times.grace_s)
        assert times.termination_s >= timing.grace_s + timing.kill_s + 2 * timing.attempt_s + 5
        assert times.toleration_s >= 2 * ttl_s


def test_an_impossible_timing_is_told_as_such() -> None:
    with pytest.raises(ImpossibleTiming):
        application_of({**GOOD["standby"], "ttl_s": 1, "grace_s": 3})


def test_an_only_replica_stops_in_its_own_time() -> None:
    app = Application(name="a", image="a/b:1", mode=Mode.AT_LEAST_ONE, owner="ann", grace_s=90.5)
    assert (app.times.termination_s, app.times.toleration_s) == (96, 30)
    assert PLAIN[Mode.AT_MOST_ONE].times.toleration_s == 300


@pytest.mark.parametrize("name", EVERY)
def test_every_selector_takes_its_own_pods_and_no_others(name: str) -> None:
    objects = objects_of(EVERY[name])
    workloads = [obj for obj in objects if obj["kind"] in ("Deployment", "StatefulSet")]
    for obj in objects:
        chosen = obj.get("spec", {}).get("selector")
        if chosen is None:
            continue
        chosen = dict(chosen.get("matchLabels", chosen))
        assert chosen.pop(ROLE, "active") == "active", "a label that Pods have at run time only"
        labels = [pod["spec"]["template"]["metadata"]["labels"].items() for pod in workloads]
        assert sum(chosen.items() <= of for of in labels) == 1, obj["metadata"]["name"]


@pytest.mark.parametrize("mode", Mode)
def test_the_marker_is_in_the_selector_where_there_may_be_one_replica(mode: Mode) -> None:
    found = by_name(objects_of(FULL[mode]))
    kind = "StatefulSet" if mode is Mode.AT_MOST_ONE else "Deployment"
    workload, companion = found[kind, "reports"], found["Deployment", "reports-companion"]
    marked = workload["spec"]["selector"]["matchLabels"].get("incumbent.dev/singleton")
    assert marked == ("true" if mode.single else None)
    assert workload["metadata"]["labels"]["incumbent.dev/mode"] == mode
    assert "incumbent.dev/mode" not in workload["spec"]["selector"]["matchLabels"]
    assert "incumbent.dev/singleton" not in str(companion)
    assert "incumbent.dev/role" not in str(found)


def test_the_name_of_the_strict_singleton_is_that_of_its_pod() -> None:
    found = by_name(objects_of(PLAIN[Mode.AT_MOST_ONE]))
    service, workload = found["Service", "reports"], found["StatefulSet", "reports"]
    assert workload["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in service["spec"]


def test_nobody_but_a_candidate_for_a_lease_has_a_token() -> None:
    for name, app in EVERY.items():
        objects = objects_of(app)
        kinds = {obj["kind"] for obj in objects}
        leased = app.mode.elected and name not in ("elsewhere", "secret")
        locked = ("EndpointSlice" if name == "endpointslice" else "Lease") in kinds
        assert (locked, "Role" in kinds) == (leased, leased), name
        for obj in objects:
            if obj["kind"] in ("Deployment", "StatefulSet"):
                pod = obj["spec"]["template"]["spec"]
                singleton = not obj["metadata"]["name"].endswith("-companion")
                assert pod["automountServiceAccountToken"] is (leased and singleton), name


def test_a_port_is_a_port_only() -> None:
    with pytest.raises(ConfigError, match="ports"):
        Application(
            name="a",
            image="a/b:1",
            mode=Mode.AT_MOST_ONE,
            owner="x",
            ports=(Port(1, "a"), 2),  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(
    ("mode", "told", "words"),
    [
        (Mode.ACTIVE_STANDBY, {"routing": "label"}, "add ports"),
        (Mode.ACTIVE_STANDBY, {"routing": "dns", "ports": (Port(80),)}, "routing: 'dns'"),
        (Mode.ACTIVE_STANDBY, {"evidence": "yes"}, "must be true or false"),
        (Mode.ACTIVE_STANDBY, {"evidence": True, "store": "etcd://e/x"}, "of this cluster"),
        (Mode.ACTIVE_STANDBY, {"evidence": True, "store_secret": "a/b"}, "of this cluster"),
        (
            Mode.ACTIVE_STANDBY,
            {"routing": "endpointslice", "ports": (Port(80),), "lease": "other"},
            "is called like it",
        ),
        (Mode.PARTLY_SINGLETON, {"evidence": True}, "share a process namespace"),
        (Mode.PARTLY_SINGLETON, {"routing": "endpointslice"}, "has a selector"),
        (Mode.AT_MOST_ONE, {"routing": "label"}, "nothing is elected"),
        (Mode.AT_MOST_ONE, {"evidence": True}, "nothing is elected"),
    ],
)
def test_what_cannot_be_asked_for(mode: Mode, told: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(PLAIN[mode], **told)


def test_the_active_one_is_found_as_was_asked() -> None:
    by_label = by_name(objects_of(EVERY["label"]))["Service", "reports"]["spec"]["selector"]
    assert by_label[ROLE] == "active"
    partly = by_name(objects_of(EVERY["label-partly"]))
    assert ROLE not in partly["Service", "reports"]["spec"]["selector"]
    assert partly["Service", "reports-active"]["spec"]["selector"][ROLE] == "active"
    sliced = by_name(objects_of(EVERY["endpointslice"]))
    assert "selector" not in sliced["Service", "reports"]["spec"]
    made = sliced["EndpointSlice", "reports"]
    assert "endpoints" not in made
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "reports"
    assert made["ports"][0]["name"] == sliced["Service", "reports"]["spec"]["ports"][0]["name"]
