"""How a policy and its binding are written: the same frame for all, around checks in CEL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from incumbent.manifests import Object
from incumbent.manifests.guard.settings import Settings

__all__ = ["Check", "Policy", "any_of", "objects_of", "quoted", "rule"]

API_VERSION = "admissionregistration.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold for a request to pass.

    Attributes:
        holds: in CEL; true if the request may pass.
        refusal: what its sender is told otherwise: what is refused, why, and what to do instead.
            The API server puts the object's kind and name in front of it.
        reason: Forbidden (403) for what nobody should do, Invalid (422) for an object that can be
            mended. Both end a `kubectl drain`; the 429 that it waits for is not for policies.
    """

    holds: str
    refusal: str
    reason: str = "Forbidden"

    def manifest(self) -> Object:
        """Return the validation."""
        return {"expression": self.holds, "message": self.refusal, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy.

    Attributes:
        name: after the prefix.
        rules: which requests, made by `rule`.
        checks: what must hold.
        conditions: in CEL and by name: who is concerned; all must hold. They see no variables.
        variables: in CEL and by name; a later one may use an earlier one.
        labels: of the objects that are concerned, before or after the change; None for all.
        namespaces: labels of namespaces where the settings name none; None for all.
    """

    name: str
    rules: tuple[Object, ...]
    checks: tuple[Check, ...]
    conditions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None
    namespaces: Mapping[str, str] | None = None

    def manifest(self, prefix: str) -> Object:
        """Return the ValidatingAdmissionPolicy."""
        constraints: Object = {"matchPolicy": "Equivalent", "resourceRules": list(self.rules)}
        if self.labels is not None:
            constraints["objectSelector"] = {"matchLabels": dict(self.labels)}
        spec: Object = {"failurePolicy": "Fail", "matchConstraints": constraints}
        if self.conditions:
            spec["matchConditions"] = _named(self.conditions)
        if self.variables:
            spec["variables"] = _named(self.variables)
        spec["validations"] = [check.manifest() for check in self.checks]
        return {
            "apiVersion": API_VERSION,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": self._metadata(prefix),
            "spec": spec,
        }

    def binding(self, settings: Settings) -> Object:
        """Return the ValidatingAdmissionPolicyBinding."""
        spec: Object = {
            "policyName": self._metadata(settings.prefix)["name"],
            "validationActions": ["Warn", "Audit"] if settings.warn else ["Deny"],
        }
        namespaces = self.namespaces if settings.namespaces is None else settings.namespaces
        if namespaces is not None:
            spec["matchResources"] = {"namespaceSelector": {"matchLabels": dict(namespaces)}}
        return {
            "apiVersion": API_VERSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": self._metadata(settings.prefix),
            "spec": spec,
        }

    def _metadata(self, prefix: str) -> Object:
        labels = {"app.kubernetes.io/name": "incumbent-guard"}
        return {"name": f"{prefix}-singleton-{self.name}", "labels": labels}


def objects_of(policies: Iterable[Policy], settings: Settings) -> list[Object]:
    """Return policies and bindings; first all policies, since a binding alone does nothing."""
    made = list(policies)
    return [
        *(policy.manifest(settings.prefix) for policy in made),
        *(policy.binding(settings) for policy in made),
    ]


def rule(group: str, resources: Iterable[str], *operations: str) -> Object:
    """Return which requests: of every version of these resources."""
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": list(operations),
        "resources": list(resources),
    }


def any_of(*expressions: str) -> str:
    """Return, in CEL, whether one of them holds; each on a line of its own."""
    return "\n|| ".join(expressions)


def quoted(text: str) -> str:
    """Return a string of CEL; for what is printable it is JSON's."""
    return json.dumps(text)


def _named(expressions: Mapping[str, str]) -> list[Object]:
    return [{"name": name, "expression": text} for name, text in expressions.items()]
