"""The set of objects, and what in it belongs to what.

A label that a Pod gets at run time (who is the active one) stands in the selector of a Service or
of a budget and in no template. So an object *means* a workload if its selector matches the labels
of the template, and also if it does once such labels are left out; `Meant.by` says by which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from incumbent.audit.objects import (
    LONG_RUNNING,
    Manifest,
    Object,
    Workload,
    at,
    listing,
    mapping,
)
from incumbent.audit.selectors import named_keys, selects, without

__all__ = ["Inventory", "Meant", "is_role_key", "names_the_active"]

_ROLE_WORDS = frozenset({"role", "instancerole", "spilo-role", "sts-role", "leader", "is-leader"})
_ACTIVE = frozenset({"active", "leader", "master", "primary", "writer", "true"})


def is_role_key(key: str) -> bool:
    """Tell whether a label looks like one that says who is the active Pod."""
    return key.rpartition("/")[2].lower() in _ROLE_WORDS


def names_the_active(key: str, value: str) -> bool:
    """Tell whether a label says of a Pod that it is the active one."""
    return is_role_key(key) and value.lower() in _ACTIVE


@dataclass(frozen=True)
class Meant:
    """An object that selects Pods of a workload.

    Attributes:
        manifest: the object.
        by: the labels in its selector that no template has.
    """

    manifest: Manifest
    by: frozenset[str]


class Inventory:
    """The set."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.manifests = manifests

    def of(self, *kinds: str) -> list[Manifest]:
        """Return the objects of these kinds."""
        return [each for kind in kinds for each in self._by_kind.get(kind, ())]

    @cached_property
    def _by_kind(self) -> dict[str, list[Manifest]]:
        found: dict[str, list[Manifest]] = {}
        for each in self.manifests:
            found.setdefault(each.kind, []).append(each)
        return found

    @cached_property
    def workloads(self) -> list[Workload]:
        """Whatever runs Pods, and was not made by another object of a cluster."""
        found = (Workload.of(each) for each in self.manifests if each.owner() is None)
        return [each for each in found if each is not None]

    @cached_property
    def long_running(self) -> list[Workload]:
        """The workloads that keep a number of Pods running."""
        return [each for each in self.workloads if each.kind in LONG_RUNNING]

    @cached_property
    def pods(self) -> list[Manifest]:
        """Every Pod, whoever made it."""
        return [each for each in self.of("Pod") if not each.group]

    def pods_in(self, namespace: str) -> list[Manifest]:
        """Return the Pods of a namespace."""
        return self._pods_by_namespace.get(namespace, [])

    @cached_property
    def _pods_by_namespace(self) -> dict[str, list[Manifest]]:
        found: dict[str, list[Manifest]] = {}
        for each in self.pods:
            found.setdefault(each.namespace, []).append(each)
        return found

    # -- who selects Pods -------------------------------------------------------------------------

    def services(self, workload: Workload) -> list[Meant]:
        """Return the Services that send to its Pods."""
        return [
            meant
            for each in self.of("Service")
            if mapping(each.at("spec", "selector"))
            for meant in self._meant(each, {"matchLabels": each.at("spec", "selector")}, workload)
        ]

    def budgets(self, workload: Workload) -> list[Meant]:
        """Return the PodDisruptionBudgets over its Pods."""
        return [
            meant
            for each in self.of("PodDisruptionBudget")
            for meant in self._meant(each, mapping(each.at("spec", "selector")), workload)
        ]

    def _meant(self, manifest: Manifest, selector: Object, workload: Workload) -> Iterator[Meant]:
        if manifest.namespace != workload.namespace:
            return
        labels = workload.pod_labels
        if selects(selector, labels):
            yield Meant(manifest, frozenset())
            return
        roles = {key for key in named_keys(selector) if is_role_key(key) and key not in labels}
        left = without(selector, roles)
        if roles and named_keys(left) and selects(left, labels):
            yield Meant(manifest, frozenset(roles))

    # -- who scales -------------------------------------------------------------------------------

    def scalers(self, workload: Workload) -> list[Manifest]:
        """Return what scales it by itself: HorizontalPodAutoscaler, and KEDA's ScaledObject."""
        return [
            each
            for each in self.of("HorizontalPodAutoscaler", "ScaledObject")
            if each.namespace == workload.namespace
            and at(each.body, "spec", "scaleTargetRef", "name") == workload.name
            and (at(each.body, "spec", "scaleTargetRef", "kind") or "Deployment") == workload.kind
        ]

    # -- storage ----------------------------------------------------------------------------------

    def claims(self, workload: Workload) -> list[tuple[str, tuple[str, ...]]]:
        """Return the claims that its Pods mount, each with its access modes."""
        names = {
            str(at(volume, "persistentVolumeClaim", "claimName"))
            for volume in listing(workload.pod_spec.get("volumes"))
        }
        found = [
            (each.name, _access_modes(each.at("spec", "accessModes")))
            for each in self.of("PersistentVolumeClaim")
            if each.namespace == workload.namespace and each.name in names
        ]
        for each in listing(workload.spec.get("volumeClaimTemplates")):
            modes = _access_modes(at(each, "spec", "accessModes"))
            found.append((str(at(each, "metadata", "name")), modes))
        return found

    # -- rights -----------------------------------------------------------------------------------

    def rules(self, workload: Workload) -> list[tuple[Manifest, int, Object]]:
        """Return the RBAC rules that its ServiceAccount has: the role, the number, the rule."""
        account = str(workload.pod_spec.get("serviceAccountName") or "default")
        found = []
        for binding in self.of("RoleBinding", "ClusterRoleBinding"):
            if not any(
                _is_account(mapping(subject), account, workload.namespace, binding)
                for subject in listing(binding.at("subjects"))
            ):
                continue
            reference = mapping(binding.at("roleRef"))
            for role in self.of(str(reference.get("kind"))):
                same_place = role.kind == "ClusterRole" or role.namespace == binding.namespace
                if role.name == reference.get("name") and same_place:
                    rules = enumerate(listing(role.at("rules")))
                    found += [(role, number, mapping(each)) for number, each in rules]
        return found

    # -- namespaces -------------------------------------------------------------------------------

    def namespace(self, name: str) -> Manifest | None:
        """Return the Namespace object, or None."""
        return next((each for each in self.of("Namespace") if each.name == name), None)


def _access_modes(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in listing(value))


def _is_account(subject: Object, name: str, namespace: str, binding: Manifest) -> bool:
    if subject.get("kind") != "ServiceAccount" or subject.get("name") != name:
        return False
    return str(subject.get("namespace") or binding.home) == namespace
