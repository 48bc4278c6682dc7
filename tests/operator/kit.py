"""Singletons to make objects of, from the applications of the manifests' tests."""

from __future__ import annotations

import dataclasses
from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.operator.naming import FROM_METADATA, NOT_SAID, resource_name
from tests.manifests.kit import EVERY

__all__ = ["SAYABLE", "singleton", "spec_of"]

SAYABLE = [name for name, app in EVERY.items() if not any(getattr(app, f) for f in NOT_SAID)]
"""The applications that a Singleton can mean."""


def spec_of(part: Any) -> dict[str, Any]:
    """Return what a resource says to mean this, and no more than it has to."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        told_otherwise = isinstance(part, Application) and field.name in FROM_METADATA
        if not told_otherwise and value != default:
            found[resource_name(field.name)] = _json(value)
    return found


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return spec_of(value)
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    if isinstance(value, dict):
        return dict(value)
    return str(value) if isinstance(value, str) else value


def singleton(app: Application, **metadata: Any) -> Object:
    return {
        "apiVersion": "incumbent.dev/v1alpha1",
        "kind": "Singleton",
        "metadata": {"name": app.name, "namespace": app.namespace, **metadata},
        "spec": spec_of(app),
    }
