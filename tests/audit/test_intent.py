"""What a workload is meant to be, and what its template says of an election."""

from __future__ import annotations

import pytest

from incumbent.audit.electors import duration, electors, flag, said, script
from incumbent.audit.intent import Intent, intent_of
from incumbent.audit.inventory import Inventory
from incumbent.audit.source import read_text
from incumbent.manifests.modes import Mode

TEMPLATE = """\
apiVersion: apps/v1
kind: {kind}
metadata: {{name: x, labels: {{{labels}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: x}}}}
  {more}
  template:
    metadata: {{labels: {{app: x}}}}
    spec:
      serviceAccountName: x
      containers: [{{name: a, image: {image}, command: {command}, env: {env}}}]
"""
SERVICE = "---\napiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {selector: {app: x}}\n"
LEASES = """\
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: x}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, update]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: x}
roleRef: {kind: ClusterRole, name: x}
subjects: [{kind: ServiceAccount, name: x}]
"""


def workload(
    kind: str = "Deployment",
    *,
    labels: str = "",
    replicas: int = 1,
    more: str = "",
    image: str = "a",
    command: str = "[]",
    env: str = "[]",
) -> str:
    return TEMPLATE.format(
        kind=kind,
        labels=labels,
        replicas=replicas,
        more=more,
        image=image,
        command=command,
        env=env,
    )


def intent(text: str, **declared: Mode) -> Intent:
    inventory = Inventory(read_text(text).manifests)
    return intent_of(inventory, inventory.long_running[0], declared)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (workload(labels="incumbent.dev/mode: partly-singleton"), Mode.PARTLY_SINGLETON),
        (workload(labels="incumbent.dev/singleton: 'true'"), Mode.AT_LEAST_ONE),
        (workload(labels="incumbent.dev/singleton: true"), Mode.AT_LEAST_ONE),
        (workload("StatefulSet", labels="incumbent.dev/singleton: 'true'"), Mode.AT_MOST_ONE),
    ],
)
def test_what_is_written_is_stated(text: str, mode: Mode) -> None:
    found = intent(text)
    assert (found.mode, found.stated) == (mode, True)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (workload(), None),
        (workload(replicas=3), None),
        (workload("DaemonSet"), None),
        (workload("StatefulSet"), Mode.AT_MOST_ONE),
        (workload("StatefulSet", replicas=3), None),
        (workload(more="strategy: {type: Recreate}"), Mode.AT_MOST_ONE),
        (workload(command="[incumbent, run, x, --, y]"), Mode.ACTIVE_STANDBY),
        (workload(command="[x, --leader-elect]"), Mode.ACTIVE_STANDBY),
        (workload(command="[x, --leader-elect]") + SERVICE, Mode.PARTLY_SINGLETON),
        (workload(command="[x, --leader-elect=false]"), None),
        (workload(env="[{name: ENABLE_LEADER_ELECTION, value: 'true'}]"), Mode.ACTIVE_STANDBY),
        (workload() + LEASES, Mode.ACTIVE_STANDBY),
        (workload(labels="incumbent.dev/mode: one"), None),
    ],
)
def test_what_is_inferred(text: str, mode: Mode | None) -> None:
    inventory = Inventory(read_text(text).manifests)
    found = intent_of(inventory, inventory.workloads[0])
    assert (found.mode, found.stated) == (mode, False)


def test_the_word_of_the_caller_comes_first() -> None:
    text = workload(labels="incumbent.dev/mode: partly-singleton")
    assert intent(text, x=Mode.AT_MOST_ONE).mode is Mode.AT_MOST_ONE
    assert intent(text, y=Mode.AT_MOST_ONE).mode is Mode.PARTLY_SINGLETON
    both = {"x": Mode.AT_MOST_ONE, "deployment/x": Mode.AT_LEAST_ONE}
    assert intent(text, **both).mode is Mode.AT_LEAST_ONE


def one(**more: str) -> tuple[str, str | None, float | None, float | None]:
    [manifest] = read_text(workload(**more)).manifests  # type: ignore[arg-type]
    [found] = electors(Inventory([manifest]).workloads[0])
    return found.how, found.lock, found.lease_s, found.renew_s


def test_what_is_read_of_an_election() -> None:
    command = "[/usr/bin/incumbent, run, jobs, --ttl, '6', --, y]"
    assert one(command=command) == ("incumbent", "jobs", 6.0, None)
    command = '[sh, -c, "set -e; exec incumbent run jobs --store kubernetes:// -- y"]'
    assert one(command=command) == ("incumbent", "jobs", None, None)
    env = "[{name: INCUMBENT_ELECTION, value: jobs}, {name: INCUMBENT_TTL, value: '9'}]"
    assert one(env=env) == ("incumbent", "jobs", 9.0, None)
    command = "[x, -leader-elect, --leader-elect-lease-duration=1m, --lease-name=jobs]"
    assert one(command=command) == ("flags", "jobs", 60.0, None)
    image = '"registry/leader-elector:1"'
    assert one(image=image, command="[--election=jobs]") == ("sidecar", "jobs", None, None)
    env = "[{name: LEADER_ELECT, value: 'yes'}, {name: LEADER_ELECTION_ID, value: jobs}]"
    assert one(env=env) == ("flags", "jobs", None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("200ms", 0.2),
        ("15", 15.0),
        ("soon", None),
        ("", None),
        (None, None),
        ("15 s", None),
    ],
)
def test_durations_as_go_writes_them(text: str | None, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_flags() -> None:
    words = script(["x", "-a=1", "--b", "2", "--c", "--d=", 'odd " quote'])
    assert [flag(words, name) for name in "abcde"] == ["1", "2", None, "", None]
    assert flag(script(["y --e=5"]), "e") == "5"
    assert said(["--x"], "x")
    assert said(["--x=true"], "x")
    assert not said(["--x=False"], "x")
    assert not said(["x"], "x")
