"""Does the election hold: its lock, its times, who stops first, and who is who?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from incumbent.audit.case import Case
from incumbent.audit.electors import Elector, electors, flag, said, script
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Container, Path, Workload, at, listing, mapping
from incumbent.manifests.modes import Mode

_CLIENT_GO = "https://pkg.go.dev/k8s.io/client-go/tools/leaderelection"
_LEASES = "https://kubernetes.io/docs/concepts/architecture/leases/"
_SIDECARS = "https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/"
_LEASE_S = 15.0
"""client-go's lease duration, where nothing else is said."""
_GRACE_S = 30.0
"""The grace period of a Pod that names none; who leaves both at their defaults is not judged."""
_SLEEP = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?)")
_IDENTITY_FLAGS = (
    "identity",
    "leader-elect-identity",
    "leader-election-identity",
    "candidate-id",
    "holder-identity",
)
_IDENTITY_VARIABLE = re.compile(
    r"(?:LEADER|ELECT|LOCK|HOLDER|CANDIDATE)\w*IDENTITY$|(?:HOLDER|CANDIDATE)_ID$"
)
_REFERENCE = re.compile(r"\$\((\w+)\)")


@rule(
    "INC051",
    Severity.CRITICAL,
    "the elector ends before what it elects for",
    why="""All ordinary containers are told to end at the same time. The elector gives up the
    lock at once, the application goes on through its grace period, and the next one has begun
    by then.""",
    fix="""Make it a native sidecar: under `initContainers` with `restartPolicy: Always`. Those
    end after the others. Or let the elector be the parent of the work (`incumbent run`).""",
    links=(_SIDECARS,),
)
def elector_beside(case: Case) -> Iterator[Sighting]:
    """Find electors that are ordinary containers beside others."""
    for workload, elector in case.electors():
        ordinary = [each for each in workload.containers if not each.sidecar]
        if elector.how == "sidecar" and not elector.container.sidecar and len(ordinary) > 1:
            name = elector.container.name
            text = f"{name} of {workload} is told to end together with the other containers"
            yield Sighting(workload.manifest, elector.at, text)


@rule(
    "INC052",
    Severity.CRITICAL,
    "work may go on for longer than the lease",
    why="""An elector that is told to end stops renewing. If the Pod then has more time than the
    lease lasts, the next one is elected while the old one still works.""",
    fix="""A grace period and stop hooks that are shorter than the lease; or go on renewing
    until the work has ended, as `incumbent run` does.""",
    links=(_CLIENT_GO,),
)
def slow_to_end(case: Case) -> Iterator[Sighting]:
    """Find electors whose Pod may take longer to end than others wait."""
    for workload, elector in case.electors():
        if elector.how == "incumbent":
            continue
        lease_s = elector.lease_s or _LEASE_S
        path = workload.pod_path("terminationGracePeriodSeconds")
        grace = workload.manifest.at(*path)
        hook = _longest_hook(workload)
        told = "" if elector.lease_s else " (client-go's default)"
        if hook is not None and hook[1] > lease_s:
            took = f"a stop hook of {workload} takes {hook[1]:g} s"
            text = f"{took}; its lease lasts {lease_s:g} s{told}"
            yield Sighting(workload.manifest, hook[0], text)
        elif isinstance(grace, int | float) and grace > (lease_s if not told else _GRACE_S):
            text = f"{workload} has {grace:g} s to end; its lease lasts {lease_s:g} s{told}"
            yield Sighting(workload.manifest, path, text)


def _longest_hook(workload: Workload) -> tuple[Path, float] | None:
    """Return the stop hook that sleeps longest, and for how long."""
    found: list[tuple[Path, float]] = []
    for each in workload.containers:
        hook = mapping(at(each.body, "lifecycle", "preStop"))
        path = (*each.path, "lifecycle", "preStop")
        slept = at(hook, "sleep", "seconds")
        if isinstance(slept, int | float):
            found.append((path, float(slept)))
        words = " ".join(map(str, listing(at(hook, "exec", "command"))))
        found += [(path, float(number)) for number in _SLEEP.findall(words)]
    return max(found, key=lambda pair: pair[1], default=None)


