"""What can be changed in a manifest without any thought: set a value, or take an entry out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from incumbent.audit.objects import Path

__all__ = ["Edit", "Remove", "Set"]


@dataclass(frozen=True)
class Set:
    """Set the value at a path; what is above it must be there."""

    path: Path
    value: Any


@dataclass(frozen=True)
class Remove:
    """Take the entry at a path out of its map."""

    path: Path


Edit = Set | Remove
