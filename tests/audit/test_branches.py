"""Further ways in which a rule is tripped, or is not: an example with one thing changed."""

from __future__ import annotations

import pytest

from incumbent.audit.finding import Severity
from tests.audit.kit import example, found, ids

MODE = "incumbent.dev/mode: "
SLEEPS = "lifecycle: {preStop: {exec: {command: [sh, -c, sleep 20]}}}"


@pytest.mark.parametrize(
    ("name", "old", "new", "trips"),
    [
        # A stated singleton of several replicas, whether or not something elects.
        ("INC001-good", "active-standby", "at-most-one", True),
        ("INC001-good", "active-standby", "partly-singleton", False),
        # Autoscalers with and without bounds.
        ("INC002-bad", "maxReplicas: 5", "maxReplicas: 1", False),
        ("INC002-bad", "kind: HorizontalPodAutoscaler", "kind: ScaledObject", True),
        ("INC003-good", "minReplicaCount: 1", "minReplicaCount: 0", True),
        # The autoscaler of evictions by its object alone, and by the namespace alone.
        ("INC004-bad", "enable: ", "other: ", True),
        ("INC004-bad", "targetName: biller", "targetName: other", True),
        ("INC004-good", 'enable: "true"', 'enable: "false"', False),
        ("INC005-bad", "matchLabels: {app: shop}", "matchLabels: {app: shop, part: one}", False),
        ("INC006-bad", "name: poller", "name: poller, annotations: {helm.sh/hook: test}", False),
        ("INC009-good", "exclude:", "never:", True),
        ("INC011-bad", "replicas: 1", "strategy: {rollingUpdate: {maxSurge: 0%}}", False),
        ("INC012-bad", "maxSurge: 0", "maxSurge: 1", False),
        ("INC012-bad", "maxSurge: 0", "maxSurge: 0%", True),
        ("INC013-bad", "kind: Deployment", "kind: ReplicaSet", True),
        ("INC013-bad", "kind: Deployment", "kind: StatefulSet", False),
        ("INC015-bad", "replicas: 1", "updateStrategy: {type: OnDelete}", False),
        ("INC016-bad", "kind: StatefulSet", "kind: Deployment", False),
        ("INC021-bad", "ReadWriteOnce]", "ReadWriteMany]", False),
        ("INC021-bad", "claimName: wiki", "claimName: other", False),
        ("INC022-bad", "ReadWriteOnce]", "ReadWriteMany]", True),
        # Budgets that allow nothing, in all spellings.
        ("INC032-bad", "minAvailable: 100%", "maxUnavailable: 0", True),
        ("INC032-bad", "minAvailable: 100%", 'maxUnavailable: "0%"', True),
        ("INC032-bad", "minAvailable: 100%", "minAvailable: 1", True),
        ("INC032-bad", "minAvailable: 100%", "minAvailable: 50%", True),
        ("INC032-bad", "minAvailable: 100%", "maxUnavailable: 1", False),
        ("INC032-bad", "minAvailable: 100%", "minAvailable: 0", False),
        ("INC033-good", "AlwaysAllow", "IfHealthyBudget", False),
        ("INC035-good", "minAvailable: 1", "minAvailable: 50%", True),
        ("INC036-good", "app: random-generator}}\n", "app: x}}\n", False),
        ("INC037-bad", 'critical-operation: "true"', 'critical-operation: "x"', False),
        ("INC038-good", "minAvailable: 1", "minAvailable: 50%", True),
        # Probes that are a command, and words that only look alike.
        ("INC041-good", "/readyz", "/v1/leadership", True),
        ("INC041-good", "/readyz", "/leaderboard", False),
        (
            "INC041-good",
            "httpGet: {path: /readyz, port: 8080}",
            "exec: {command: [am, leader]}",
            True,
        ),
        ("INC042-bad", "ports: [{port: 80}]", "publishNotReadyAddresses: true", False),
        ("INC042-bad", "replicas: 2", "replicas: 1", False),
        ("INC043-good", "serviceName: redis", "replicas: 1", False),
        ("INC043-bad", "incumbent.dev/role: active", "role: leader", True),
        ("INC043-bad", "incumbent.dev/role: active", "role: backend", False),
        ("INC045-good", "clusterIP: None, ", "", True),
        ("INC045-good", "serviceName: my-singleton", "replicas: 1", True),
        ("INC045-good", "selector: {app: singleton}}", "selector: {app: other}}", True),
        (
            "INC046-good",
            "httpGet: {path: /livez, port: 8080}",
            "exec: {command: [kubectl, get]}",
            True,
        ),
        # The times of an election.
        ("INC052-good", "containers:", f"containers:\n      - {{name: b, {SLEEPS}}}", True),
        ("INC052-good", ", --leader-elect-lease-duration=15s", "", False),
        ("INC052-bad", ", --leader-elect-lease-duration=15s", "", True),
        (
            "INC052-bad",
            "--leader-elect-lease-duration=15s",
            "--leader-elect-lease-duration=2m",
            False,
        ),
        ("INC053-bad", "--leader-elect-lease-duration, 30s, ", "", True),
        ("INC053-good", "20s", "30s", True),
        # The same name in another namespace is another lock.
        ("INC054-bad", "name: mailer}\nspec", "name: mailer, namespace: x}\nspec", False),
        ("INC055-bad", "kind: StatefulSet", "kind: Deployment", False),
        ("INC055-bad", "metadata.name", "spec.nodeName", True),
        ("INC055-bad", "$(POD_NAME)", "ledger", True),
        ("INC055-good", "_$(POD_UID)", "", True),
        ("INC055-bad", "--leader-elect-identity=", "--id=", False),
        ("INC056-good", "--leader-elect-resource-lock=leases", "--x", False),
        (
            "INC058-good",
            "--leader-elect",
            "--leader-elect --leader-elect-release-on-cancel=false",
            True,
        ),
        ("INC058-bad", "prepare; ", "", False),
        ("INC060-bad", "replicas: 2", "replicas: 1", False),
        # Rights in all breadths.
        ("INC065-good", "verbs: [get, update, watch]", "verbs: ['*']", True),
        ("INC065-good", "verbs: [get, update, watch]", "verbs: [get, update, delete]", True),
        ("INC065-good", "  resourceNames: [poller]\n", "", True),
        ("INC065-good", "resources: [leases]", "resources: [leases, '*']", True),
        (
            "INC065-good",
            "kind: ServiceAccount, name: poller",
            "kind: ServiceAccount, name: x",
            False,
        ),
        ("INC071-good", "tolerationSeconds: 30", "tolerationSeconds: 0", True),
        ("INC071-good", "key: node.kubernetes.io/not-ready, operator", "operator", False),
        ("INC072-good", "topologySpreadConstraints", "others", True),
        (
            "INC073-bad",
            "{name: a, image: a}",
            "{name: a, resources: {limits: {memory: 1Gi}}}",
            False,
        ),
        ("INC075-good", "concurrencyPolicy: Forbid", "concurrencyPolicy: Replace", False),
        ("INC075-good", "concurrencyPolicy: Forbid", "concurrencyPolicy: Allow", True),
        ("INC077-bad", "spec: {", "spec: {podFailurePolicy: {rules: []}, parallelism: 3, ", False),
        ("INC077-good", "podReplacementPolicy: Failed", "podReplacementPolicy: Terminating", True),
        # Guards.
        ("INC081-good", "incumbent.dev/guard: enforce", "x: y", True),
        ("INC082-good", "status.selector", "metadata.labels", True),
        ("INC083-good", '"*/scale"', "deployments/scale", True),
        ("INC083-good", ", replicasets, statefulsets]", "]", True),
        ("INC084-good", "policyName: one", "policyName: two", True),
        ("INC085-bad", 'pods: "1"', 'pods: "2"', False),
        ("INC086-bad", "count/pods: 1", "count/pods: 2", False),
        ("INC089-good", "failurePolicy: Ignore", "namespaceSelector: {matchLabels: {a: b}}", False),
        # Scripts.
        ("INC091-good", "delete pod ledger-0", "delete pod ledger-0 --now", True),
        ("INC091-good", "delete pod ledger-0", "delete pod ledger-0 --force=false", False),
        ("INC092-bad", "delete, node, ", "delete, node/a, ", True),
        ("INC092-bad", "delete, node, ", "delete, nodeclaim, ", False),
        ("INC099-good", "INC006", "INC1006", True),
    ],
)
def test_a_change_makes_the_difference(name: str, old: str, new: str, trips: bool) -> None:
    text = example(name)
    assert old in text
    assert (name[:6] in ids(text.replace(old, new))) == trips


