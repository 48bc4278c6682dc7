"""Seal and check in an object of the Kubernetes API: an annotation, and the resourceVersion.

The object was read, and is written back with its resourceVersion; the API server refuses the write
if anybody has written it in between, a seal included. So the token that was read is the greatest.
"""

from __future__ import annotations

from typing import Any

from incumbent.errors import ConfigError

__all__ = ["sealed"]

PREFIX = "fencing.incumbent.dev/"
LONGEST_NAME = 63


def sealed(obj: dict[str, Any], resource: str, token: int) -> tuple[int, dict[str, Any]]:
    """Return the greatest token that the object has seen, and a copy that carries ours."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("resourceVersion"):
        raise ConfigError(
            "the object has no metadata.resourceVersion, so a write of it would replace whatever "
            "is there: read it from the API server first, and change what you have read"
        )
    key = PREFIX + resource
    if len(resource) > LONGEST_NAME:
        raise ConfigError(
            f"resource {resource!r}: an annotation's name has at most {LONGEST_NAME} characters"
        )
    notes = metadata.get("annotations") or {}
    told = notes.get(key, "0")
    if not (isinstance(told, str) and told.isascii() and told.isdecimal()):
        raise ConfigError(f"the annotation {key} is {told!r}, and no token: remove or mend it")
    changed = {**metadata, "annotations": {**notes, key: str(max(token, int(told)))}}
    return int(told), {**obj, "metadata": changed}
