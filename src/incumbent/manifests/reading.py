"""An application as a file says it: YAML or JSON with the names of the model's fields.

    name: reports
    mode: active-standby
    image: registry.example/reports:1.4
    command: [python, -m, reports]
    resources: {cpu: 500m, memory: 256Mi}

A name that is not a field's is refused, for a setting with a typing error would be one that nobody
has made; and so is a name that stands twice, of which a reader may have seen the other one. What is
empty counts as not said.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from incumbent.errors import ConfigError
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.parts import Autoscaling, Companion, Port, Probe, Resources, Storage

__all__ = ["application_of", "read"]

STDIN = Path("-")

_PARTS: dict[str, type[Any]] = {
    "autoscaling": Autoscaling,
    "companion": Companion,
    "liveness": Probe,
    "readiness": Probe,
    "resources": Resources,
    "startup": Probe,
    "storage": Storage,
}


def read(path: Path) -> dict[str, Any]:
    """Return what a file says; that of `-` is the standard input.

    Raises:
        ConfigError: it cannot be read, is no mapping, or says something twice.
    """
    try:
        text = sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    told = _parsed(path, text)
    if told is None:
        raise ConfigError(f"{path} is empty: write fields into it, as in name: reports")
    if not isinstance(told, dict):
        raise ConfigError(f"{path} must map fields to values, as in name: reports")
    return told


def _parsed(path: Path, text: str) -> object:
    if path.suffix == ".json":
        try:
            return json.loads(text, object_pairs_hook=_once)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        except ValueError as error:
            raise ConfigError(f"{path} is no JSON: {error}") from None
    from incumbent.manifests.render.yaml import YAML_ERROR, Twice, parsed

    try:
        return parsed(text)
    except Twice as error:
        raise ConfigError(f"{path}, {error}") from None
    except YAML_ERROR as error:
        raise ConfigError(f"{path} is no YAML of one document: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name!r} stands there twice: leave one out")
    return dict(pairs)


def application_of(told: Mapping[str, object]) -> Application:
    """Return the application that these fields say.

    Raises:
        ConfigError: a field is missing, unknown, or has a value that cannot work.
    """
    if told.get("mode") is None:
        raise ConfigError(f"mode: is missing: say one of {', '.join(Mode)}")
    made: Application = _made(Application, told, "")
    return made


def _made(kind: type[Any], told: object, where: str) -> Any:
    """Make a part, or the whole."""
    if not isinstance(told, Mapping):
        raise ConfigError(f"{where}: {told!r} must map fields to values")
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in told:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"{where}{'.' if where else ''}{name}: no such field: {meant}")
    for name, field in known.items():
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and told.get(name) is None:
            raise ConfigError(f"{where}{'.' if where else ''}{name}: is missing: add it")
    try:
        return kind(**{name: _value(name, of) for name, of in told.items() if of is not None})
    except ConfigError as error:
        if not where or str(error).startswith(where):
            raise
        raise ConfigError(f"{where}: {error}") from None


def _value(name: str, value: object) -> object:
    if name in _PARTS:
        return _made(_PARTS[name], value, name)
    if name != "ports":
        return value
    if not isinstance(value, list | tuple):
        raise ConfigError(f"ports: {value!r} must be a list, as in [{{name: http, number: 8080}}]")
    return tuple(Port(one) if isinstance(one, int) else _made(Port, one, "ports") for one in value)
