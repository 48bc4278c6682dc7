"""What only a running cluster shows: two at this moment, or nobody.

Times come from several clocks: `renewTime` from the holder's, `deletionTimestamp` from the API
server's, and ours. So nothing is said before a time is past by a good deal more than clocks differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from incumbent.audit.case import Case
from incumbent.audit.electors import electors
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.inventory import names_the_active
from incumbent.audit.objects import Manifest, Workload, at, listing, mapping
from incumbent.audit.selectors import selects
from incumbent.manifests import marks

_SLACK_S = 30.0
_MONTH_S = 30 * 86_400.0
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_NODE_LEASES = "kube-node-lease"
_OURS = "incumbent.dev/term"
_SHUTDOWN = "https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/"
_LEASES = "https://kubernetes.io/docs/concepts/architecture/leases/"


def pods_of(case: Case, workload: Workload) -> list[Manifest]:
    """Return the Pods of a workload that have not finished."""
    return [
        each
        for each in case.inventory.pods_in(workload.namespace)
        if workload.selector
        and selects(workload.selector, each.labels)
        and each.at("status", "phase") not in ("Succeeded", "Failed")
    ]


def ends_at(pod: Manifest) -> datetime | None:
    """Return when a Pod that is ending should be gone."""
    return when(pod.metadata.get("deletionTimestamp"))


def when(text: object) -> datetime | None:
    """Return the time that the API server writes, or None."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def _age_s(case: Case, time: datetime | None) -> float:
    if case.read_at is None or time is None:
        return float("-inf")
    return (case.read_at - time).total_seconds()


@rule(
    "INC101",
    Severity.CRITICAL,
    "two Pods of a singleton, now",
    why="""The old Pod is ending and the new one is there. Until the old one is gone both may
    work; behind a cut that lasts as long as the cut.""",
    fix="""See that the old one is off, by its node, and not by force. Then mend what let them
    overlap.""",
    live=True,
)
def overlap(case: Case) -> Iterator[Sighting]:
    """Find singletons with more than one Pod."""
    for workload, intent in case.alone:
        found = pods_of(case, workload)
        ending = workload.manifest.at("status", "terminatingReplicas") or 0
        running = workload.manifest.at("status", "replicas") or 0
        if len(found) > 1:
            names = ", ".join(each.name + ending_of(each) for each in found)
            text = f"{workload}, which is {intent.mode}, has {len(found)} Pods: {names}"
        elif ending and running:
            text = f"{workload}, which is {intent.mode}, has {ending} Pods ending beside {running}"
        else:
            continue
        severity = intent.weighed(Severity.CRITICAL if intent.strict else Severity.HIGH)
        yield Sighting(workload.manifest, ("status",), text, severity)


def ending_of(pod: Manifest) -> str:
    """Return what to say of a Pod that is ending."""
    return " (Terminating)" if pod.metadata.get("deletionTimestamp") else ""


@rule(
    "INC102",
    Severity.CRITICAL,
    "two Pods are labelled as the active one",
    why="""A Service that selects by the label sends to both. Either two are active, or one has
    lost the lock and kept the label.""",
    fix="Compare with the Lease; take the label off the other Pod, and find out why it was left.",
    live=True,
)
def two_active(case: Case) -> Iterator[Sighting]:
    """Find workloads with several Pods that say that they are active."""
    for workload in case.inventory.long_running:
        labels: dict[str, list[Manifest]] = {}
        for pod in pods_of(case, workload):
            for key, value in pod.labels.items():
                added = key not in workload.pod_labels
                if added and (key == marks.ROLE or names_the_active(key, value)):
                    labels.setdefault(f"{key}={value}", []).append(pod)
        for label, pods in labels.items():
            if len(pods) > 1:
                names = ", ".join(each.name for each in pods)
                yield Sighting(pods[1], ("metadata", "labels"), f"{label} is on {names}")


@rule(
    "INC103",
    Severity.CRITICAL,
    "the lock is renewed by a Pod that is gone",
    why="""The API server has forgotten the Pod, by force or with its Node, and its process runs
    on: it renews. Its successor waits beside it, or works without the lock.""",
    fix="Find the machine that it ran on, and switch it off.",
    links=(_LEASES,),
    live=True,
)
def held_by_a_ghost(case: Case) -> Iterator[Sighting]:
    """Find Leases that hold and whose holder is named after a Pod that is not there."""
    for lease, workload in _ghosts(case):
        text = f"{lease} of {workload} is held by {_holder(lease)}, and there is no such Pod"
        yield Sighting(lease, ("spec", "holderIdentity"), text)


