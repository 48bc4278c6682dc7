"""Do calls reach the active one, and only that?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.edits import Remove
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.inventory import names_the_active
from incumbent.audit.objects import Manifest, Workload, at, listing, mapping
from incumbent.audit.selectors import selects
from incumbent.manifests import marks
from incumbent.manifests.modes import Mode

_HEADLESS = "https://kubernetes.io/docs/concepts/services-networking/service/#headless-services"
_STATEFUL = (
    "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-network-id"
)
_PROBES = "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/"
_LEADING = re.compile(r"\b(?:is[-_]?)?(?:leader|leadership|primary|master|active)\b", re.IGNORECASE)


@rule(
    "INC041",
    Severity.HIGH,
    "a standby is never ready",
    why="""Where readiness means leadership, a rollout waits for standbys that cannot get ready,
    an ordered StatefulSet stops at its first Pod, and a budget counts one healthy Pod of three.""",
    fix="""Let readiness say that the Pod could serve. Send calls to the active one by a label
    that it gets at run time (`incumbent.dev/role: active`).""",
    links=(_PROBES,),
)
def ready_is_leading(case: Case) -> Iterator[Sighting]:
    """Find readiness probes that ask who leads."""
    for workload, intent in case.elected:
        for container in workload.containers:
            probe = mapping(container.body.get("readinessProbe"))
            asked = [at(probe, "httpGet", "path"), *listing(at(probe, "exec", "command"))]
            found = next((str(each) for each in asked if _LEADING.search(str(each or ""))), None)
            if found:
                text = f"{workload} is {intent.mode}, and ready is who passes {found!r}"
                yield Sighting(workload.manifest, (*container.path, "readinessProbe"), text)


@rule(
    "INC042",
    Severity.HIGH,
    "calls reach standbys",
    why="""The Service selects every replica, and only one of them is active: of n replicas, one
    call in n is answered by the active one.""",
    fix=f"""Select `{marks.ROLE}: active` too; or, if all replicas may answer, the mode is
    partly-singleton.""",
    links=("https://kubernetes.io/docs/concepts/services-networking/service/",),
)
def reaches_standbys(case: Case) -> Iterator[Sighting]:
    """Find Services over all replicas of which one is active."""
    for workload, intent in case.elected:
        if intent.mode is not Mode.ACTIVE_STANDBY or workload.replicas < 2:
            continue
        for meant in case.inventory.services(workload):
            service = meant.manifest
            if not meant.by and not _between_peers(service, workload) and not _measures(service):
                text = f"{service} sends to all {workload.replicas} replicas of {workload}"
                yield Sighting(service, ("spec", "selector"), text, intent.weighed(Severity.HIGH))


def _between_peers(service: Manifest, workload: Workload) -> bool:
    governs = workload.spec.get("serviceName") == service.name
    return governs or service.at("spec", "publishNotReadyAddresses") is True


def _measures(service: Manifest) -> bool:
    ports = listing(service.at("spec", "ports"))
    return bool(ports) and all("metrics" in str(mapping(each).get("name")) for each in ports)


@rule(
    "INC043",
    Severity.CRITICAL,
    "the template says of every Pod that it is the active one",
    why="""A label in the template is on each Pod from its birth. A Service that selects by it
    sends to standbys, and so does a budget; and nobody takes it off when the lock is lost.""",
    fix="""Leave it out of the template; whoever is elected puts it on its own Pod, and takes it
    off.""",
)
def role_in_template(case: Case) -> Iterator[Sighting]:
    """Find templates with a label of run time."""
    for workload in case.inventory.workloads:
        intent = case.intent(workload)
        for key, value in workload.pod_labels.items():
            ours = key == marks.ROLE
            if ours or (intent.elected and workload.replicas > 1 and names_the_active(key, value)):
                path = (*workload.template_path, "metadata", "labels", key)
                chosen = key not in mapping(workload.selector.get("matchLabels"))
                yield Sighting(
                    workload.manifest,
                    path,
                    f"every Pod of {workload} is labelled {key}={value}",
                    edits=(Remove(path),) if chosen else (),
                )


@rule(
    "INC044",
    Severity.MEDIUM,
    "callers are sent to Pods that are not ready",
    why="""`publishNotReadyAddresses` gives out Pods that start, that end and that are broken.
    Peers that look for one another want that; callers do not.""",
    fix="Only on the headless Service of the StatefulSet's own peers.",
    links=(_HEADLESS,),
)
def not_ready_published(case: Case) -> Iterator[Sighting]:
    """Find Services for callers that publish what is not ready."""
    seen: set[int] = set()
    for workload, _ in case.singletons:
        for meant in case.inventory.services(workload):
            service = meant.manifest
            published = service.at("spec", "publishNotReadyAddresses") is True
            peers = workload.spec.get("serviceName") == service.name and workload.replicas > 1
            if published and not peers and id(service) not in seen:
                seen.add(id(service))
                path = ("spec", "publishNotReadyAddresses")
                text = f"{service} gives out Pods of {workload} that are not ready"
                yield Sighting(service, path, text, edits=(Remove(path),))


@rule(
    "INC045",
    Severity.MEDIUM,
    "the Pod of the StatefulSet has no name",
    why="""The names `POD.SERVICE.NAMESPACE.svc` and `SERVICE.NAMESPACE.svc` lead to the Pod's
    own address only if `serviceName` is the name of a headless Service that selects it.""",
    fix="""One name in both places, `clusterIP: None`, and the labels of the template in the
    selector.""",
    links=(_STATEFUL, _HEADLESS),
)
def no_governing_service(case: Case) -> Iterator[Sighting]:
    """Find StatefulSets whose serviceName is missing, or leads to nothing that would do."""
    for workload in case.inventory.long_running:
        if workload.kind != "StatefulSet":
            continue
        wanted = workload.spec.get("serviceName")
        path = ("spec", "serviceName")
        if not wanted:
            yield Sighting(workload.manifest, path, f"{workload} has no serviceName")
            continue
        there = [
            each for each in case.inventory.of("Service") if each.namespace == workload.namespace
        ]
        found = next((each for each in there if each.name == wanted), None)
        if found is None:
            others = [m.manifest.name for m in case.inventory.services(workload)]
            hint = f"; {', '.join(others)} selects its Pods" if others else ""
            text = f"{workload} names the Service {wanted}, which is not in this set{hint}"
            yield Sighting(workload.manifest, path, text)
        elif found.at("spec", "clusterIP") != "None":
            text = f"{found}, which {workload} names, is not headless"
            yield Sighting(found, ("spec", "clusterIP"), text)
        elif not selects(
            {"matchLabels": mapping(found.at("spec", "selector"))}, workload.pod_labels
        ):
            text = f"{found}, which {workload} names, does not select its Pods"
            yield Sighting(found, ("spec", "selector"), text)


@rule(
    "INC046",
    Severity.HIGH,
    "an outage of the API server restarts everything",
    why="""A liveness probe that asks the API server fails in all Pods at once when that cannot
    be reached. Each restart stops work that was in no danger, and adds to the load when the
    server is back.""",
    fix="""Let liveness say whether the work goes on. To end what is cut off, ask the API server
    *and* the peers, and fail if none answers.""",
    links=(_PROBES,),
)
def alive_is_connected(case: Case) -> Iterator[Sighting]:
    """Find liveness probes that ask the API server."""
    for workload in case.inventory.workloads:
        for container in workload.containers:
            text = json.dumps(mapping(container.body.get("livenessProbe")))
            if re.search(r"kubectl|kubernetes\.default|KUBERNETES_SERVICE_HOST", text):
                path = (*container.path, "livenessProbe")
                said = f"{container.name} of {workload} is alive only while the API server answers"
                yield Sighting(workload.manifest, path, said)
