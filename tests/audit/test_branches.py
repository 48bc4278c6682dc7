"""Further ways in which a rule is tripped, or is not: an example with one thing changed."""

from __future__ import annotations

import pytest

from incumbent.audit.case import Case
from incumbent.audit.finding import Severity
from incumbent.audit.inventory import Inventory
from incumbent.audit.rules import judge
from incumbent.audit.source import read_text
from tests.audit.kit import READ_AT, example, found, ids

MODE = "incumbent.dev/mode: "
MARK = "incumbent.dev/singleton"
OVER = 'leaseDurationSeconds: 15, renewTime: "2026-01-01T00:05:00'
FRESH = 'leaseDurationSeconds: 15, renewTime: "2026-01-01T00:09:58'
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


ID_OF = (
    "[--leader-elect, --identity=$(X)], env: [{name: X, valueFrom: {fieldRef: {fieldPath: %s}}}]"
)
QUOTA = "---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {name: one}\nspec: {hard: {%s: 1}}\n"


@pytest.mark.parametrize(
    ("rule", "name", "old", "new", "trips"),
    [
        # One, two, many.
        ("INC001", "INC001-bad", "replicas: 3", "replicas: 2", True),
        ("INC001", "INC001-bad", "replicas: 3", "replicas: 1", False),
        (
            "INC001",
            "INC065-good",
            "name: poller}\nspec",
            f"name: poller, labels: {{{MODE}active-standby}}}}\nspec",
            False,
        ),
        ("INC002", "INC002-bad", "  maxReplicas: 5\n", "", True),
        ("INC003", "INC003-bad", "kind: ScaledObject", "kind: HorizontalPodAutoscaler", False),
        ("INC004", "INC004-bad", "{targetKind: deployment, targetName: biller}", "{}", True),
        (
            "INC004",
            "INC004-bad",
            "name: biller, namespace: shop}\nspec: {targetKind",
            "name: biller, namespace: x}\nspec: {targetKind",
            True,
        ),
        (
            "INC005",
            "INC005-bad",
            "kind: StatefulSet\nmetadata: {name: two}",
            "kind: StatefulSet\nmetadata: {name: two, namespace: x}",
            False,
        ),
        (
            "INC005",
            "INC005-good",
            "part: two}}\n  template: {metadata: {labels: {app: shop, part: two",
            "part: one}}\n  template: {metadata: {labels: {app: shop, part: one",
            True,
        ),
        (
            "INC006",
            "INC006-bad",
            "name: poller",
            "name: poller, annotations: {kubernetes.io/config.mirror: x}",
            False,
        ),
        ("INC006", "INC006-bad", "kind: Pod", "kind: ConfigMap", False),
        ("INC008", "INC008-bad", "  replicas: 1\n", "", False),
        ("INC008", "INC008-bad", "replicas: 1", "replicas: 2", False),
        ("INC009", "INC009-good", "key: incumbent.dev/mode", "key: incumbent.dev/singleton", False),
        ("INC009", "INC009-good", "key: incumbent.dev/mode", "key: app", True),
        ("INC009", "INC009-bad", "kyverno.io/v1", "other.io/v1", True),
        # Only a Deployment has a strategy; only a strict one is judged by its kind.
        ("INC011", "INC011-bad", "kind: Deployment", "kind: StatefulSet", False),
        ("INC011", "INC016-bad", "", "", False),
        ("INC013", "INC013-bad", "at-most-one", "at-least-one", False),
        ("INC013", "INC013-good", 'count/pods: "1"', 'count/pods: "2"', True),
        ("INC013", "INC013-good", "name: one}", "name: one, namespace: x}", True),
        ("INC014", "INC014-bad", "kind: StatefulSet", "kind: Deployment", False),
        ("INC015", "INC015-bad", "kind: StatefulSet", "kind: Deployment", False),
        ("INC015", "INC015-bad", "replicas: 1", "replicas: 3", False),
        ("INC016", "INC016-bad", "at-most-one", "at-least-one", False),
        ("INC021", "INC021-bad", "spec:\n  selector", "spec:\n  replicas: 0\n  selector", False),
        ("INC021", "INC021-bad", "[ReadWriteOnce]", "[ReadWriteOncePod]", True),
        ("INC021", "INC021-bad", "[ReadWriteOnce]", "[ReadWriteOnce, ReadWriteMany]", False),
        ("INC022", "INC022-bad", "at-most-one", "at-least-one", False),
        ("INC022", "INC022-bad", "kind: Deployment", "kind: StatefulSet", False),
        ("INC022", "INC022-bad", "[ReadWriteOnce]", "[]", False),
        # Budgets.
        ("INC031", "INC007-bad", "", "", False),
        (
            "INC032",
            "INC032-bad",
            "metadata: {name: ledger}\nspec:\n",
            "metadata: {name: ledger, annotations: {incumbent.dev/owner: x}}\nspec:\n",
            False,
        ),
        ("INC032", "INC035-good", "minAvailable: 1", "minAvailable: 3", False),
        ("INC032", "INC035-good", "minAvailable: 1", "minAvailable: 100%", True),
        ("INC032", "INC034-bad", "maxUnavailable: 1", "minAvailable: 3", True),
        ("INC032", "INC034-bad", "maxUnavailable: 1", "minAvailable: 2", False),
        ("INC032", "INC034-bad", "maxUnavailable: 1", "minAvailable: 50%", False),
        ("INC033", "INC034-bad", "maxUnavailable: 1", "maxUnavailable: 0", False),
        ("INC036", "INC039-good", "", "", False),
        ("INC036", "INC037-bad", "app: database, critical", "app: other, critical", True),
        ("INC036", "INC037-good", '"true"', "now", True),
        # Services.
        ("INC042", "INC042-bad", "active-standby", "partly-singleton", False),
        ("INC042", "INC044-good", "publishNotReadyAddresses: true", "ports: [{port: 1}]", False),
        ("INC042", "INC042-good", "name: http-metrics, ", "", True),
        ("INC043", "INC043-bad", "replicas: 2", "replicas: 1", True),
        ("INC043", "INC043-good", "serviceName: redis", "replicas: 2", False),
        ("INC044", "INC044-bad", "  publishNotReadyAddresses: true\n", "", False),
        ("INC044", "INC044-good", "serviceName: ledger", "serviceName: other", True),
        # Electors.
        ("INC051", "INC051-bad", "      - {name: mailer, image: mailer}\n", "", False),
        ("INC051", "INC051-bad", "registry.example/leader-elector:0.5", "other:1", False),
        (
            "INC052",
            "INC052-bad",
            "image: operator, args: [--leader-elect, --leader-elect-lease-duration=15s]",
            "image: a, command: [incumbent, run, x]",
            False,
        ),
        ("INC052", "INC052-bad", "Seconds: 60", "Seconds: 15", False),
        (
            "INC054",
            "INC054-bad",
            "--leader-elect, --leader-election-id",
            "--leader-elect, --leader-election-namespace=x, --leader-election-id",
            False,
        ),
        ("INC055", "INC055-bad", "replicas: 2", "replicas: 1", True),
        ("INC055", "INC060-good", "--leader-elect=false", "--leader-elect, --identity=a", False),
        ("INC055", "INC060-bad", "--leader-elect=false", "--leader-elect, --identity=a", True),
        (
            "INC055",
            "INC055-bad",
            "args: [--leader-elect, --leader-elect-identity=$(POD_NAME)]",
            "args: [--leader-elect]",
            False,
        ),
        ("INC055", "INC055-bad", "{name: POD_NAME, ", "{name: LEASE_HOLDER_ID, ", True),
        (
            "INC056",
            "INC001-good",
            "poller, --,",
            "poller, --store, 'kubernetes://?recipe=configmap', --,",
            True,
        ),
        ("INC056", "INC001-good", "poller, --,", "poller, --store, 'kubernetes://', --,", False),
        (
            "INC057",
            "INC057-good",
            "{name: a, image: a}",
            "{name: a, image: a, env: [{name: X, value: leader-for-life}]}",
            True,
        ),
        ("INC058", "INC058-bad", "sh, -c", "python, -c", False),
        ("INC058", "INC058-bad", "sh, -c", "/bin/bash, -ec", True),
        ("INC058", "INC058-bad", "sh, -c", "sh, -x", False),
        ("INC059", "INC059-bad", "active-standby", "partly-singleton", False),
        (
            "INC059",
            "INC059-bad",
            "labels: {incumbent.dev/mode: active-standby}",
            "labels: {}",
            False,
        ),
        ("INC060", "INC060-bad", "=false", "", False),
        ("INC060", "INC060-bad", "--leader-elect=false", "--other=false", False),
        # Rights.
        ("INC065", "INC065-bad", "resources: [leases]", "resources: [pods]", False),
        ("INC065", "INC065-bad", "coordination.k8s.io]", "apps]", False),
        ("INC065", "INC065-bad", "[get, update, watch]", "[get, watch]", False),
        ("INC066", "INC066-bad", "[get, create, update]", "[get, update]", False),
        ("INC066", "INC066-bad", "[leases]", "[pods]", False),
        ("INC066", "INC066-good", "verbs: [get, update]", "verbs: [get, create]", False),
        ("INC009", "INC009-good", 'replicas: ">0"', 'other: ">1"', False),
        ("INC042", "INC042-bad", "ports: [{port: 80}]", "type: ClusterIP", True),
        (
            "INC051",
            "INC051-good",
            "- {name: mailer, image: mailer}",
            "- {name: x}\n      - {name: y}",
            False,
        ),
        (
            "INC051",
            "INC052-bad",
            "      - {name: operator",
            "      - {name: x}\n      - {name: operator",
            False,
        ),
        ("INC055", "INC060-good", "[--leader-elect=false]", ID_OF % "spec.nodeName", True),
        ("INC055", "INC060-good", "[--leader-elect=false]", ID_OF % "metadata.name", False),
        # Where it runs.
        ("INC071", "INC071-good", "tolerationSeconds: 30", "tolerationSeconds: 5", False),
        ("INC071", "INC071-good", "tolerationSeconds: 30", "tolerationSeconds: 4", True),
        ("INC071", "INC071-good", "not-ready", "other", True),
        ("INC072", "INC072-bad", "replicas: 2", "replicas: 1", False),
        (
            "INC072",
            "INC072-bad",
            "containers:",
            "affinity: {podAntiAffinity: {x: []}}, containers:",
            False,
        ),
        # Runs.
        ("INC077", "INC075-bad", "", "", True),
        ("INC077", "INC077-bad", "spec: {template", "spec: {parallelism: 1, template", True),
        ("INC077", "INC077-bad", "spec: {template", "spec: {parallelism: 2, template", False),
        (
            "INC077",
            "INC077-bad",
            "spec: {template",
            "spec: {podFailurePolicy: {rules: []}, template",
            False,
        ),
        # Guards.
        ("INC081", "INC081-bad", "labels: {incumbent.dev/mode: at-most-one}", "labels: {}", False),
        ("INC082", "INC082-bad", "[deployments/scale]", "[deployments]", False),
        (
            "INC082",
            "INC084-bad",
            "policyName: one,",
            "policyName: one, matchResources: {objectSelector: {matchLabels: {a: b}}},",
            True,
        ),
        (
            "INC082",
            "INC084-bad",
            "policyName: one,",
            "policyName: two, matchResources: {objectSelector: {matchLabels: {a: b}}},",
            False,
        ),
        ("INC083", "INC083-bad", "resources: [deployments]", "resources: ['*/*']", False),
        ("INC083", "INC083-bad", "resources: [deployments]", "resources: ['*', '*/scale']", False),
        ("INC083", "INC083-bad", "object.spec.replicas <= 1", "object.spec.paused", False),
        ("INC085", "INC085-bad", 'pods: "1"', 'pods: "1", count/pods: "1"', False),
        ("INC087", "INC087-good", "gracePeriodSeconds", "dryRun", True),
        ("INC087", "INC087-good", "[DELETE]", "[CREATE]", True),
        ("INC088", "INC088-bad", "pods/eviction", "pods", False),
        ("INC088", "INC088-good", "name: ask-first", "name: strimzi-drain-cleaner", True),
        # Marks.
        ("INC095", "INC095-bad", 'labels: {incumbent.dev/singleton: "true"}', "labels: {}", True),
        (
            "INC095",
            "INC095-bad",
            'incumbent.dev/singleton: "true"',
            'incumbent.dev/singleton: "false"',
            False,
        ),
        ("INC096", "INC096-bad", "labels: {incumbent.dev/mode: exactly-one}", "labels: {}", False),
        ("INC098", "INC098-bad", "waive.incumbent.dev", "other.dev", False),
        ("INC099", "INC099-bad", "waive.incumbent.dev", "other.dev", False),
    ],
)
def test_a_rule_on_an_example_with_one_thing_changed(
    rule: str, name: str, old: str, new: str, trips: bool
) -> None:
    text = example(name)
    assert old in text
    assert (rule in ids(text.replace(old, new))) == trips