def _ghosts(case: Case) -> Iterator[tuple[Manifest, Workload]]:
    for lease, workload in _leases(case):
        holds = _is_of(_holder(lease), workload) and _over_s(case, lease) <= 0
        if holds and _pod_of(case, lease) is None:
            yield lease, workload


def unsettled_s(case: Case) -> float:
    """Return how long to wait until it shows whether what is gone still renews its lock.

    A Pod that has just ended leaves a Lease behind that holds for some seconds more. Whoever reads
    the cluster again after that time, and finds it held still, has seen a renewal.
    """
    return max((-_over_s(case, lease) + 1.0 for lease, _ in _ghosts(case)), default=0.0)


@rule(
    "INC104",
    Severity.HIGH,
    "Pods run, and nobody renews the lock",
    why="""The lease is long over, and none of the Pods has taken it: they cannot reach the API
    server, lack a right, or do not elect at all.""",
    fix="""Look into the log of a Pod for a refusal; `incumbent doctor kubernetes://` in a Pod
    names a missing right.""",
    links=(_LEASES,),
    live=True,
)
def stale(case: Case) -> Iterator[Sighting]:
    """Find Leases that are long over though candidates run."""
    for lease, workload in _leases(case):
        running = [
            each for each in pods_of(case, workload) if each.at("status", "phase") == "Running"
        ]
        over_s = _over_s(case, lease)
        if _holder(lease) and running and over_s > max(_SLACK_S, 2 * _duration_s(lease)):
            text = f"{lease} is over for {over_s:.0f} s, and {len(running)} Pods of {workload} run"
            yield Sighting(lease, ("spec", "renewTime"), text)


@rule(
    "INC105",
    Severity.HIGH,
    "a Pod should be gone and is not",
    why="""Its grace period is over, and its kubelet has not confirmed the end: the node is cut
    off or lost. Its process may run on. Of a StatefulSet no other Pod is made meanwhile.""",
    fix="""See whether the machine is off. If it is, say so by the out-of-service taint; if that
    cannot be seen, wait. Do not delete by force.""",
    links=(_SHUTDOWN,),
    live=True,
)
def lingering(case: Case) -> Iterator[Sighting]:
    """Find Pods of singletons that are ending for too long."""
    for workload, _ in case.singletons:
        for pod in pods_of(case, workload):
            late_s = _age_s(case, ends_at(pod))
            if late_s > _SLACK_S:
                node = pod.at("spec", "nodeName")
                text = f"{pod} of {workload} should be gone for {late_s:.0f} s; it is on {node}"
                yield Sighting(pod, ("metadata", "deletionTimestamp"), text)


@rule(
    "INC106",
    Severity.CRITICAL,
    "a node is called dead, and lives",
    why="""The out-of-service taint lets others take its Pods and volumes. But its kubelet still
    reports: what runs there has not ended.""",
    fix="Switch the machine off, or take the taint away.",
    links=(_SHUTDOWN,),
    live=True,
)
def alive_out_of_service(case: Case) -> Iterator[Sighting]:
    """Find nodes with the taint whose kubelet has renewed its Lease lately."""
    leases = {
        each.name: each for each in case.inventory.of("Lease") if each.namespace == _NODE_LEASES
    }
    for node in case.inventory.of("Node"):
        taints = [mapping(each).get("key") for each in listing(node.at("spec", "taints"))]
        if _OUT_OF_SERVICE not in taints:
            continue
        lease = leases.get(node.name)
        renewed = lease is not None and _over_s(case, lease) < 0
        if renewed or _condition(node, "Ready") == "True":
            text = f"{node} is out of service by its taint, and its kubelet reports"
            yield Sighting(node, ("spec", "taints"), text)


def _condition(manifest: Manifest, name: str) -> str:
    for each in listing(manifest.at("status", "conditions")):
        if mapping(each).get("type") == name:
            return str(mapping(each).get("status"))
    return ""


@rule(
    "INC107",
    Severity.CRITICAL,
    "the label names another Pod than the lock",
    why="Calls go to a Pod that has lost the lock, or never had it; the holder gets none.",
    fix="The label follows the lock: take it off whoever is not the holder.",
    live=True,
)
def mislabelled(case: Case) -> Iterator[Sighting]:
    """Find Pods that are labelled as active while a fresh Lease names another of their workload."""
    for lease, workload in _leases(case):
        holder = _pod_of(case, lease)
        if holder is None or _over_s(case, lease) > 0:
            continue
        for pod in pods_of(case, workload):
            if pod.labels.get(marks.ROLE) == "active" and pod is not holder:
                text = f"{pod} is labelled as active, and {lease} is held by {holder.name}"
                yield Sighting(pod, ("metadata", "labels", marks.ROLE), text)


