"""Plain YAML, to be reviewed: the mode's table in front, and before each object what it is for.

Text that YAML would read as something else is quoted by the library. An object that occurs twice
is written twice: an alias would be one object to a reader, and a riddle to a reviewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from incumbent.errors import MissingExtra
from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects import objects_of
from incumbent.manifests.render.table import head

try:
    import yaml
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "YAML is written with the package 'PyYAML', which is not installed: "
        "pip install 'incumbent[cli,kubernetes]', or use --json"
    ) from missing

__all__ = ["YAML_ERROR", "Twice", "dumped", "parsed", "plain", "why"]

YAML_ERROR = yaml.YAMLError
_WIDE = 4096
_OF_ROLES = {
    "-checkpoints": "What the work notes: these Leases by name, and create, which has none.",
    "-handover": "To hand over before it is evicted: its own Pod, and who else is there.",
}
"""Of a Role, by the end of its name."""

_WHY = {
    "ValidatingAdmissionPolicy": "What the API server refuses to do to the only replica.",
    "ValidatingAdmissionPolicyBinding": "It does so in this namespace.",
    "ServiceAccount": "Who the Pods are.",
    "Role": "All that a candidate may do: this one Lease, by name.",
    "RoleBinding": "The Pods may do it.",
    "ClusterRole": "To hand over when its node is cordoned: to look at nodes, and no more.",
    "ClusterRoleBinding": "The Pods may do it.",
    "Lease": "The election, made here so that nobody needs the right to create one. Without a "
    "spec, so that it can be applied again under a live holder. Do not delete or replace it.",
    "EndpointSlice": "The election, and the address of whoever holds it: one write changes both. "
    "Without endpoints, so that it can be applied again under a live holder. Do not delete it.",
    "PersistentVolumeClaim": "The volume.",
    "Service": "How it is found.",
    "Deployment": "The replicas.",
    "StatefulSet": "The only replica: the next one has the same name, so it waits for this one.",
    "HorizontalPodAutoscaler": "Who sets the number of replicas.",
    "PodDisruptionBudget": "What a drain may do.",
}


class Twice(ValueError):
    """A name stands twice in one mapping; YAML forbids it, and the library takes the last one."""


class _Loader(yaml.SafeLoader):
    """Reads no mapping that says something twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise Twice(f"line {line}: {key.value!r} stands there twice: leave one out")
            seen.add((key.tag, key.value))
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and text of several lines as it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dumped(document: object) -> str:
    """Return one document."""
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, width=_WIDE, allow_unicode=True
    )
    return text


def parsed(text: str) -> object:
    """Return what one document says.

    Raises:
        YAML_ERROR: it is none, or there are several.
        Twice: something in it stands twice.
    """
    return yaml.load(text, _Loader)  # a SafeLoader


def why(obj: Object) -> str:
    """Return in a sentence what an object is for."""
    if obj["kind"] == "Role":
        for ending, text in _OF_ROLES.items():
            if obj["metadata"]["name"].endswith(ending):
                return text
    if obj["kind"] == "Role" and len(obj["rules"]) > 1:
        return "All that a candidate may do: this one lock, by name, and what no name can limit."
    return _WHY[obj["kind"]]


def plain(app: Application, objects: Sequence[Object] | None = None) -> str:
    """Return all objects of an application as one text for `kubectl apply -f -`."""
    documents = objects_of(app) if objects is None else objects
    return head(app) + "".join(f"---\n# {why(obj)}\n{dumped(obj)}" for obj in documents)