@pytest.mark.parametrize(
    ("rule", "name", "old", "new", "trips"),
    [
        ("INC101", "INC101-bad", "replicas: 1, terminating", "replicas: 0, terminating", False),
        ("INC101", "INC101-good", "phase: Failed", "phase: Running", True),
        ("INC101", "INC102-good", "", "", False),
        (
            "INC102",
            "INC102-good",
            "labels: {app: poller}\n",
            "labels: {app: poller, role: leader}\n",
            False,
        ),
        ("INC102", "INC102-bad", "incumbent.dev/role: active", "role: leader", True),
        ("INC102", "INC102-bad", "incumbent.dev/role: active", "role: worker", False),
        (
            "INC102",
            "INC102-bad",
            "{metadata: {labels: {app: poller}}",
            "{metadata: {labels: {app: poller, incumbent.dev/role: x}}",
            False,
        ),
        ("INC103", "INC103-bad", "00:09:55", "00:09:40", False),
        ("INC103", "INC103-bad", "incumbent.dev/term: x", "other: x", False),
        ("INC103", "INC103-bad", "holderIdentity: ledger-0", "holderIdentity: other-0", False),
        ("INC103", "INC103-good", "holderIdentity: ledger-0_1", "holderIdentity: ledger-1_1", True),
        ("INC103", "INC104-bad", "00:05:00", "00:09:58", True),
        ("INC103", "INC104-bad", f"poller-5-b, {OVER}", f"laptop, {FRESH}", False),
        ("INC104", "INC104-bad", "holderIdentity: poller-5-b, ", "", False),
        ("INC104", "INC104-bad", "phase: Running", "phase: Pending", False),
        ("INC104", "INC104-bad", "inbox, --,", "other, --,", False),
        (
            "INC104",
            "INC104-bad",
            "name: inbox, namespace: shop",
            "name: inbox, namespace: x",
            False,
        ),
        ("INC105", "INC105-bad", "00:08:00", "00:09:45", False),
        ("INC105", "INC105-bad", "00:08:00", "soon", False),
        ("INC106", "INC106-good", "status: Unknown", 'status: "True"', True),
        ("INC106", "INC106-bad", "out-of-service", "other", False),
        ("INC107", "INC107-bad", "00:09:58", "00:09:00", False),
        ("INC107", "INC107-bad", "holderIdentity: poller-5-b", "holderIdentity: poller-5-c", False),
        ("INC107", "INC107-bad", "incumbent.dev/role: active", "incumbent.dev/role: x", False),
        ("INC108", "INC108-bad", "kind: Pod, name", "kind: Node, name", False),
    ],
)
def test_a_cluster_with_one_thing_changed(
    rule: str, name: str, old: str, new: str, trips: bool
) -> None:
    text = example(name)
    assert old in text
    assert (rule in ids(text.replace(old, new), live=True)) == trips


