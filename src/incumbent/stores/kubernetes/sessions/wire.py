"""What stands in the Leases of `?session=1`, and how it is translated for `stores.kv`.

Pure: objects and values go in and come out, and a wall clock is a number that the caller passes.

A session is a Lease that is renewed as any other. It is void when its `holderIdentity` is empty.

An election that is held names its session in annotations, and is not renewed:

    metadata:
      labels:       {incumbent.dev/kind: election}
      annotations:  {incumbent.dev/format: session-1, incumbent.dev/term: NONCE,
                     incumbent.dev/session: KEY, incumbent.dev/ttl: "15"}
    spec:           {holderIdentity: IDENTITY, leaseDurationSeconds: 2147483647, …}

The duration is the longest that the field can hold: it is for electors that count the duration in
the record and would wait for a renewal that never comes. A vacant election is what it is in the
other mode (see `kubernetes.wire`).

A barred election is what it is in the other mode, with our label.

The token is written down by whoever changes a record that is held; until then it is the
resourceVersion. If somebody else has changed the record, that is a later one: still greater than
every earlier token, and smaller than every later one.
"""

from __future__ import annotations

import math
from typing import Any

from incumbent.core.records import FORMAT, Bar, Claim, Holding, StepDownRequest
from incumbent.stores.kubernetes import wire
from incumbent.stores.kubernetes.wire import FORMAT_KEY, PREFIX, STEP_DOWN_KEY, TERM_KEY, TOKEN_KEY
from incumbent.stores.kv import wire as kv

__all__ = [
    "ELECTION",
    "FOR_EVER_S",
    "KIND_KEY",
    "SESSION",
    "decoded",
    "encoded",
    "is_void",
    "key_of",
    "keys_of",
    "lease_name",
]

Object = dict[str, Any]

KIND_KEY = PREFIX + "kind"
"""The label. What carries it is what the one watch brings."""
ELECTION, SESSION = "election", "session"
SESSION_KEY = PREFIX + "session"
TTL_KEY = PREFIX + "ttl"
FORMAT_TEXT = f"session-{FORMAT}"
FOR_EVER_S = 2**31 - 1

_ELECTIONS, _SESSIONS = "elections/", "sessions/"
_NAME_OF_SESSION = "incumbent-session-"


# -- names ----------------------------------------------------------------------------------------


def lease_name(key: str) -> str:
    """Return the name of the Lease that a key is."""
    if key.startswith(_SESSIONS):
        return _NAME_OF_SESSION + key.removeprefix(_SESSIONS)
    return key.removeprefix(_ELECTIONS)


def keys_of(name: str) -> tuple[str, ...]:
    """Return the keys that a Lease of this name may be."""
    election = _ELECTIONS + name
    if name.startswith(_NAME_OF_SESSION):
        return election, _SESSIONS + name.removeprefix(_NAME_OF_SESSION)
    return (election,)


def key_of(obj: Object) -> str:
    """Return the key that this Lease is by its label."""
    name = obj["metadata"]["name"]
    return keys_of(name)[-1] if _kind(obj) == SESSION else _ELECTIONS + name


# -- reading --------------------------------------------------------------------------------------


def decoded(key: str, obj: Object) -> bytes:
    """Return what the Lease says, as a value of `stores.kv`."""
    read = _session if key.startswith(_SESSIONS) else _election
    return kv.encode(read(obj))


def is_void(value: bytes) -> bool:
    """Tell whether a value is that of a session that is over."""
    session = kv.parse_session(value)
    return isinstance(session, dict) and bool(session["void"])


def _session(obj: Object) -> Object:
    notes, spec = _notes(obj), _spec(obj)
    holder, duration = spec.get("holderIdentity"), spec.get("leaseDurationSeconds")
    if _kind(obj) == ELECTION or notes.get(FORMAT_KEY) != FORMAT_TEXT:
        return kv.foreign(f"format {notes.get(FORMAT_KEY)!r}, and not {FORMAT_TEXT!r}")
    if not isinstance(holder, str) or not isinstance(duration, int) or duration <= 0:
        return kv.foreign("its spec is not that of a session")
    session = kv.session(holder, float(duration))
    return session if holder else kv.voided(session)


def _election(obj: Object) -> Object:
    if _kind(obj) == SESSION:
        return kv.foreign("it is the Lease of a session")
    notes, holder = _notes(obj), _spec(obj).get("holderIdentity")
    term = notes.get(TERM_KEY, "")
    if notes.get(FORMAT_KEY) == FORMAT_TEXT and holder and term.startswith(f"{holder}/"):
        return _held(notes, str(holder), term)
    told = wire.LEASE.snapshot("", obj)
    if told.bar is not None and told.token is not None:
        return kv.barred(told.bar, told.token)
    if told.holding is Holding.FOREIGN:
        return kv.foreign(told.why)
    if told.holding is Holding.HELD:
        return kv.foreign(f"held by {told.holder!r}, by itself and not under a session")
    return {
        "format": FORMAT,
        "holder": "",
        "term": "",
        "ttl_s": max(1.0, told.ttl_s),
        "session": "",
        "token": None,
        "successor": told.successor,
        "request": None,
    }


