"""The CustomResourceDefinition of a Singleton, and how its objects are called.

`status` is a subresource: who may write the spec cannot write the status by the same request, and
the operator, which has no right to the spec, cannot change what it is told.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.modes import Mode, summary
from incumbent.operator.rules import NAME
from incumbent.operator.schema import spec_schema
from incumbent.stores.kubernetes.resource import Resource

__all__ = ["SINGLETONS", "definition"]

SINGLETONS = Resource("incumbent.dev", "v1alpha1", "singletons", "Singleton")

_COLUMNS = (
    ("Mode", "string", ".spec.mode", "How it is kept single.", 0),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether it works.", 0),
    ("Active", "string", ".status.holder", "The Pod that is active.", 0),
    ("Since", "date", ".status.since", "Since when.", 0),
    ("Held", "string", '.status.conditions[?(@.type=="Held")].status', "Whether it waits.", 0),
    ("Token", "integer", ".status.token", "The fencing token of its term.", 1),
    ("Handover", "string", ".status.lastHandover.why", "How it came to the active one.", 1),
    ("Image", "string", ".spec.image", "What runs.", 1),
    ("Age", "date", ".metadata.creationTimestamp", "When the Singleton was made.", 0),
)


def definition() -> Object:
    """Return the manifest."""
    modes = " ".join(f"{mode}: {summary(mode)}" for mode in Mode)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": SINGLETONS.full_name},
        "spec": {
            "group": SINGLETONS.group,
            "scope": "Namespaced",
            "names": {
                "kind": SINGLETONS.kind,
                "listKind": "SingletonList",
                "plural": SINGLETONS.plural,
                "singular": "singleton",
            },
            "versions": [
                {
                    "name": SINGLETONS.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*told) for told in _COLUMNS],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": f"An application that must not be active twice. {modes}",
                            "required": ["spec"],
                            "properties": {
                                "spec": {
                                    "description": "The application, and how it is kept single.",
                                    **spec_schema(),
                                },
                                "status": _STATUS,
                            },
                            "x-kubernetes-validations": [NAME.manifest()],
                        }
                    },
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, about: str, priority: int) -> Object:
    found: Object = {"name": name, "type": kind, "jsonPath": path, "description": about}
    return {**found, "priority": priority} if priority else found


def _text(about: str) -> Object:
    return {"type": "string", "description": about}


def _number(about: str) -> Object:
    return {"type": "integer", "format": "int64", "description": about}


def _moment(about: str) -> Object:
    return {"type": "string", "format": "date-time", "description": about}


_GENERATION = _number("The generation of the spec that this was said of.")
_STATUS: Object = {
    "type": "object",
    "description": "What the operator has seen; written by it alone.",
    "properties": {
        "observedGeneration": _GENERATION,
        "operatorTerm": _number("The fencing token of the operator that wrote this."),
        "mode": _text("The mode that was last carried out."),
        "workload": _text("The Deployment or StatefulSet, as KIND/NAME."),
        "replicas": _number("How many replicas there are."),
        "readyReplicas": _number("How many of them are ready."),
        "holder": _text("The Pod that is active, or empty: nobody is, or that is not known."),
        "identity": _text("The holder as the Lease has it; of an election."),
        "token": _number("The fencing token of its term, once it has been renewed."),
        "since": _moment("Since when it is active."),
        "lastHandover": {
            "type": "object",
            "description": "How it came to the one who is active.",
            "properties": {
                "from": _text("Who was active before, or empty."),
                "to": _text("Who is now."),
                "at": _moment("When."),
                "why": _text("Released: the former one gave it up. Silent: it was heard no more."),
            },
        },
        "forced": {
            "type": "array",
            "description": "Fields that somebody else has set, and that were set back.",
            "items": {
                "type": "object",
                "properties": {
                    "object": _text("The object, as KIND/NAME."),
                    "what": _text("Who had set which field, in the words of the API server."),
                    "at": _moment("When it was set back last."),
                },
            },
        },
        "conditions": {
            "type": "array",
            "description": "Ready, Progressing, Held and Degraded.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                "properties": {
                    "type": _text("What it is about."),
                    "status": {
                        "type": "string",
                        "enum": ["True", "False", "Unknown"],
                        "description": "Whether it is so.",
                    },
                    "reason": _text("Why, in one word."),
                    "message": _text("Why, and what to do."),
                    "observedGeneration": _GENERATION,
                    "lastTransitionTime": _moment("Since when it is so."),
                },
            },
        },
    },
}