@rule(
    "INC053",
    Severity.CRITICAL,
    "a leader that is cut off believes in itself for as long as others wait",
    why="""A leader that cannot renew must stop *before* the others take over. If its renew
    deadline is not shorter than the lease, nothing is left for the stop, and for clocks that
    differ.""",
    fix="A renew deadline of two thirds of the lease or less (client-go: 15 s, 10 s, 2 s).",
    links=(_CLIENT_GO,),
)
def late_to_doubt(case: Case) -> Iterator[Sighting]:
    """Find renew deadlines that are as long as the lease."""
    for workload, elector in case.electors():
        lease_s, renew_s = elector.lease_s or _LEASE_S, elector.renew_s
        if renew_s is not None and renew_s >= lease_s:
            text = (
                f"{workload} works on for {renew_s:g} s without renewing a lease of {lease_s:g} s"
            )
            yield Sighting(workload.manifest, elector.at, text)


@rule(
    "INC054",
    Severity.CRITICAL,
    "two applications share a lock",
    why="""Whoever gets it keeps the other application from ever being active; and both take the
    other's release for their own turn.""",
    fix="Name the lock after the workload.",
    links=(_LEASES,),
)
def shared_lock(case: Case) -> Iterator[Sighting]:
    """Find workloads that name the same lock."""
    held: dict[tuple[str, str], Workload] = {}
    for workload, elector in case.electors():
        if not elector.lock:
            continue
        key = (elector.lock_namespace or workload.namespace, elector.lock)
        first = held.setdefault(key, workload)
        if first is not workload:
            text = f"{workload} and {first} both elect by {elector.lock} in {key[0]}"
            yield Sighting(workload.manifest, elector.at, text)


@rule(
    "INC055",
    Severity.CRITICAL,
    "two candidates can have one identity",
    why="""Who finds its own identity in the lock believes that it holds it. The name of a Pod
    of a StatefulSet comes back with the next Pod, a node has several Pods, and a fixed word is
    the same in all replicas.""",
    fix="""The name with the UID: `metadata.uid` in a variable, and both in the identity.
    Without any setting `incumbent` does so.""",
    links=(_LEASES,),
)
def shared_identity(case: Case) -> Iterator[Sighting]:
    """Find identities without a UID."""
    for workload, elector in case.electors():
        for path, parts in _identities(elector):
            if any(each == "metadata.uid" for each in parts):
                continue
            fixed = not any("." in each for each in parts)
            by_node = "spec.nodeName" in parts and "metadata.name" not in parts
            again = workload.kind == "StatefulSet"
            if (fixed and workload.replicas > 1) or by_node or (again and not fixed):
                what = "a fixed word" if fixed else " and ".join(parts)
                text = f"candidates of {workload} go by {what}"
                yield Sighting(workload.manifest, path, text)


def _identities(elector: Elector) -> Iterator[tuple[Path, list[str]]]:
    """Yield where an identity is set, and the fields that it is made of."""
    container = elector.container
    words, environment = script(container.words), container.environment
    # To a sidecar that only elects, `--id` is who it is; to others it may be anything.
    for name in (*_IDENTITY_FLAGS, *(("id",) if elector.how == "sidecar" else ())):
        value = flag(words, name)
        if value is not None:
            references = _REFERENCE.findall(value)
            parts = [
                each for name in references for each in _parts(environment.get(name), environment)
            ]
            yield container.path, parts or [value.replace(".", "-")]
    for number, entry in enumerate(listing(container.body.get("env"))):
        name = str(mapping(entry).get("name"))
        if _IDENTITY_VARIABLE.search(name):
            parts = _parts(environment.get(name), environment)
            yield (*container.path, "env", number), parts


def _parts(value: Any, environment: dict[str, Any]) -> list[str]:
    if isinstance(value, dict):
        return [str(at(value, "fieldRef", "fieldPath") or "another-source")]
    references = _REFERENCE.findall(str(value))
    found = [
        each for name in references if name in environment for each in _field(environment[name])
    ]
    return found or [str(value).replace(".", "-")]


def _field(value: Any) -> list[str]:
    return [str(at(value, "fieldRef", "fieldPath"))] if isinstance(value, dict) else []


