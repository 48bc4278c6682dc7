"""The header fields that carry a token over HTTP, and the answer that refuses it.

    Fencing-Token: 1763776800000000
    Fencing-Resource: ledger

    Fencing-Token    = %x31-39 *18DIGIT                   ; from 1 to 2^63 - 1
    Fencing-Resource = 1*( unreserved / "%" 2HEXUPPER )   ; RFC 3986, of the name in UTF-8

Each is there once. There is one spelling of each value, so that whoever looks at it, a proxy or a
program in another language, reads the same. It is no Integer of RFC 9651: those end at 15 digits,
and the tokens of SQL stores have 16.

The name is there because tokens of two elections say nothing of each other: one that came to the
wrong service would lock the leader of that one out, or let in an old one.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

__all__ = ["LARGEST_TOKEN", "RESOURCE", "STALE", "TOKEN", "read", "refusal", "spelled", "written"]

TOKEN = "Fencing-Token"
RESOURCE = "Fencing-Resource"
LARGEST_TOKEN = 2**63 - 1
"""What every resource can keep."""
STALE = "tag:incumbent.dev,2026:stale-token"
"""The `type` of a refusal (RFC 9457), by which it is told from another 412 of the same service."""

_TOKEN = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


def written(resource: str, token: int) -> dict[str, str]:
    """Return the fields to send."""
    return {TOKEN: str(token), RESOURCE: spelled(resource)}


def spelled(resource: str) -> str:
    """Return a name as it stands in the field."""
    return quote(resource, safe="")


def read(text: str) -> int | None:
    """Return the token that a field's value is, or None if it is none."""
    if not _TOKEN.fullmatch(text):
        return None
    token = int(text)
    return token if token <= LARGEST_TOKEN else None


def refusal(status: int, body: bytes | str) -> str:
    """Return why a service refused the token, or "" if this is no such answer."""
    if status != 412:
        return ""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(told, dict) or told.get("type") != STALE:
        return ""
    return str(told.get("detail", "")) or "the service has seen a later token"
