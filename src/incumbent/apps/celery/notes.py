"""What is noted of beat's entries: when each was due last, and which message is on its way.

A small document in JSON, in a checkpoint that is sealed with the token of the term.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass

from incumbent.errors import StoreUnusable

__all__ = ["Note", "decode", "encode"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of the schedule.

    Attributes:
        last_run_at: what the wall clock of the holder showed when it was claimed last.
        count: how many times that has been.
        message: the id of the task that was claimed, if it is not known to have been sent.
    """

    last_run_at: float
    count: int
    message: str = ""


def encode(notes: Mapping[str, Note]) -> bytes:
    """Return the notes as they are kept."""
    entries = {name: astuple(note) for name, note in notes.items()}
    return json.dumps({"format": FORMAT, "entries": entries}, separators=(",", ":")).encode()


def decode(value: bytes, what: str) -> dict[str, Note]:
    """Return the notes that were kept; none if nothing was.

    Raises:
        StoreUnusable: something else is there; whoever overwrote it would send tasks again.
    """
    if not value:
        return {}
    try:
        found = json.loads(value)
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}")
        return {
            str(name): Note(float(at), int(count), str(message))
            for name, (at, count, message) in found["entries"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreUnusable(
            f"{what} is none that this version can read ({error}): update this process"
        ) from error
