"""Which mode a workload is meant to run in, and who says so.

What is stated counts: the caller's word, the label, the marker. Else it is inferred, from what
nobody would write for a service that may run twice; an inferred intent makes a finding milder
(`Intent.weighed`), since it may be wrong. Of one replica alone nothing is inferred: many
services have one because one is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from incumbent.audit.electors import electors, may_write_leases
from incumbent.audit.finding import Severity
from incumbent.audit.inventory import Inventory
from incumbent.audit.objects import LONG_RUNNING, Workload
from incumbent.manifests import marks
from incumbent.manifests.modes import Mode

__all__ = ["Intent", "intent_of"]


@dataclass(frozen=True)
class Intent:
    """What is meant.

    Attributes:
        mode: the mode, or None if nothing tells it.
        stated: whether somebody said so.
        why: who says so, or from what it follows.
    """

    mode: Mode | None
    stated: bool = False
    why: str = ""

    @property
    def said(self) -> str:
        """Return the mode, and who says so."""
        return f"{self.mode} ({self.why})"

    @property
    def alone(self) -> bool:
        """Tell whether there must be one replica."""
        return self.mode in (Mode.AT_LEAST_ONE, Mode.AT_MOST_ONE)

    @property
    def strict(self) -> bool:
        """Tell whether two at once do harm."""
        return self.mode is Mode.AT_MOST_ONE

    @property
    def elected(self) -> bool:
        """Tell whether the replicas choose one of them."""
        return self.mode in (Mode.ACTIVE_STANDBY, Mode.PARTLY_SINGLETON)

    def weighed(self, severity: Severity) -> Severity:
        """Return the severity, or a milder one if the intent is only inferred."""
        return severity if self.stated else severity.milder


def intent_of(
    inventory: Inventory, workload: Workload, declared: Mapping[str, Mode] | None = None
) -> Intent:
    """Return what a workload is meant to be; `declared` has the caller's word, by name."""
    for name in (f"{workload.kind.lower()}/{workload.name}", workload.name):
        if declared and name in declared:
            return Intent(declared[name], stated=True, why="as the command line says")
    labels = {**workload.pod_labels, **workload.manifest.labels}
    written = labels.get(marks.MODE)
    if written in list(Mode):
        return Intent(Mode(written), stated=True, why=f"by its label {marks.MODE}")
    if marks.matches(labels):
        mode = Mode.AT_MOST_ONE if workload.kind == "StatefulSet" else Mode.AT_LEAST_ONE
        return Intent(mode, stated=True, why=f"by its label {marks.SINGLETON}")
    return _inferred(inventory, workload)


def _inferred(inventory: Inventory, workload: Workload) -> Intent:
    if workload.kind not in LONG_RUNNING:
        return Intent(None)
    found = electors(workload)
    if any(each.how == "incumbent" and _is_whole(each.container.words) for each in found):
        return Intent(Mode.ACTIVE_STANDBY, why="`incumbent run` is its command")
    if found or may_write_leases(inventory, workload):
        why = "it is told to elect" if found else "its ServiceAccount may write Leases"
        serves = any(not each.by for each in inventory.services(workload))
        return Intent(Mode.PARTLY_SINGLETON if serves else Mode.ACTIVE_STANDBY, why=why)
    if workload.replicas != 1:
        return Intent(None)
    if workload.kind == "StatefulSet":
        return Intent(Mode.AT_MOST_ONE, why="a StatefulSet of one replica")
    if workload.strategy == "Recreate":
        return Intent(Mode.AT_MOST_ONE, why="one replica, which a rollout stops first")
    if any(
        set(modes) & {"ReadWriteOnce", "ReadWriteOncePod"}
        for _, modes in inventory.claims(workload)
    ):
        return Intent(Mode.AT_MOST_ONE, why="one replica with a volume for one node")
    return Intent(None)


def _is_whole(words: list[str]) -> bool:
    return any("incumbent" in word for word in words[:3])
