"""Is a volume taken for a lock, or does it stop the rollout?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.rules.rollout import recreated, surge_of

_MODES = "https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes"


@rule(
    "INC021",
    Severity.HIGH,
    "a rolling update waits for a volume that the old Pod holds",
    why="""`ReadWriteOnce` is for one node. A rolling update starts the new Pod before the old
    one goes; on another node it cannot mount the volume (Multi-Attach error), never gets ready,
    and so the old one never goes. On the same node it can, and two write.""",
    fix="`strategy: {type: Recreate}`, or a StatefulSet.",
    links=(_MODES,),
)
def held_volume(case: Case) -> Iterator[Sighting]:
    """Find rolling Deployments with a volume for one node."""
    for workload in case.inventory.workloads:
        if workload.strategy != "RollingUpdate" or workload.replicas == 0:
            continue
        held = [name for name, modes in case.inventory.claims(workload) if _for_one(modes)]
        if held:
            surge = surge_of(workload)
            text = f"{workload} is rolled with a surge of {surge} and mounts {', '.join(held)}"
            edits = recreated(workload) if workload.replicas == 1 else ()
            yield Sighting(workload.manifest, ("spec", "strategy"), text, edits=edits)


@rule(
    "INC022",
    Severity.CRITICAL,
    "`ReadWriteOnce` is no lock",
    why="""It keeps other *nodes* out. Any number of Pods on one node may mount the volume, and
    the successor of a Pod is often put where its volume is. A volume for many nodes keeps
    nobody out.""",
    fix="""`ReadWriteOncePod` for the claim (CSI drivers): the scheduler then keeps a second Pod
    waiting. A StatefulSet keeps the second Pod from being made.""",
    links=(_MODES,),
)
def volume_as_lock(case: Case) -> Iterator[Sighting]:
    """Find strict singletons, of a kind that lets two overlap, on a shared volume."""
    for workload, intent in case.alone:
        if not intent.strict or workload.kind == "StatefulSet":
            continue
        for name, modes in case.inventory.claims(workload):
            if modes and "ReadWriteOncePod" not in modes:
                severity = Severity.CRITICAL if intent.stated else Severity.MEDIUM
                text = f"{workload}, which is {intent.mode}, shares {name} ({', '.join(modes)})"
                yield Sighting(workload.manifest, workload.pod_path("volumes"), text, severity)


def _for_one(modes: tuple[str, ...]) -> bool:
    return bool(modes) and set(modes) <= {"ReadWriteOnce", "ReadWriteOncePod"}