@rule(
    "INC056",
    Severity.MEDIUM,
    "the lock is a ConfigMap or Endpoints",
    why="""client-go has taken both out. Each renewal wakes up all who watch such objects
    (kube-proxy among them), and Endpoints are going away.""",
    fix="A Lease. `incumbent migrate` moves a running election.",
    links=(_LEASES,),
)
def old_lock(case: Case) -> Iterator[Sighting]:
    """Find locks of the old kinds."""
    for workload, elector in case.electors():
        words = script(elector.container.words)
        for name in ("leader-elect-resource-lock", "leader-election-resource-lock"):
            kind = flag(words, name)
            if kind is not None and kind != "leases":
                yield Sighting(workload.manifest, elector.at, f"{workload} locks by {kind}")
        store = str(elector.container.environment.get("INCUMBENT_STORE") or flag(words, "store"))
        if "recipe=configmap" in store or "clientgo-configmap" in store:
            text = f"{workload} locks by a ConfigMap"
            yield Sighting(workload.manifest, elector.at, text, Severity.LOW)


@rule(
    "INC057",
    Severity.HIGH,
    "leader for life: a leader that crashes in a loop stays the leader",
    why="""A lock that belongs to its Pod goes only with the Pod. A container that crashes again
    and again is restarted in the same Pod, and no other replica gets its turn.""",
    fix="A Lease that has to be renewed; else an alert on restarts of the leader.",
    links=("https://github.com/nais/elector",),
)
def for_life(case: Case) -> Iterator[Sighting]:
    """Find electors that lock by an owner reference."""
    for workload in case.inventory.workloads:
        for container in workload.containers:
            words = " ".join((*container.words, *map(str, container.environment.values())))
            if "nais/elector" in container.image or "leader-for-life" in words:
                text = f"{container.name} of {workload} is elected for the life of its Pod"
                yield Sighting(workload.manifest, container.path, text)


@rule(
    "INC058",
    Severity.LOW,
    "a takeover after a planned stop waits for the whole lease",
    why="""Nobody gives the lock back: a shell as the first process does not pass SIGTERM on, or
    the release is switched off. Each rollout and each drain costs a lease time.""",
    fix="""`exec` before the program in the script, or no shell; switch the release on;
    `incumbent run` gives the lock back as soon as the work has ended.""",
    links=(_CLIENT_GO,),
)
def not_released(case: Case) -> Iterator[Sighting]:
    """Find electors that do not hear of their end, or keep the lock."""
    for workload, elector in case.electors():
        words = script(elector.container.words)
        off = any(
            flag(words, name) == "false"
            for name in ("leader-elect-release-on-cancel", "leader-election-release-on-cancel")
        )
        if off or (elector.how != "sidecar" and _is_deaf(elector.container)):
            why = (
                "keeps its lock when it ends" if off else "runs below a shell, which keeps SIGTERM"
            )
            yield Sighting(workload.manifest, elector.at, f"{workload} {why}")


def _is_deaf(container: Container) -> bool:
    """Tell whether the first process is a shell that waits for another."""
    words = container.words
    if len(words) < 3 or words[0].rpartition("/")[2] not in ("sh", "bash", "ash", "dash"):
        return False
    options, text = words[1], words[2]
    several = bool(re.search(r"[;&|\n]", text.strip()))
    return "c" in options and several and not re.search(r"\bexec\b|\btrap\b", text)


@rule(
    "INC059",
    Severity.MEDIUM,
    "a replica that is elected, and nothing to elect it from",
    why="""With one replica an election costs a lease time after every crash and protects only
    against the overlap. It is no failover: nobody waits.""",
    fix="Two replicas or more; or the mode at-most-one, as a StatefulSet.",
)
def no_standby(case: Case) -> Iterator[Sighting]:
    """Find stated active-standby of one replica."""
    for workload, intent in case.elected:
        stated = intent.stated and intent.mode is Mode.ACTIVE_STANDBY
        if stated and workload.replicas == 1:
            text = f"{workload} is {intent.mode} and has one replica"
            yield Sighting(workload.manifest, ("spec", "replicas"), text)


@rule(
    "INC060",
    Severity.CRITICAL,
    "the election is switched off",
    why="Several replicas run, and the flag that would elect one of them says no.",
    fix="`--leader-elect=true`; or one replica.",
    links=(_CLIENT_GO,),
)
def switched_off(case: Case) -> Iterator[Sighting]:
    """Find several replicas with an election that is switched off."""
    for workload in case.inventory.long_running:
        if workload.replicas < 2 or electors(workload):
            continue
        for container in workload.containers:
            words = script(container.words)
            for name in ("leader-elect", "leader-election", "enable-leader-election"):
                off = any(word.lstrip("-").partition("=")[0] == name for word in words)
                if off and not said(words, name):
                    text = f"{workload} has {workload.replicas} replicas and --{name}=false"
                    yield Sighting(workload.manifest, container.path, text)
