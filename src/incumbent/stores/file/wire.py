"""What stands in the files: a number in `counter`, and JSON in all others, one line each.

An election, `elections/NAME.json`:

    {"format": 1, "holder": IDENTITY, "request": null, "serial": N, "session": KEY,
     "successor": "", "term": NONCE, "token": N, "ttl_s": 15.0}

`session` is "" once the holder has given up. `request` is {"term": NONCE, "to": IDENTITY} when
somebody has asked the holder to step down. A session, `sessions/KEY.json`:

    {"beat": 7, "format": 1, "owner": IDENTITY, "ttl_s": 15.0, "void": false}

A barred election: {"bar": TEXT, "format": "barred", "nonce": NONCE, "serial": N, "token": N}. Its
format is none that a candidate of any version knows, so each leaves it alone.

Members that we do not know are kept for as long as the term, or the session, lasts.
"""

from __future__ import annotations

import json
import re
from typing import Any

from incumbent.core.records import FORMAT, Bar, Claim, StepDownRequest

__all__ = [
    "Object",
    "asked",
    "barred",
    "encode",
    "parse_bar",
    "parse_counter",
    "parse_election",
    "parse_session",
    "released",
    "session",
    "taken",
    "vacant",
]

Object = dict[str, Any]

BARRED = "barred"
MOST_DIGITS = 18
"""What is longer does not fit where other programs keep a fencing token: 64 bits."""

_KEY = re.compile(r"[0-9a-z-]{0,100}")
"""A session's key is part of the name of its file."""


def encode(obj: Object) -> bytes:
    """Return what to write into a file."""
    return json.dumps(obj, sort_keys=True).encode() + b"\n"


def parse_counter(value: bytes) -> int | None:
    """Return the last number that was given out; None if it cannot be told."""
    digits = value.strip()
    return int(digits) if digits.isdigit() and len(digits) <= MOST_DIGITS else None


def taken(claim: Claim, session_key: str, serial: int) -> Object:
    """Return the record after `claim` took it."""
    return {
        "format": FORMAT,
        "holder": claim.identity,
        "request": None,
        "serial": serial,
        "session": session_key,
        "successor": "",
        "term": claim.term,
        "token": serial,
        "ttl_s": claim.ttl_s,
    }


def released(before: Object, successor: str, serial: int) -> Object:
    """Return the record after its holder gave it up."""
    return {**before, "serial": serial, "session": "", "successor": successor, "request": None}


def asked(before: Object, request: StepDownRequest, serial: int) -> Object:
    """Return the record with a request to step down in it."""
    return {**before, "serial": serial, "request": {"term": request.term, "to": request.to}}


def parse_election(value: bytes) -> Object | str:
    """Return the record, or why it cannot be understood."""
    obj = _parse(value)
    if isinstance(obj, str):
        return obj
    request = obj.get("request")
    sound = (
        all(_is_text(obj.get(key)) for key in ("holder", "session", "successor", "term"))
        and all(_is_number(obj.get(key)) for key in ("serial", "token"))
        and _is_duration(obj.get("ttl_s"))
        and _KEY.fullmatch(obj["session"]) is not None
    )
    if not sound:
        return "a member is missing, or has a value of the wrong type"
    if request is not None and not (
        isinstance(request, dict) and _is_text(request.get("term")) and _is_text(request.get("to"))
    ):
        return "its request is not one of ours"
    return obj


def barred(bar: Bar, token: int, serial: int) -> Object:
    """Return the record of an election that is barred."""
    return {
        "bar": bar.text,
        "format": BARRED,
        "nonce": bar.nonce,
        "serial": serial,
        "token": token,
    }


def vacant(token: int, serial: int) -> Object:
    """Return the record after a bar was lifted."""
    return {**taken(Claim("", "", 1.0), "", serial), "token": token}


def parse_bar(value: bytes) -> tuple[Bar, int, int] | None:
    """Return the bar, its token and its serial, if this is a record that is barred."""
    try:
        obj = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(obj, dict) or obj.get("format") != BARRED:
        return None
    bar = Bar.of(obj.get("bar"), obj.get("nonce"))
    if bar is None or not (_is_number(obj.get("token")) and _is_number(obj.get("serial"))):
        return None
    return bar, obj["token"], obj["serial"]


def session(owner: str, ttl_s: float) -> Object:
    """Return a new session."""
    return {"beat": 0, "format": FORMAT, "owner": owner, "ttl_s": ttl_s, "void": False}


def parse_session(value: bytes) -> Object | str:
    """Return the session, or why it cannot be understood."""
    obj = _parse(value)
    if isinstance(obj, str):
        return obj
    sound = isinstance(obj.get("void"), bool) and _is_number(obj.get("beat"))
    if not (sound and _is_duration(obj.get("ttl_s"))):
        return "a member is missing, or has a value of the wrong type"
    return obj


def _parse(value: bytes) -> Object | str:
    """Return the object, or why it cannot be understood."""
    try:
        obj = json.loads(value)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(obj, dict):
        return "it is not a JSON object"
    if obj.get("format") != FORMAT:
        return f"format {obj.get('format')!r}, and this version of incumbent knows {FORMAT}"
    return obj


def _is_text(value: object) -> bool:
    """Tell whether it is text that can be written: JSON can spell half a character."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**MOST_DIGITS


def _is_duration(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < 1e9  # type: ignore[operator]
