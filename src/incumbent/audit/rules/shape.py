"""Is each value of the type that Kubernetes wants, where a rule looks at it?

The other rules take what has another type for not there: they judge `replicas: "two"` as one. So
without this one, what the API server refuses would look clean. Only fields that the rules read are
looked at: whether all of a manifest is well-formed, the API server and its schema say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from incumbent.audit.case import Case
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Manifest, Path, Workload, at, listing, mapping

_Judge = Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _share(value: Any) -> bool:
    return _whole(value) or (
        isinstance(value, str) and value.removesuffix("%").isdecimal() and value.endswith("%")
    )


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _map(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _maps(value: Any) -> bool:
    return _list(value) and all(map(_map, value))


def _texts(value: Any) -> bool:
    return _list(value) and all(map(_text, value))


def _labels(value: Any) -> bool:
    return _map(value) and all(_text(each) for each in value.values() if each is not None)


_WANTED: dict[_Judge, str] = {
    _whole: "a whole number from 0 on",
    _share: "a whole number, or a percentage such as 25%",
    _text: "a string (in quotes, if it looks like something else)",
    _map: "a map",
    _list: "a list",
    _maps: "a list of maps",
    _texts: "a list of strings (in quotes, if one looks like something else)",
    _labels: "a map of strings (in quotes, if one looks like something else)",
}

_Fields = dict[Path, _Judge]

_EVERY: _Fields = {
    ("metadata",): _map,
    ("metadata", "name"): _text,
    ("metadata", "namespace"): _text,
    ("metadata", "labels"): _labels,
    ("metadata", "annotations"): _labels,
}
_LONG_RUNNING: _Fields = {
    ("spec",): _map,
    ("spec", "replicas"): _whole,
    ("spec", "selector"): _map,
    ("spec", "selector", "matchLabels"): _labels,
    ("spec", "template"): _map,
}
_BY_KIND: dict[tuple[str, str], _Fields] = {
    ("apps", "Deployment"): {
        **_LONG_RUNNING,
        ("spec", "strategy"): _map,
        ("spec", "strategy", "type"): _text,
        ("spec", "strategy", "rollingUpdate"): _map,
        ("spec", "strategy", "rollingUpdate", "maxSurge"): _share,
        ("spec", "strategy", "rollingUpdate", "maxUnavailable"): _share,
    },
    ("apps", "StatefulSet"): {
        **_LONG_RUNNING,
        ("spec", "podManagementPolicy"): _text,
        ("spec", "serviceName"): _text,
        ("spec", "updateStrategy"): _map,
        ("spec", "volumeClaimTemplates"): _maps,
    },
    ("apps", "ReplicaSet"): _LONG_RUNNING,
    ("apps", "DaemonSet"): {("spec",): _map, ("spec", "template"): _map},
    ("", "ReplicationController"): {
        ("spec",): _map,
        ("spec", "replicas"): _whole,
        ("spec", "selector"): _labels,
        ("spec", "template"): _map,
    },
    ("batch", "Job"): {
        ("spec",): _map,
        ("spec", "completions"): _whole,
        ("spec", "parallelism"): _whole,
        ("spec", "template"): _map,
    },
    ("batch", "CronJob"): {
        ("spec",): _map,
        ("spec", "concurrencyPolicy"): _text,
        ("spec", "jobTemplate"): _map,
        ("spec", "jobTemplate", "spec"): _map,
        ("spec", "schedule"): _text,
    },
    ("", "Pod"): {("spec",): _map},
    ("", "Service"): {
        ("spec",): _map,
        ("spec", "ports"): _maps,
        ("spec", "selector"): _labels,
    },
    ("policy", "PodDisruptionBudget"): {
        ("spec",): _map,
        ("spec", "maxUnavailable"): _share,
        ("spec", "minAvailable"): _share,
        ("spec", "selector"): _map,
        ("spec", "selector", "matchLabels"): _labels,
    },
    ("autoscaling", "HorizontalPodAutoscaler"): {
        ("spec",): _map,
        ("spec", "maxReplicas"): _whole,
        ("spec", "minReplicas"): _whole,
        ("spec", "scaleTargetRef"): _map,
    },
    ("", "ResourceQuota"): {("spec",): _map, ("spec", "hard"): _map},
    ("rbac.authorization.k8s.io", "Role"): {("rules",): _maps},
    ("rbac.authorization.k8s.io", "ClusterRole"): {("rules",): _maps},
    ("rbac.authorization.k8s.io", "RoleBinding"): {("roleRef",): _map, ("subjects",): _maps},
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): {
        ("roleRef",): _map,
        ("subjects",): _maps,
    },
}
_TEMPLATE: _Fields = {("metadata",): _map, ("metadata", "labels"): _labels, ("spec",): _map}
_POD: _Fields = {
    ("affinity",): _map,
    ("containers",): _maps,
    ("initContainers",): _maps,
    ("priorityClassName",): _text,
    ("restartPolicy",): _text,
    ("serviceAccountName",): _text,
    ("terminationGracePeriodSeconds",): _whole,
    ("tolerations",): _maps,
    ("topologySpreadConstraints",): _maps,
    ("volumes",): _maps,
}
_CONTAINER: _Fields = {
    ("args",): _texts,
    ("command",): _texts,
    ("env",): _maps,
    ("image",): _text,
    ("livenessProbe",): _map,
    ("name",): _text,
    ("readinessProbe",): _map,
    ("resources",): _map,
}


@rule(
    "INC094",
    Severity.HIGH,
    "a value of a type that Kubernetes refuses",
    why="""The API server refuses the object, so what was running before goes on running. The other
    rules have taken the value for not there, so what they do not say means nothing.""",
    fix="A value of the type that is wanted.",
)
def misshapen(case: Case) -> Iterator[Sighting]:
    """Find values of another type in fields that the rules read."""
    for manifest in case.inventory.manifests:
        for path, wanted in _misfits(manifest):
            found = manifest.at(*path)
            shown = repr(found) if len(repr(found)) <= 40 else f"a {type(found).__name__}"
            where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
            text = f"{manifest} has {where[1:]}: {shown}, and {wanted} is wanted"
            yield Sighting(manifest, path, text)


def _misfits(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    yield from _wrong(manifest, (), _EVERY)
    yield from _wrong(manifest, (), _BY_KIND.get((manifest.group, manifest.kind), {}))
    workload = Workload.of(manifest)
    if workload is None:
        return
    if workload.template_path:
        yield from _wrong(manifest, workload.template_path, _TEMPLATE)
    base = workload.pod_path()
    yield from _wrong(manifest, base, _POD)
    for key in ("initContainers", "containers"):
        for number, _ in enumerate(listing(manifest.at(*base, key))):
            yield from _wrong(manifest, (*base, key, number), _CONTAINER)


def _wrong(manifest: Manifest, base: Path, fields: _Fields) -> Iterator[tuple[Path, str]]:
    """Yield each field whose value does not do; null is as good as nothing."""
    body = mapping(manifest.at(*base)) if base else manifest.body
    for path, does in fields.items():
        value = at(body, *path)
        if value is not None and not does(value):
            yield (*base, *path), _WANTED[does]
