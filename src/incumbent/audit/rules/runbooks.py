"""Do scripts in the cluster do what makes two: delete by force, delete nodes, call a node dead?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Manifest, Path, mapping

_FORCED = "https://kubernetes.io/docs/tasks/run-application/force-delete-stateful-set-pod/"
_SHUTDOWN = "https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/"
_BY_FORCE = re.compile(
    r"kubectl\b[^\n;|&]*\bdelete\b[^\n;|&]*(?:--force\b(?!=false)|--grace-period[= ]0\b|--now\b)"
)
_NODE = re.compile(r"kubectl\b[^\n;|&]*\bdelete\s+(?:nodes?|no)(?:[\s/]|$)")
_TAINT = re.compile(
    r"kubectl\b[^\n;|&]*\btaint\b[^\n;|&]*out-of-service[^\s=:]*[=:][^\n;|&\s]*(?<!-)(?=\s|$)"
)


@rule(
    "INC091",
    Severity.CRITICAL,
    "a script deletes Pods by force",
    why="""The API server forgets the Pod at once; whether its processes have ended nobody
    knows. A StatefulSet starts the next one under the same name.""",
    fix="""Delete without force and wait; if the node is lost, have it fenced first. A guard
    refuses the rest.""",
    links=(_FORCED,),
)
def forces(case: Case) -> Iterator[Sighting]:
    """Find `kubectl delete --force` and its like."""
    yield from _found(case, _BY_FORCE, "deletes by force")


@rule(
    "INC092",
    Severity.CRITICAL,
    "a script deletes Node objects",
    why="""Deleting the object stops no machine: its kubelet and its Pods run on. The Pods are
    taken off the list a minute later and started elsewhere.""",
    fix="Drain, switch the machine off, see that it is off, and only then delete the Node.",
    links=(_SHUTDOWN,),
)
def deletes_nodes(case: Case) -> Iterator[Sighting]:
    """Find `kubectl delete node`."""
    yield from _found(case, _NODE, "deletes a Node")


@rule(
    "INC093",
    Severity.CRITICAL,
    "a script declares a node out of service",
    why="""The taint says: this machine is off, take its Pods and volumes. Nobody checks it. On
    a machine that still runs it makes two, and two that write to one volume.""",
    fix="Set the taint only after the machine is known to be off, as a fencing agent does.",
    links=(_SHUTDOWN,),
)
def declares_dead(case: Case) -> Iterator[Sighting]:
    """Find the taint in a script."""
    yield from _found(case, _TAINT, "sets the out-of-service taint")


def _found(case: Case, pattern: re.Pattern[str], does: str) -> Iterator[Sighting]:
    for manifest, path, text in _scripts(case):
        match = pattern.search(text)
        if match:
            shown = " ".join(match.group().split())[:80]
            yield Sighting(manifest, path, f"{manifest} {does}: `{shown}`")


def _scripts(case: Case) -> Iterator[tuple[Manifest, Path, str]]:
    """Yield what is run: the commands of containers, and the texts of ConfigMaps."""
    for workload in case.inventory.workloads:
        init = mapping(workload.pod_spec).get("initContainers")
        for key, found in (
            ("initContainers", init),
            ("containers", workload.pod_spec.get("containers")),
        ):
            for number, each in enumerate(found if isinstance(found, list) else ()):
                body = mapping(each)
                words = [*_list(body.get("command")), *_list(body.get("args"))]
                path = workload.pod_path(key, number)
                yield workload.manifest, path, " ".join(words).replace("\\\n", " ")
    for manifest in case.inventory.of("ConfigMap"):
        for key, text in mapping(manifest.at("data")).items():
            yield manifest, ("data", key), str(text).replace("\\\n", " ")


def _list(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