PLACE = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {%s}}\n"
BINDING = """\
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: one}
spec: {policyName: one, validationActions: [Deny]%s}
"""
ENFORCED = "incumbent.dev/guard: enforce"
THERE = f", matchResources: {{namespaceSelector: {{matchLabels: {{{ENFORCED}}}}}}}"


@pytest.mark.parametrize(
    ("more", "trips"),
    [
        (("policies",), True),
        ((PLACE % ENFORCED,), True),
        (("policies", BINDING % ""), False),
        (("policies", (BINDING % "").replace("Deny", "Audit")), True),
        (("policies", (BINDING % "").replace("policyName: one", "policyName: x")), True),
        (("policies", BINDING % THERE), True),
        (("policies", BINDING % THERE, PLACE % "a: b"), True),
        (("policies", BINDING % THERE, PLACE % ENFORCED), False),
        ((QUOTA % "count/pods",), False),
        ((QUOTA % "pods",), True),
    ],
)
def test_a_guard_counts_on_a_cluster_where_it_denies(more: tuple[str, ...], trips: bool) -> None:
    policies = "---\n" + example("INC083-good")
    added = "".join(policies if each == "policies" else each for each in more)
    assert ("INC081" in ids(example("INC095-good") + added, live=True)) == trips


def test_a_guard_must_know_the_workload() -> None:
    policies = ("---\n" + example("INC082-good")).replace("singleton=true", f"{MARK}=true")
    unmarked, marked = example("INC081-bad"), example("INC095-good")
    assert "INC081" in ids(unmarked + policies + BINDING % "", live=True)
    assert "INC081" not in ids(marked + policies + BINDING % "", live=True)


