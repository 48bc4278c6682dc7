"""What stands in the values: JSON, one object for an election and one for a session.

An election, `elections/NAME`:

    {"format": 1, "holder": IDENTITY, "term": NONCE, "ttl_s": 15.0, "session": KEY, "token": null,
     "successor": "", "request": null}

`session` is "" in a vacant one. `token` is null as long as the record is what the acquiring write
left, whose revision is the token; whoever changes the record writes it down. `request` is
{"term": NONCE, "to": IDENTITY} when somebody has asked the holder to step down.

A session, `sessions/KEY`:

    {"format": 1, "owner": IDENTITY, "ttl_s": 15.0, "void": false}

A renewal writes the same again: what counts is its version. A barred election:

    {"format": "barred", "bar": TEXT, "nonce": NONCE, "token": N}

Its format is none that a candidate of any version knows, so each leaves it alone.

Members of an election that we do not
know are kept for as long as its term lasts.

A driver that translates (`stores.kubernetes.sessions`) says `{"foreign": WHY}` of what it cannot.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from incumbent.core.records import FORMAT, Bar, Claim, StepDownRequest
from incumbent.stores.kv.api import Entry

__all__ = [
    "BARRED",
    "Object",
    "asked",
    "barred",
    "encode",
    "foreign",
    "parse_bar",
    "parse_election",
    "parse_session",
    "released",
    "session",
    "taken",
    "token_of",
    "vacant",
    "voided",
]

Object = dict[str, Any]

BARRED = "barred"
"""The format of a record that is barred."""


def encode(obj: Object) -> bytes:
    """Return the value to write."""
    return json.dumps(obj, separators=(",", ":"), sort_keys=True).encode()


def foreign(why: str) -> Object:
    """Return what stands for something that is none of ours."""
    return {"foreign": why}


@lru_cache(maxsize=16)
def parse_election(value: bytes) -> Object | str:
    """Return the record, or why it cannot be understood; what is returned is not to be changed.

    Kept, since one value is asked about some five times on its way to a candidate.
    """
    obj = _parsed(value)
    if isinstance(obj, str):
        return obj
    texts = all(isinstance(obj.get(key), str) for key in ("holder", "term", "session", "successor"))
    token, request = obj.get("token"), obj.get("request")
    if not texts or not _is_duration(obj.get("ttl_s")):
        return "a member is missing, or has a value of the wrong type"
    if token is not None and (not isinstance(token, int) or isinstance(token, bool)):
        return f"its token is {token!r}, which is no integer"
    if request is not None:
        sound = isinstance(request, dict) and isinstance(request.get("term"), str)
        if not sound or not isinstance(request.get("to"), str):
            return "its request is not one of ours"
    return obj


def parse_bar(value: bytes) -> tuple[Bar, int] | None:
    """Return the bar and its token, if this is a record that is barred."""
    try:
        obj = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if (
        not isinstance(obj, dict)
        or obj.get("format") != BARRED
        or type(obj.get("token")) is not int
    ):
        return None
    bar = Bar.of(obj.get("bar"), obj.get("nonce"))
    return None if bar is None else (bar, obj["token"])


def barred(bar: Bar, token: int) -> Object:
    """Return the record of an election that is barred."""
    return {"format": BARRED, "bar": bar.text, "nonce": bar.nonce, "token": token}


def vacant(token: int) -> Object:
    """Return the record after a bar was lifted."""
    return released(taken(Claim("", "", 1.0), ""), token, "")


def parse_session(value: bytes) -> Object | str:
    """Return the session, or why it cannot be understood."""
    obj = _parsed(value)
    if isinstance(obj, str):
        return obj
    if not isinstance(obj.get("void"), bool) or not _is_duration(obj.get("ttl_s")):
        return "a member is missing, or has a value of the wrong type"
    return obj


def taken(claim: Claim, session_key: str) -> Object:
    """Return the record after `claim` took it."""
    return {
        "format": FORMAT,
        "holder": claim.identity,
        "term": claim.term,
        "ttl_s": claim.ttl_s,
        "session": session_key,
        "token": None,
        "successor": "",
        "request": None,
    }


def released(before: Object, token: int, successor: str) -> Object:
    """Return the record after its holder gave it up."""
    return {**before, "session": "", "token": token, "successor": successor, "request": None}


def asked(before: Object, token: int, request: StepDownRequest) -> Object:
    """Return the record with a request to step down in it."""
    return {**before, "token": token, "request": {"term": request.term, "to": request.to}}


def token_of(record: Object, entry: Entry) -> int:
    """Return the token of the term that the record speaks of."""
    token = record["token"]
    return entry.revision if token is None else int(token)


def session(owner: str, ttl_s: float) -> Object:
    """Return a session."""
    return {"format": FORMAT, "owner": owner, "ttl_s": ttl_s, "void": False}


def voided(before: Object) -> Object:
    """Return the session after it was ended."""
    return {**before, "void": True}


def _parsed(value: bytes) -> Object | str:
    try:
        obj = json.loads(value)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(obj, dict):
        return "it is not a JSON object"
    if "foreign" in obj:
        return str(obj["foreign"])
    if obj.get("format") != FORMAT:
        return f"format {obj.get('format')!r}, and this version of incumbent knows {FORMAT}"
    return obj


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
