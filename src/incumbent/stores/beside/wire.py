"""What stands in the record beside another library's lock: one object of JSON.

    {"format": 1, "election": NAME, "holder": IDENTITY, "term": NONCE, "vacant": false,
     "ttl_s": 15.0, "beat": 7, "token": 42, "successor": "", "request": null, …}

`beat` is another number in each write, so that a renewal changes something. `token` is null where
it is the number of the acquiring write itself, until the next write notes it down. `request` is
{"term": NONCE, "to": IDENTITY} when somebody has asked the holder to step down. A driver may keep
members of its own here.

Of an election that is barred, here and in the lock:

    {"format": "barred", "election": NAME, "bar": TEXT, "nonce": NONCE, "token": N}
"""

from __future__ import annotations

import json
from typing import Any

from incumbent.core.records import FORMAT, Bar, Claim, StepDownRequest

__all__ = [
    "Object",
    "asked",
    "barred",
    "encode",
    "lifted",
    "parse",
    "parse_bar",
    "released",
    "renewed",
    "taken",
]

Object = dict[str, Any]
_BARRED = "barred"


def encode(obj: Object) -> bytes:
    """Return the value to write."""
    return json.dumps(obj, separators=(",", ":"), sort_keys=True).encode()


def parse(value: bytes) -> Object | str:
    """Return the record, or why it cannot be understood."""
    try:
        obj = json.loads(value)
    except (ValueError, RecursionError):
        return "the record beside the lock is not JSON"
    if not isinstance(obj, dict):
        return "the record beside the lock is not a JSON object"
    if obj.get("format") != FORMAT:
        return f"format {obj.get('format')!r}, and this version of incumbent knows {FORMAT}"
    texts = all(isinstance(obj.get(k), str) for k in ("election", "holder", "term", "successor"))
    numbers = _is_number(obj.get("beat")) and (obj.get("token") is None or _is_number(obj["token"]))
    ttl_s, request = obj.get("ttl_s"), obj.get("request")
    lasting = isinstance(ttl_s, int | float) and not isinstance(ttl_s, bool) and 0 < ttl_s < 1e9
    if not (texts and numbers and lasting and isinstance(obj.get("vacant"), bool)):
        return "a member of the record is missing, or has a value of the wrong type"
    if request is not None:
        sound = isinstance(request, dict) and isinstance(request.get("term"), str)
        if not sound or not isinstance(request.get("to"), str):
            return "the request in the record is not one of ours"
    return obj


def taken(name: str, claim: Claim) -> Object:
    """Return the record of a term that `claim` begins."""
    return {
        "format": FORMAT,
        "election": name,
        "holder": claim.identity,
        "term": claim.term,
        "vacant": False,
        "ttl_s": claim.ttl_s,
        "beat": 0,
        "token": None,
        "successor": "",
        "request": None,
    }


def renewed(before: Object, token: int | None) -> Object:
    """Return the record after a renewal."""
    return {**before, "beat": before["beat"] + 1, "token": token}


def released(before: Object, token: int | None, successor: str) -> Object:
    """Return the record after its holder gave it up."""
    after = renewed(before, token)
    return {**after, "vacant": True, "successor": successor, "request": None}


def asked(before: Object, token: int | None, request: StepDownRequest) -> Object:
    """Return the record with a request to step down in it."""
    return {**renewed(before, token), "request": {"term": request.term, "to": request.to}}


def lifted(name: str, token: int | None) -> Object:
    """Return the record after a bar was lifted."""
    return released(taken(name, Claim("", "", 1.0)), token, "")


def barred(name: str, bar: Bar, token: int | None) -> Object:
    """Return the record of an election that is barred."""
    notes = {"bar": bar.text, "nonce": bar.nonce, "token": token}
    return {"format": _BARRED, "election": name, **notes}


def parse_bar(value: bytes) -> Object | None:
    """Return the record, if it is that of an election that is barred."""
    try:
        obj = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(obj, dict) or obj.get("format") != _BARRED:
        return None
    sound = isinstance(obj.get("election"), str) and _is_number(obj.get("token"))
    return obj if sound and Bar.of(obj.get("bar"), obj.get("nonce")) is not None else None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
