"""The Kubernetes objects that run the webhook, and those by which the API server asks it.

Rules
-----
1. **Two replicas, apart.** They keep nothing in memory that counts, so any of them may answer. They
   do not share a node, one of them may be down at a time, and a new version takes one away before
   it adds one. On a cluster of one node the second one waits, and is not needed.
2. **It never asks itself.** `matchConditions` leaves its own Pods out, by namespace and name, which
   is all that an eviction shows. With `failurePolicy: Fail` the drain of its last replica could
   otherwise not be answered by anybody.
3. **It is asked in named namespaces only**, and has rights in those only, by one Role in each.
4. **`failurePolicy: Ignore`, unless told otherwise.** While nobody answers, the budget of a Pod
   stands: `maxUnavailable: 0` for an only replica, and that is 429 as well, so a drain waits, and
   nothing is moved unasked. With `Fail` every eviction in these namespaces, of ordinary Pods as
   well, is an error 500 then, at which `kubectl drain` breaks off. `Fail` is for where there
   are only replicas without a budget.
5. **`timeoutSeconds: 5`**, and the webhook answers a second before that is over. A decision is four
   reads and a write.
6. **`sideEffects: NoneOnDryRun`** is what the API server has to be told of one that writes.
7. The rights are the least: to look at Pods and at what controls them, to write labels and
   annotations of Pods, and Events. RBAC cannot tell a label from an image, so a policy does: what
   this account changes of a Pod is its annotations, and one label.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from incumbent.consent.certificates import Pair
from incumbent.consent.pods import shown
from incumbent.errors import ConfigError
from incumbent.manifests import Object, fields
from incumbent.manifests.guard.policy import API_VERSION as ADMISSION
from incumbent.manifests.guard.policy import quoted, rule
from incumbent.manifests.marks import CERTIFICATE_ENDS, LET_GO

__all__ = ["Installation", "service_name", "webhook_objects"]

POLICIES = ("Ignore", "Fail")
_RBAC = "rbac.authorization.k8s.io"
_PORT = 8443
_TIMEOUT_S = 5
_SECRET_PATH = "/etc/incumbent/tls"
_INJECT = "cert-manager.io/inject-ca-from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installation.

    Attributes:
        image: with `incumbent[cli,kubernetes,webhook]` in it, and with a version.
        guarded: the namespaces in which evictions are asked about.
        namespace: where the webhook itself runs.
        name: of its objects.
        failure_policy: what becomes of evictions while nobody answers.
        arguments: further ones for the command.
        issuer: of cert-manager, as `Issuer/NAME` or `ClusterIssuer/NAME`; "" if none.
        user: whom it runs as.
    """

    image: str
    guarded: tuple[str, ...]
    namespace: str = "incumbent"
    name: str = "incumbent-consent"
    failure_policy: str = "Ignore"
    arguments: tuple[str, ...] = ()
    issuer: str = ""
    user: int = 10001

    def __post_init__(self) -> None:
        fields.image("--image", self.image)
        fields.label("--name", self.name, longest=40)
        fields.label("--namespace", self.namespace)
        fields.known("--failure-policy", self.failure_policy, POLICIES)
        if not self.guarded:
            raise ConfigError("--guard: name a namespace in which evictions are to be asked about")
        for namespace in self.guarded:
            fields.label("--guard", namespace)
        kind, slash, name = self.issuer.partition("/")
        if self.issuer and (kind not in ("Issuer", "ClusterIssuer") or not slash or not name):
            raise fields.refuse("--cert-manager", self.issuer, "is not Issuer/NAME")


def service_name(made: Installation) -> tuple[str, ...]:
    """Return the names by which the API server reaches it, for the certificate."""
    name = f"{made.name}.{made.namespace}.svc"
    return (name, f"{name}.cluster.local")


def webhook_objects(made: Installation, pair: Pair | None) -> list[Object]:
    """Return the objects in the order in which they are applied; the question comes last.

    Args:
        made: what is wanted.
        pair: the certificate; None if cert-manager makes it.
    """
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(made)},
        *_confined(made),
        *(one for namespace in made.guarded for one in _rights(made, namespace)),
        _certificate(made) if pair is None else _secret(made, pair),
        _service(made),
        _deployment(made),
        _budget(made),
        _question(made, pair),
    ]


def _labels(made: Installation) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "incumbent-consent",
        "app.kubernetes.io/instance": made.name,
        "app.kubernetes.io/managed-by": "incumbent",
    }


def _selector(made: Installation) -> dict[str, str]:
    return {key: value for key, value in _labels(made).items() if not key.endswith("managed-by")}


def _meta(made: Installation, namespace: str | None = None) -> Object:
    return {
        "name": made.name,
        "namespace": made.namespace if namespace is None else namespace,
        "labels": _labels(made),
    }


def _rights(made: Installation, namespace: str) -> list[Object]:
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "get", "patch"]},
        {
            "apiGroups": ["apps"],
            "resources": ["deployments", "replicasets", "statefulsets"],
            "verbs": ["get"],
        },
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list"]},
    ]
    subject = {"kind": "ServiceAccount", "name": made.name, "namespace": made.namespace}
    return [
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": _meta(made, namespace),
            "rules": rules,
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": _meta(made, namespace),
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": made.name},
            "subjects": [subject],
        },
    ]


