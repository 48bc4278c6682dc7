"""The schema of a Singleton's spec, drawn from the typed model: names, types, and descriptions.

A description is what the model's docstring says of the attribute, and its default. The default is
not put into the schema: the API server would write it into every resource, and whoever reads one
could not tell any more what somebody has asked for.

What cannot be said by types is in `rules`, and what those do not say the operator says in the
status: nothing is accepted here that is carried out without the model's own checks.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.operator.naming import FROM_METADATA, NOT_SAID, resource_name, types_of
from incumbent.operator.rules import RULES

__all__ = ["spec_schema"]

_PLAIN: dict[type[Any], str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_MOST_ITEMS = 256


def spec_schema() -> Object:
    """Return the schema of `spec`."""
    found = _of_part(Application)
    for name in map(resource_name, (*FROM_METADATA, *NOT_SAID)):
        found["properties"].pop(name, None)
        if name in found["required"]:
            found["required"].remove(name)
    found["x-kubernetes-validations"] = [rule.manifest() for rule in RULES]
    return found


def _of_part(part: type[Any]) -> Object:
    about = _descriptions(part)
    kinds = types_of(part)
    properties, required = {}, []
    for field in dataclasses.fields(part):
        name = resource_name(field.name)
        text = about[field.name]
        if field.default is field.default_factory is dataclasses.MISSING:
            required.append(name)
        else:
            text += _default(field)
        properties[name] = {"description": text, **_of_type(kinds[field.name])}
    found: Object = {"type": "object", "properties": properties}
    return {**found, "required": required} if required else found


def _of_type(kind: Any) -> Object:
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [str(member.value) for member in kind]}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _of_part(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (only,) = [one for one in inner if one is not NoneType]
        return _of_type(only)
    if origin is tuple:
        return {"type": "array", "maxItems": _MOST_ITEMS, "items": _of_type(inner[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of_type(inner[1])}
    raise AssertionError(f"{kind} has no schema")


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if value in (dataclasses.MISSING, None, "", ()):
        return ""
    if isinstance(value, float):
        return f" Default: {value:g}."
    if isinstance(value, tuple) and dataclasses.is_dataclass(value[0]):
        return ""
    shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return f" Default: {shown}."


def _descriptions(part: type[Any]) -> dict[str, str]:
    """Return what the docstring of a part says of each attribute, as a sentence."""
    _, _, attributes = inspect.cleandoc(part.__doc__ or "").partition("Attributes:\n")
    found = {}
    for name, text in _ATTRIBUTE.findall(attributes):
        words = " ".join(text.replace("`", "").split())
        found[name] = words[0].upper() + words[1:]
    return found
