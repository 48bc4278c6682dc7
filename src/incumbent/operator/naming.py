"""How a field of the model is called in a resource, and back: the one place that knows.

The model has the names of Python, with the unit last: `grace_s`. A resource has those of
Kubernetes: `graceSeconds`. The way is mechanical in both directions, so that no list of fields
exists beside the model.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import Any, get_args, get_type_hints

from incumbent.manifests.model import Application
from incumbent.manifests.parts import Autoscaling, Companion, Port, Probe, Resources, Storage

__all__ = [
    "FROM_METADATA",
    "NOT_SAID",
    "PARTS",
    "in_words_of_the_resource",
    "part_of",
    "resource_name",
    "types_of",
]

FROM_METADATA = ("name", "namespace")
"""What a resource says by being called so, and lying there."""
NOT_SAID = {
    "guard": "use `incumbent guard`",
    "handover_cordon": "use `incumbent manifests --handover-cordon`",
}
"""What is not a Singleton's to say, and what to do instead. Policies lie in no namespace, and
outlive it. So does a right to look at nodes, which the operator does not have to give away."""

PARTS: tuple[type[Any], ...] = (
    Application,
    Autoscaling,
    Companion,
    Port,
    Probe,
    Resources,
    Storage,
)
_SECONDS = re.compile(r"_s$")


def resource_name(name: str) -> str:
    """Return what a field of the model is called in a resource."""
    first, *others = _SECONDS.sub("_seconds", name).split("_")
    return first + "".join(word.capitalize() for word in others)


def in_words_of_the_resource(text: str) -> str:
    """Return a message about the model with the names that its reader has written."""
    return _pattern().sub(lambda found: resource_name(found[0]), text)


def types_of(part: type[Any]) -> dict[str, Any]:
    """Return the type of each field of a part."""
    hints = get_type_hints(part)
    return {field.name: hints[field.name] for field in dataclasses.fields(part)}


def part_of(kind: Any) -> type[Any] | None:
    """Return the part that a type is, or is a list of, or may be; None if it is of none."""
    for inner in (kind, *get_args(kind)):
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            return inner
    return None


@cache
def _pattern() -> re.Pattern[str]:
    names = {field.name for part in PARTS for field in dataclasses.fields(part)}
    told = sorted((name for name in names if "_" in name), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(told)})\b")