def _held(notes: dict[str, str], holder: str, term: str) -> Object:
    session, ttl, token = (notes.get(name, "") for name in (SESSION_KEY, TTL_KEY, TOKEN_KEY))
    if not session or not ttl.isdecimal() or not int(ttl):
        return kv.foreign(f"held by {holder!r} under a session that it does not name")
    return {
        "format": FORMAT,
        "holder": holder,
        "term": term,
        "ttl_s": float(ttl),
        "session": session,
        "token": int(token) if token.isdecimal() else None,
        "successor": "",
        "request": _request(notes, term),
    }


def _request(notes: dict[str, str], term: str) -> Object | None:
    told = wire.request(notes, term)
    return None if told is None else {"term": told.term, "to": told.to}


# -- writing --------------------------------------------------------------------------------------


def encoded(key: str, value: Object, base: Object | None, namespace: str, wall_s: float) -> Object:
    """Return the Lease to write for a value of `stores.kv`: anew, or over `base`."""
    if key.startswith(_SESSIONS):
        return _session_written(lease_name(key), value, base, namespace, wall_s)
    return _election_written(lease_name(key), value, base, namespace, wall_s)


def _session_written(
    name: str, value: Object, base: Object | None, namespace: str, wall_s: float
) -> Object:
    ttl_s = math.ceil(value["ttl_s"])
    if base is None:
        written = wire.LEASE.created(name, namespace, Claim(value["owner"], "", ttl_s), wall_s)
        written["metadata"]["annotations"].pop(TERM_KEY)
    elif value["void"]:
        written = wire.LEASE.released(base, "", wall_s)
    else:
        written = wire.LEASE.renewed(base, None, wall_s)
    spec: Object = {"holderIdentity": "" if value["void"] else value["owner"]}
    spec["leaseDurationSeconds"] = ttl_s
    return _marked(written, SESSION, {FORMAT_KEY: FORMAT_TEXT}, spec)


def _election_written(
    name: str, value: Object, base: Object | None, namespace: str, wall_s: float
) -> Object:
    if value["format"] == kv.BARRED:
        if base is None:
            raise AssertionError("a bar over what is not there")
        notes = {TOKEN_KEY: str(value["token"])}
        barred = wire.LEASE.barred(base, Bar(value["bar"], value["nonce"]), wall_s)
        return _marked(barred, ELECTION, notes, {})
    term, token, asked = value["term"], value["token"], value["request"]
    if not value["session"]:
        if base is None:
            raise AssertionError("a release of what is not there")
        return _marked(wire.LEASE.released(base, value["successor"], wall_s), ELECTION, {}, {})
    if base is not None and wire.LEASE.carries(base, term):
        notes = {} if token is None else {TOKEN_KEY: str(token)}
        if asked:
            request = StepDownRequest(asked["term"], asked["to"])
            notes[STEP_DOWN_KEY] = _notes(wire.LEASE.asked(base, request))[STEP_DOWN_KEY]
        return _marked(base, ELECTION, notes, {})
    claim = Claim(value["holder"], term, value["ttl_s"])
    if base is None:
        written = wire.LEASE.created(name, namespace, claim, wall_s)
    else:
        written = wire.LEASE.taken(base, claim, wall_s)
    notes = {
        FORMAT_KEY: FORMAT_TEXT,
        SESSION_KEY: value["session"],
        TTL_KEY: str(written["spec"]["leaseDurationSeconds"]),
    }
    return _marked(written, ELECTION, notes, {"leaseDurationSeconds": FOR_EVER_S})


def _marked(obj: Object, kind: str, notes: dict[str, str], spec: Object) -> Object:
    """Return `obj` with our label, and with these annotations and fields of the spec as well."""
    metadata = obj["metadata"]
    labels = {**(metadata.get("labels") or {}), KIND_KEY: kind}
    annotations = {**_notes(obj), **notes}
    return {
        **obj,
        "metadata": {**metadata, "labels": labels, "annotations": annotations},
        "spec": {**_spec(obj), **spec},
    }


# -- helpers --------------------------------------------------------------------------------------


def _spec(obj: Object) -> Object:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def _notes(obj: Object) -> dict[str, str]:
    notes = obj.get("metadata", {}).get("annotations")
    return notes if isinstance(notes, dict) else {}


def _kind(obj: Object) -> str:
    labels = obj.get("metadata", {}).get("labels")
    return str(labels.get(KIND_KEY, "")) if isinstance(labels, dict) else ""