def test_in_files_the_guard_may_be_kept_elsewhere() -> None:
    marked = example("INC095-good")
    assert "INC081" in ids(marked + PLACE % "a: b")
    assert "INC081" not in ids(marked + PLACE % ENFORCED)
    assert "INC081" not in ids(marked + PLACE % "a: b" + "---\n" + example("INC083-good"))


def test_what_may_not_be_seen_is_not_taken_for_missing() -> None:
    manifests = read_text(example("INC095-good")).manifests
    for kind in ("ValidatingAdmissionPolicy", "Namespace"):
        case = Case(Inventory(manifests), read_at=READ_AT, unseen=frozenset({kind}))
        assert "INC081" not in {each.rule.id for each in judge(case)}


def test_a_finding_of_a_role_or_a_service_is_told_once() -> None:
    deployment, role, binding = example("INC065-bad").split("---\n")
    second = deployment.replace("name: poller}\nspec", "name: second}\nspec")
    text = "---\n".join((deployment, second.replace("app: poller", "app: x"), role, binding))
    assert [each.rule.id for each in found(text)].count("INC065") == 1
    workload, service = example("INC044-bad").split("---\n")
    second = workload.replace("name: ledger}\nspec", "name: second}\nspec")
    hits = found(f"{workload}---\n{second}---\n{service}")
    assert [each.rule.id for each in hits].count("INC044") == 1


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