@rule(
    "INC108",
    Severity.HIGH,
    "the leader crashes in a loop and keeps the lock",
    why="""The lock belongs to the Pod (an owner reference) and goes only with it. The Pod
    stays, since only its container is restarted.""",
    fix="Delete the Pod, without force; use a Lease that has to be renewed.",
    links=(_LEASES,),
    live=True,
)
def crashing_for_life(case: Case) -> Iterator[Sighting]:
    """Find locks that a crash-looping Pod owns."""
    looping = {
        str(pod.metadata.get("uid")): pod
        for pod in case.inventory.pods
        if any(
            at(each, "state", "waiting", "reason") == "CrashLoopBackOff"
            for each in listing(pod.at("status", "containerStatuses"))
        )
    }
    for lock in case.inventory.of("Lease", "ConfigMap"):
        for each in listing(lock.metadata.get("ownerReferences")):
            pod = looping.get(str(mapping(each).get("uid")))
            if pod is not None and mapping(each).get("kind") == "Pod":
                text = f"{lock} belongs to {pod}, which crashes in a loop"
                yield Sighting(lock, ("metadata", "ownerReferences"), text)


# -- which Lease is whose -------------------------------------------------------------------------


def _leases(case: Case) -> Iterator[tuple[Manifest, Workload]]:
    """Yield each Lease of an election, with the workload whose candidates want it."""
    for workload in case.inventory.long_running:
        here = workload.namespace
        named = {
            (each.lock_namespace or here, each.lock) for each in electors(workload) if each.lock
        }
        for lease in case.inventory.of("Lease"):
            held = lease.namespace == here and _is_of(_holder(lease), workload)
            if (lease.namespace, lease.name) in named or (held and not named):
                yield lease, workload


def _holder(lease: Manifest) -> str:
    return str(lease.at("spec", "holderIdentity") or "")


def _is_of(identity: str, workload: Workload) -> bool:
    """Tell whether an identity begins with what the names of its Pods begin with."""
    return identity.startswith(f"{workload.name}-")


def _pod_of(case: Case, lease: Manifest) -> Manifest | None:
    """Return the Pod that holds a Lease, by NAME_UID, or by NAME and anything else.

    The Pods of a StatefulSet come back under their names. An identity of ours has the UID of the
    Pod in it; that of others has a random word there, so that their Pods go by the name.
    """
    name, _, rest = _holder(lease).partition("_")
    ours = _OURS in lease.annotations
    for pod in case.inventory.pods_in(lease.namespace):
        if pod.name != name:
            continue
        uid = str(pod.metadata.get("uid") or "")
        return pod if not ours or rest.startswith(uid) else None
    return None


def _duration_s(lease: Manifest) -> float:
    found = lease.at("spec", "leaseDurationSeconds")
    return float(found) if isinstance(found, int) else 0.0


def _over_s(case: Case, lease: Manifest) -> float:
    """Return for how long a Lease is over; below zero while it holds."""
    return _age_s(case, when(lease.at("spec", "renewTime"))) - _duration_s(lease)


@rule(
    "INC109",
    Severity.HIGH,
    "the webhook for evictions will soon be asked no more",
    why="""When its certificate is over the API server reaches nobody, and nothing says so: with
    `Ignore` evictions pass unasked where no budget stands, with `Fail` every drain breaks off.""",
    fix="""Print the manifests of `incumbent consent-webhook` again, and apply them: running
    replicas take the new certificate.""",
    links=(
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
    ),
    live=True,
)
def ending_certificate(case: Case) -> Iterator[Sighting]:
    """Find configurations of the webhook whose certificate ends within a month, or has ended."""
    for webhook in case.inventory.of("ValidatingWebhookConfiguration"):
        told = webhook.annotations.get(marks.CERTIFICATE_ENDS)
        left_s = -_age_s(case, when(told))
        if left_s < _MONTH_S:
            said = "has ended" if left_s <= 0 else "ends"
            place = ("metadata", "annotations", marks.CERTIFICATE_ENDS)
            yield Sighting(webhook, place, f"the certificate that {webhook} trusts {said}: {told}")