@pytest.mark.parametrize(
    ("name", "old", "new", "severity"),
    [
        ("INC011-bad", "at-most-one", "at-least-one", Severity.MEDIUM),
        ("INC011-bad", "labels: {incumbent.dev/mode: at-most-one}", "labels: {}", None),
        ("INC012-bad", "at-most-one", "at-least-one", Severity.MEDIUM),
        ("INC013-bad", f"{MODE}at-most-one", "", Severity.MEDIUM),
        ("INC022-bad", f"{MODE}at-most-one", "", Severity.MEDIUM),
        (
            "INC075-bad",
            "name: report",
            f"name: report, labels: {{{MODE}at-most-one}}",
            Severity.CRITICAL,
        ),
        ("INC075-bad", "report", "other", Severity.MEDIUM),
        (
            "INC077-bad",
            "name: migration",
            f"name: x, labels: {{{MODE}at-most-one}}",
            Severity.CRITICAL,
        ),
        ("INC077-bad", "migration", "other", Severity.MEDIUM),
    ],
)
def test_how_bad_it_is_depends_on_what_is_meant(
    name: str, old: str, new: str, severity: Severity | None
) -> None:
    severities = {each.rule.id: each.severity for each in found(example(name).replace(old, new))}
    assert severities.get(name[:6]) == severity


def test_a_low_priority() -> None:
    low = "---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: low}\n"
    text = example("INC073-good").replace(
        "containers:", "priorityClassName: low\n      containers:"
    )
    assert "INC073" not in ids(text + low + "value: 1\n")
    assert "INC073" in ids(text + low + "value: -1\n")


def test_a_webhook_that_runs_once() -> None:
    once = example("INC034-good").replace("replicas: 3", "replicas: %d")
    service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: ask, namespace: ask}\n"
    text = (
        example("INC089-good")
        + "---\n"
        + once.replace("name: web}\nspec", "name: web, namespace: ask}\nspec")
    )
    text += service + "spec: {selector: {app: web}}\n"
    assert "INC089" in ids(text % 1)
    assert "INC089" not in ids(text % 2)


def test_polaris_alone() -> None:
    text = example("INC009-good").replace("spec:\n  rules:", "spec:\n  none:")
    webhook = example("INC009-bad").rpartition("---")[2]
    assert "INC009" not in ids(text)
    assert "INC009" in ids(f"{text}---{webhook}")
    spared = webhook.replace(
        "rules:", "objectSelector: {matchLabels: {incumbent.dev/mode: x}}\n  rules:"
    )
    assert "INC009" not in ids(f"{text}---{spared}")


def test_what_remedies_nodes_is_enough() -> None:
    text = example("INC016-bad")
    check = "---\napiVersion: remediation.medik8s.io/v1alpha1\nkind: NodeHealthCheck\n"
    check += "metadata: {name: x}\n"
    assert "INC016" not in ids(text + check)
