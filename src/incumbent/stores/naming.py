"""What a checkpoint is called where names are short, and what stands in it where that is text.

Names of elections and of parts have up to 200 characters each, which is too much for one key or one
object. So each is cut, for people, and told from all others by a hash.

The text has both names in full. So a value that stands under another name, by hand or by a hash
that is shared, is refused instead of taken for one's own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Hashable

from incumbent.core.records import FORMAT, Checkpoint
from incumbent.errors import StoreUnusable

__all__ = ["decoded", "digest", "election_key", "encoded", "part_key"]

SHOWN = 60
"""How much of a name is kept for people."""
_RUN = re.compile(r"[-.]+")


def election_key(name: str) -> str:
    """Return what an election's checkpoints are found by: at most 85 of a-z, 0-9, '-' and '.'."""
    return _short(name)


def part_key(part: str) -> str:
    """Return what one of them is found by: at most 85 of a-z, 0-9, '-' and '.'."""
    return _short(part)


def digest(name: str) -> str:
    """Return what tells a name from all others."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _short(name: str) -> str:
    return f"{_RUN.sub('-', name)[:SHOWN].strip('-')}.{digest(name)}"


def encoded(name: str, part: str, value: bytes, token: int, mark: str = "") -> bytes:
    """Return a checkpoint as text; `mark` is for a store to which an equal text is no write."""
    told = {
        "election": name,
        "format": FORMAT,
        "mark": mark,
        "part": part,
        "token": token,
        "value": base64.b64encode(value).decode(),
    }
    return json.dumps(told, sort_keys=True).encode()


def decoded(name: str, part: str, text: bytes, version: Hashable) -> Checkpoint:
    """Return the checkpoint that stands there; an empty `part` stands for any.

    Raises:
        StoreUnusable: it is none, or that of another election or part.
    """
    try:
        told = json.loads(text)
        value = base64.b64decode(told["value"], validate=True)
        ours = told["format"] == FORMAT and told["election"] == name
        if ours and part in ("", told["part"]) and type(told["token"]) is int:
            return Checkpoint(name, str(told["part"]), value, told["token"], version)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        pass  # Whatever is wrong with it, it is not ours.
    raise StoreUnusable(
        f"what is kept as the checkpoint {part!r} of {name!r} is none that a candidate has "
        "written: put it right, or delete it and the work starts afresh"
    )