def _confined(made: Installation) -> list[Object]:
    """Return the policy by which it changes nothing of a Pod but annotations and its label."""
    metadata = {"name": f"{made.name}.{made.namespace}", "labels": _labels(made)}
    account = f"system:serviceaccount:{made.namespace}:{made.name}"
    others = f"key == {quoted(LET_GO)} || variables.labels[?key] == variables.labelsBefore[?key]"
    message = "the webhook for evictions changes annotations of a Pod and one label, and no more"
    checks = (
        "object.spec == oldObject.spec",
        f"variables.labelsBefore.all(key, {others}) && variables.labels.all(key, {others})",
    )
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "resourceRules": [rule("", ["pods"], "UPDATE")],
        },
        "matchConditions": [
            {"name": "by-it", "expression": f"request.userInfo.username == {quoted(account)}"}
        ],
        "variables": [
            {"name": "labels", "expression": "object.metadata.?labels.orValue({})"},
            {"name": "labelsBefore", "expression": "oldObject.metadata.?labels.orValue({})"},
        ],
        "validations": [{"expression": check, "message": message} for check in checks],
    }
    binding = {"policyName": metadata["name"], "validationActions": ["Deny"]}
    return [
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": spec,
        },
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": binding,
        },
    ]


def _secret(made: Installation, pair: Pair) -> Object:
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**_meta(made), "annotations": _ends(pair)},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(text).decode("ascii") for key, text in data.items()},
    }


def _ends(pair: Pair) -> dict[str, str]:
    """Return where `incumbent audit --cluster` reads it, who may not read a Secret."""
    return {CERTIFICATE_ENDS: shown(pair.ends)}


def _certificate(made: Installation) -> Object:
    kind, _, name = made.issuer.partition("/")
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": _meta(made),
        "spec": {
            "secretName": made.name,
            "dnsNames": list(service_name(made)),
            "usages": ["server auth"],
            "issuerRef": {"kind": kind, "name": name},
        },
    }


def _service(made: Installation) -> Object:
    port = {"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(made),
        "spec": {"type": "ClusterIP", "selector": _selector(made), "ports": [port]},
    }


def _deployment(made: Installation) -> Object:
    rolling = {"maxSurge": 0, "maxUnavailable": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(made),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": _selector(made)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": _labels(made)}, "spec": _pod(made)},
        },
    }


def _pod(made: Installation) -> Object:
    apart = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": _selector(made)},
    }
    return {
        "serviceAccountName": made.name,
        # It is asked until others have heard that it goes, and ends what it has begun.
        "terminationGracePeriodSeconds": 30,
        "affinity": {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
        },
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": made.user,
            "runAsGroup": made.user,
            "fsGroup": made.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(made)],
        "volumes": [{"name": "tls", "secret": {"secretName": made.name}}],
    }


def _container(made: Installation) -> Object:
    probe = {"httpGet": {"path": "/healthz", "port": "https", "scheme": "HTTPS"}}
    return {
        "name": "webhook",
        "image": made.image,
        "command": [
            *("incumbent", "consent-webhook", "--host", "$(POD_IP)", "--port", str(_PORT)),
            *("--tls-cert", f"{_SECRET_PATH}/tls.crt", "--tls-key", f"{_SECRET_PATH}/tls.key"),
            *("--failure-policy", made.failure_policy, *made.arguments),
            *(word for namespace in sorted(made.guarded) for word in ("--guard", namespace)),
        ],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "https", "containerPort": _PORT}],
        "readinessProbe": {**probe, "periodSeconds": 2},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {
            "requests": {"cpu": "50m", "memory": "96Mi"},
            "limits": {"cpu": "500m", "memory": "96Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tls", "mountPath": _SECRET_PATH, "readOnly": True}],
    }


def _budget(made: Installation) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(made),
        "spec": {
            "selector": {"matchLabels": _selector(made)},
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _question(made: Installation, pair: Pair | None) -> Object:
    metadata: Object = {"name": f"{made.name}.{made.namespace}", "labels": _labels(made)}
    service: Object = {
        "namespace": made.namespace,
        "name": made.name,
        "path": "/evict",
        "port": 443,
    }
    client: Object = {"service": service}
    if pair is None:
        metadata["annotations"] = {_INJECT: f"{made.namespace}/{made.name}"}
    else:
        metadata["annotations"] = _ends(pair)
        client["caBundle"] = base64.b64encode(pair.authority).decode("ascii")
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": [
            {
                "name": "consent.incumbent.dev",
                "admissionReviewVersions": ["v1"],
                "clientConfig": client,
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods/eviction"],
                        "scope": "Namespaced",
                    }
                ],
                "matchPolicy": "Equivalent",
                "namespaceSelector": {
                    "matchExpressions": [
                        {
                            "key": "kubernetes.io/metadata.name",
                            "operator": "In",
                            "values": sorted(made.guarded),
                        }
                    ]
                },
                "matchConditions": [{"name": "not-about-itself", "expression": _not_itself(made)}],
                "failurePolicy": made.failure_policy,
                "sideEffects": "NoneOnDryRun",
                "timeoutSeconds": _TIMEOUT_S,
            }
        ],
    }


def _not_itself(made: Installation) -> str:
    """Return, in CEL, that a question is not about the webhook's own Pods."""
    return f"request.namespace != '{made.namespace}' || !request.name.startsWith('{made.name}-')"
