"""Which objects there are, as they were read a moment ago, and what can be told of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.marks import KEPT_BY
from incumbent.operator.kinds import Key

__all__ = [
    "MANAGER",
    "Observed",
    "annotation",
    "applied_by_us",
    "claimable",
    "controller_of",
    "deleting",
    "differs",
    "kept_by_of",
    "owned",
]

MANAGER = "incumbent-operator"
"""Under which name fields are owned."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read.

    Attributes:
        owner: the uid of the Singleton.
        objects: by kind and name; all that are labelled as its, and what lies under a name that it
            uses, whoever made it.
        running: the Pods that carry its name and our marks, and the ReplicaSets that make some,
            whoever keeps them; not those of its companion. They were read after the workloads: what
            one that is gone by now has made is among them.
    """

    owner: str
    objects: Mapping[Key, Object]
    running: Sequence[Object]


def owned(obj: Object, uid: str) -> bool:
    """Tell whether the Singleton with this uid has made the object."""
    return controller_of(obj).get("uid") == uid


def controller_of(obj: Object) -> Object:
    """Return the reference to what keeps the object; an empty one if nobody does."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((one for one in references if one.get("controller")), {})


def deleting(obj: Object) -> bool:
    """Tell whether it is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def annotation(obj: Object, name: str) -> str:
    """Return an annotation, or ""."""
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))


def kept_by_of(obj: Object) -> str:
    """Return what keeps the Pods of this workload, or this Pod, from being two; "" if unsaid."""
    if obj["kind"] == "Pod":
        return annotation(obj, KEPT_BY)
    return annotation(obj["spec"]["template"], KEPT_BY)


def claimable(obj: Object) -> list[Object] | None:
    """Return the account of who owns which field, with what we created as applied by us.

    None if it is so already. A creation counts as an update, and what two accounts own, the
    application of one cannot take away.
    """
    entries = obj["metadata"].get("managedFields") or []
    mine = [one for one in entries if one.get("manager") == MANAGER and not one.get("subresource")]
    if [one["operation"] for one in mine] != ["Update"]:
        return None
    return [{**one, "operation": "Apply"} if one in mine else one for one in entries]


def applied_by_us(obj: Object, *path: str) -> bool:
    """Tell whether a field is one that we have applied."""
    for entry in obj["metadata"].get("managedFields") or ():
        if entry.get("manager") != MANAGER or entry.get("subresource"):
            continue
        fields: Any = entry.get("fieldsV1", {})
        for name in path:
            fields = fields.get(f"f:{name}") if isinstance(fields, dict) else None
        if fields is not None:
            return True
    return False


def differs(wanted: Any, found: Any) -> bool:
    """Tell whether something that is wanted is not so; what is there beside it does not count.

    The server drops what is empty. A list is wanted as a whole, but for its order of owners.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return bool(wanted)
        return any(
            differs(value, found[key]) if key in found else value not in ("", {}, [], None)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) < len(wanted):
            return True
        if wanted and isinstance(wanted[0], dict) and "uid" in wanted[0]:
            return any(one not in found for one in wanted)
        return len(found) != len(wanted) or any(map(differs, wanted, found))
    return bool(wanted != found)
