"""One object as it was written, and one workload: what runs Pods from a template.

A manifest may say anything anywhere, and the API server has not looked at it. So nothing here
trusts a type: `at` returns what stands at a path, or None; `mapping` and `listing` return what they
are called, or an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = [
    "LONG_RUNNING",
    "Container",
    "Manifest",
    "Origin",
    "Workload",
    "at",
    "listing",
    "mapping",
    "strings",
]

Object = dict[str, Any]
Path = tuple[str | int, ...]

_TEMPLATES: dict[tuple[str, str], Path] = {
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("", "ReplicationController"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("", "Pod"): (),
}
LONG_RUNNING = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController")
"""The kinds that keep a number of Pods running."""


def at(value: Any, *path: str | int) -> Any:
    """Return what stands at a path, or None."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def mapping(value: Any) -> Object:
    """Return the map that it is, or an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """Return the list that it is, or an empty one."""
    return value if isinstance(value, list) else []


class Origin:
    """Where an object was read. This one is of no file, as on a live cluster."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def line(self, path: Path) -> int:
        """Return the line of what stands at `path`, or of what is nearest to it; 0 if unknown."""
        return 0


@dataclass(frozen=True, eq=False)
class Manifest:
    """An object, as it was written.

    Attributes:
        body: the whole of it.
        origin: where it was read.
        home: the namespace that it belongs to if it names none.
    """

    body: Object
    origin: Origin = field(default_factory=Origin)
    home: str = "default"

    @cached_property
    def kind(self) -> str:
        """The kind."""
        return str(self.body.get("kind") or "")

    @cached_property
    def group(self) -> str:
        """The API group; "" for that of Pods."""
        group, slash, _ = str(self.body.get("apiVersion") or "").partition("/")
        return group if slash else ""

    @cached_property
    def metadata(self) -> Object:
        """The metadata."""
        return mapping(self.body.get("metadata"))

    @cached_property
    def name(self) -> str:
        """The name, or the prefix that one is made from."""
        return str(self.metadata.get("name") or self.metadata.get("generateName") or "")

    @cached_property
    def namespace(self) -> str:
        """The namespace; it has no meaning for what lies in none."""
        return str(self.metadata.get("namespace") or self.home)

    @cached_property
    def labels(self) -> dict[str, str]:
        """The labels."""
        return strings(self.metadata.get("labels"))

    @cached_property
    def annotations(self) -> dict[str, str]:
        """The annotations."""
        return strings(self.metadata.get("annotations"))

    def at(self, *path: str | int) -> Any:
        """Return what stands at a path, or None."""
        return at(self.body, *path)

    def owner(self, kind: str = "") -> Object | None:
        """Return the reference to the controller that made it, or None."""
        for each in listing(self.metadata.get("ownerReferences")):
            if mapping(each).get("controller") and kind in ("", mapping(each).get("kind")):
                return mapping(each)
        return None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def strings(value: Any) -> dict[str, str]:
    """Return a map of strings, as labels are; other values as they would be written."""
    return {str(key): _string(each) for key, each in mapping(value).items() if each is not None}


def _string(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, eq=False)
class Container:
    """One container of a template.

    Attributes:
        body: as it is written.
        path: where it stands in the manifest.
        sidecar: whether it is an init container that goes on running, and ends after the others.
    """

    body: Object
    path: Path
    sidecar: bool = False

    @property
    def name(self) -> str:
        """The name."""
        return str(self.body.get("name") or "")

    @property
    def image(self) -> str:
        """The image."""
        return str(self.body.get("image") or "")

    @cached_property
    def words(self) -> list[str]:
        """The command and its arguments."""
        command = (*listing(self.body.get("command")), *listing(self.body.get("args")))
        return [_string(word) for word in command]

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Each variable: a string, or the map that says where it is from."""
        found: dict[str, Any] = {}
        for each in listing(self.body.get("env")):
            entry = mapping(each)
            source = entry.get("valueFrom")
            found[str(entry.get("name"))] = source if source else _string(entry.get("value", ""))
        return found


@dataclass(frozen=True, eq=False)
class Workload:
    """What runs Pods from a template, or a Pod that nothing made."""

    manifest: Manifest
    template_path: Path

    @classmethod
    def of(cls, manifest: Manifest) -> Workload | None:
        """Return the workload that an object is, or None."""
        path = _TEMPLATES.get((manifest.group, manifest.kind))
        return None if path is None else cls(manifest, path)

    @property
    def kind(self) -> str:
        """The kind."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """The name."""
        return self.manifest.name

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self.manifest.namespace

    @cached_property
    def spec(self) -> Object:
        """The spec of the workload."""
        return mapping(self.manifest.at("spec"))

    @cached_property
    def template(self) -> Object:
        """Metadata and spec of its Pods."""
        return mapping(self.manifest.at(*self.template_path))

    @cached_property
    def pod_spec(self) -> Object:
        """The spec of its Pods."""
        return mapping(self.template.get("spec"))

    @cached_property
    def pod_labels(self) -> dict[str, str]:
        """The labels of its Pods."""
        return strings(at(self.template, "metadata", "labels"))

    @cached_property
    def selector(self) -> Object:
        """Its selector as a LabelSelector."""
        found = mapping(self.spec.get("selector"))
        return {"matchLabels": found} if self.kind == "ReplicationController" else found

    @property
    def replicas(self) -> int:
        """How many Pods it is to have; one if it does not say."""
        asked = self.spec.get("replicas")
        return asked if isinstance(asked, int) else 1

    @property
    def strategy(self) -> str:
        """How a Deployment is rolled out; "" for what has no such choice."""
        if self.kind != "Deployment":
            return ""
        return str(at(self.spec, "strategy", "type") or "RollingUpdate")

    @cached_property
    def containers(self) -> list[Container]:
        """Every container that runs as long as the Pod does; sidecars too."""
        return list(self._containers())

    def _containers(self) -> Iterator[Container]:
        base = (*self.template_path, "spec")
        for number, each in enumerate(listing(self.pod_spec.get("initContainers"))):
            if mapping(each).get("restartPolicy") == "Always":
                yield Container(mapping(each), (*base, "initContainers", number), sidecar=True)
        for number, each in enumerate(listing(self.pod_spec.get("containers"))):
            yield Container(mapping(each), (*base, "containers", number))

    def pod_path(self, *path: str | int) -> Path:
        """Return the path, in the manifest, of something in the spec of the Pods."""
        return (*self.template_path, "spec", *path)

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations of the workload."""
        return self.manifest.annotations

    def __str__(self) -> str:
        return str(self.manifest)
