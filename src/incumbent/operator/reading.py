"""An Application as a Singleton says it: the spec is that of a file, under the names of Kubernetes.

Name and namespace are those of the resource. What the model refuses, it refuses here, in a message
that names the field as it stands in the resource.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from incumbent.errors import ConfigError
from incumbent.manifests import Object, reading
from incumbent.manifests.model import Application
from incumbent.operator.naming import (
    FROM_METADATA,
    NOT_SAID,
    PARTS,
    in_words_of_the_resource,
    part_of,
    resource_name,
    types_of,
)

__all__ = ["application_of"]

_MODEL_NAMES = {
    part: {resource_name(field.name): field.name for field in dataclasses.fields(part)}
    for part in PARTS
}


def application_of(singleton: Object) -> Application:
    """Return the application that a Singleton means.

    Raises:
        ConfigError: it cannot be meant so.
    """
    spec, metadata = singleton.get("spec"), singleton["metadata"]
    if not isinstance(spec, Mapping):
        raise ConfigError(f"spec: {spec!r} must map fields to values, as in mode: at-most-one")
    for name in FROM_METADATA:
        if name in spec:
            raise ConfigError(f"{name}: is metadata.{name} here: leave it out of the spec")
    for name, instead in NOT_SAID.items():
        if resource_name(name) in spec:
            text = f"belongs to no Singleton, for it lies in no namespace: {instead}"
            raise ConfigError(f"{name}: {text}")
    told = {**_translated(Application, spec), **{key: metadata[key] for key in FROM_METADATA}}
    try:
        return reading.application_of(told)
    except ConfigError as error:
        raise ConfigError(in_words_of_the_resource(str(error))) from None


def _translated(part: type[Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same under the names of the model; what is unknown stays, to be refused by name.

    Parts and lists of parts are translated inside. The variables of `env` are none: whoever calls
    one `graceSeconds` means it.
    """
    kinds = types_of(part)
    found: dict[str, Any] = {}
    for key, value in told.items():
        name = _MODEL_NAMES[part].get(key, key)
        inner = part_of(kinds[name]) if name in kinds else None
        found[name] = value if inner is None else _inside(inner, value)
    return found


def _inside(part: type[Any], value: object) -> object:
    if isinstance(value, list):
        return [_inside(part, one) for one in value]
    return _translated(part, value) if isinstance(value, Mapping) else value
