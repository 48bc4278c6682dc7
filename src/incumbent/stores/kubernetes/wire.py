"""The record of this store: a Lease as client-go writes it, and what ours carries beyond that.

Pure: JSON objects go in and come out, and a wall clock is a number that the caller passes.

The spec is client-go's, so that its candidates and ours compete for one Lease in both directions:

- create: `leaseTransitions` 0, `acquireTime` and `renewTime` equal;
- takeover: `leaseTransitions` one more, both times new;
- renewal: another `renewTime`, the rest as it was;
- release: `holderIdentity` empty and present, `leaseDurationSeconds` 1, both times new.

Three details of the format are easy to miss:

1. A MicroTime has exactly six digits after the point; the server refuses fewer and more.
2. client-go notices a renewal only if the record differs when its times are cut to whole seconds.
   So a written time always lies in a later whole second than the one before, even if that runs
   ahead of the clock. Nobody may compare it with a clock anyway.
3. client-go keeps annotations when it takes over. Ours count only while they belong to the present
   holder (the term begins with its identity), and a successor only together with the very release
   that named it (its `renewTime`).

A barred election has `incumbent.dev/format: barred`, the text in `incumbent.dev/bar`, and a term
that no candidate has. Its `holderIdentity` is not empty and its duration the longest that the field
can hold, 68 years: that is for client-go, whose candidates take an empty holder at once, and count
the duration in the record. One that counts its own duration (a client-go of before `isLeaseValid`,
the Python client) takes it: such a one has to be stopped before its election is barred.

`managedFields` are not sent back: the server keeps its own account of them when they are missing.
Everything else that we did not write is kept as it was.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from incumbent.core.records import FORMAT, Bar, Claim, Holding, Snapshot, StepDownRequest
from incumbent.errors import StoreUnusable

__all__ = [
    "Object",
    "asked",
    "bar_of",
    "barred",
    "carries",
    "created",
    "micro_time",
    "released",
    "renewed",
    "request",
    "snapshot",
    "taken",
    "trimmed",
    "version",
]

Object = dict[str, Any]
"""A Kubernetes object as JSON. Never changed in place: what is known may be shared."""

PREFIX = "incumbent.dev/"
FORMAT_KEY = PREFIX + "format"
TERM_KEY = PREFIX + "term"
TOKEN_KEY = PREFIX + "token"
SUCCESSOR_KEY = PREFIX + "successor"
STEP_DOWN_KEY = PREFIX + "step-down"
BAR_KEY = PREFIX + "bar"

BARRED = "barred"
NOBODY = "incumbent-barred"
"""The holder of what is barred."""

_GREATEST_INT32 = 2**31 - 1


# -- reading --------------------------------------------------------------------------------------


def version(obj: Object) -> int:
    """Return the resourceVersion, which is an integer that grows (Kubernetes says so since 1.35).

    Raises:
        StoreUnusable: it is none, so that this server cannot give fencing tokens.
    """
    text = obj.get("metadata", {}).get("resourceVersion")
    if not isinstance(text, str) or not text.isdecimal():
        raise StoreUnusable(f"this API server's resourceVersion {text!r} is not an integer")
    return int(text)


def carries(obj: Object, term: str) -> bool:
    """Tell whether the record is held, and under this very term."""
    return bool(term) and _own_term(obj) == term


def snapshot(name: str, obj: Object) -> Snapshot:
    """Return what the record says."""
    serial = version(obj)
    text = obj["metadata"]["resourceVersion"]
    spec = _spec(obj)
    notes = _annotations(obj)
    holder = spec.get("holderIdentity")
    duration = spec.get("leaseDurationSeconds")
    term = _own_term(obj)
    why = _why_foreign(spec, notes, term)
    if why:
        bar = bar_of(obj)
        return Snapshot(
            name=name,
            holding=Holding.FOREIGN,
            version=text,
            serial=serial,
            holder=holder if isinstance(holder, str) else "",
            token=None if bar is None else _token(notes),
            lease_version=text,
            why=why if bar is None else bar.text,
            bar=bar,
        )
    ttl_s = float(duration) if isinstance(duration, int) and duration > 0 else 0.0
    if not holder:
        return Snapshot(
            name=name,
            holding=Holding.VACANT,
            version=text,
            serial=serial,
            ttl_s=ttl_s,
            lease_version=text,
            successor=_successor(spec, notes),
        )
    return Snapshot(
        name=name,
        holding=Holding.HELD,
        version=text,
        serial=serial,
        holder=holder,
        term=term,
        token=_token(notes) if term else None,
        ttl_s=ttl_s,
        lease_key=term or f"{holder}@{spec.get('acquireTime', '')}",
        lease_version=text,
        request=request(notes, term) if term else None,
    )


def bar_of(obj: Object) -> Bar | None:
    """Return the bar that stands in the record, or None."""
    notes, term = _annotations(obj), _own_term(obj)
    if notes.get(FORMAT_KEY) != BARRED or not term.startswith(NOBODY + "/"):
        return None
    return Bar.of(notes.get(BAR_KEY), term.removeprefix(NOBODY + "/"))


def _token(notes: dict[str, str]) -> int | None:
    token = notes.get(TOKEN_KEY, "")
    return int(token) if token.isdecimal() else None


def _why_foreign(spec: Object, notes: dict[str, str], term: str) -> str:
    """Return what cannot be understood, or ""."""
    holder = spec.get("holderIdentity")
    if holder is not None and not isinstance(holder, str):
        return f"holderIdentity is {holder!r}"
    if spec.get("strategy"):
        # Here the API server chooses the holder among LeaseCandidates, and we are none.
        return f"coordinated leader election (strategy {spec['strategy']!r}) decides who holds it"
    told = notes.get(FORMAT_KEY)
    if told is not None and told != str(FORMAT) and (term or not holder):
        return f"its format is {told!r}, and this version of incumbent knows {FORMAT}"
    if holder and not _is_positive(spec.get("leaseDurationSeconds")):
        # Pekko's and nais' electors: how long must one wait for a holder that does not say it?
        return f"held by {holder!r} without a positive leaseDurationSeconds"
    return ""


def _own_term(obj: Object) -> str:
    """Return the term in the annotations, if it belongs to the present holder, else ""."""
    holder = _spec(obj).get("holderIdentity")
    term = _annotations(obj).get(TERM_KEY, "")
    if isinstance(holder, str) and holder and term.startswith(holder + "/"):
        return term
    return ""


def _successor(spec: Object, notes: dict[str, str]) -> str:
    told = _parsed(notes.get(SUCCESSOR_KEY, ""))
    if told.get("released") != spec.get("renewTime"):
        return ""
    to = told.get("to")
    return to if isinstance(to, str) else ""


def request(notes: dict[str, str], term: str) -> StepDownRequest | None:
    """Return the request to step down that the annotations have for this term."""
    told = _parsed(notes.get(STEP_DOWN_KEY, ""))
    to = told.get("to", "")
    if told.get("term") != term or not isinstance(to, str):
        return None
    return StepDownRequest(term, to)


# -- writing --------------------------------------------------------------------------------------


def created(name: str, namespace: str, claim: Claim, wall_s: float) -> Object:
    """Return the Lease to create for `claim`."""
    now = micro_time(_micros(wall_s))
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {FORMAT_KEY: str(FORMAT), TERM_KEY: claim.term},
        },
        "spec": {
            "holderIdentity": claim.identity,
            "leaseDurationSeconds": _whole_seconds(claim.ttl_s),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        },
    }


def taken(obj: Object, claim: Claim, wall_s: float) -> Object:
    """Return the record after `claim` took it over."""
    now = _later(obj, wall_s)
    transitions = _spec(obj).get("leaseTransitions")
    known = transitions if isinstance(transitions, int) and transitions >= 0 else 0
    spec = {
        "holderIdentity": claim.identity,
        "leaseDurationSeconds": _whole_seconds(claim.ttl_s),
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": min(known + 1, _GREATEST_INT32),
    }
    return _changed(obj, spec, {FORMAT_KEY: str(FORMAT), TERM_KEY: claim.term})


def renewed(obj: Object, token: int | None, wall_s: float) -> Object:
    """Return the record after a renewal, with everything that others put in."""
    notes = _annotations(obj)
    ours = {key: value for key, value in notes.items() if key.startswith(PREFIX)}
    if token is not None:
        ours[TOKEN_KEY] = str(token)
    return _changed(obj, {"renewTime": _later(obj, wall_s)}, ours)


def released(obj: Object, successor: str, wall_s: float) -> Object:
    """Return the record after its holder gave it up."""
    now = _later(obj, wall_s)
    spec = {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": now,
        "renewTime": now,
    }
    ours = {FORMAT_KEY: str(FORMAT)}
    if successor:
        ours[SUCCESSOR_KEY] = json.dumps({"to": successor, "released": now})
    return _changed(obj, spec, ours)


def barred(obj: Object, bar: Bar, wall_s: float) -> Object:
    """Return the record after it was barred.

    Where it does not tell the token of the last term, the version of the object stands for it: one
    that is at least as great.
    """
    now = _later(obj, wall_s)
    spec = {
        "holderIdentity": NOBODY,
        "leaseDurationSeconds": _GREATEST_INT32,
        "acquireTime": now,
        "renewTime": now,
    }
    token = _token(_annotations(obj)) if _own_term(obj) else None
    ours = {
        FORMAT_KEY: BARRED,
        TERM_KEY: f"{NOBODY}/{bar.nonce}",
        BAR_KEY: bar.text,
        TOKEN_KEY: str(version(obj) if token is None else token),
    }
    return _changed(obj, spec, ours)


def asked(obj: Object, wanted: StepDownRequest) -> Object:
    """Return the record with a request to step down in it."""
    notes = _annotations(obj)
    ours = {key: value for key, value in notes.items() if key.startswith(PREFIX)}
    ours[STEP_DOWN_KEY] = json.dumps({"term": wanted.term, "to": wanted.to})
    return _changed(obj, {}, ours)


def trimmed(obj: Object) -> Object:
    """Return the object without `managedFields`: half of its size, and never sent back."""
    metadata = obj.get("metadata", {})
    if "managedFields" not in metadata:
        return obj
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    return {**obj, "metadata": kept}


def _changed(obj: Object, spec: Object, ours: dict[str, str]) -> Object:
    """Return `obj` with these fields of the spec, and with these annotations of ours and no other.

    The resourceVersion stays, so that the server compares it.
    """
    others = {k: v for k, v in _annotations(obj).items() if not k.startswith(PREFIX)}
    metadata = {**trimmed(obj)["metadata"], "annotations": {**others, **ours}}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        **obj,
        "metadata": metadata,
        "spec": {**_spec(obj), **spec},
    }


# -- times ----------------------------------------------------------------------------------------


def micro_time(micros: int) -> str:
    """Return microseconds since 1970 as a MicroTime."""
    seconds, rest = divmod(micros, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def _later(obj: Object, wall_s: float) -> str:
    """Return the time to write: now, or the next whole second after the time written last."""
    now = _micros(wall_s)
    last = str(_spec(obj).get("renewTime"))
    try:
        last_s = math.floor(datetime.fromisoformat(last).timestamp())
    except (ValueError, OverflowError):
        return micro_time(now)
    return micro_time(max(now, (last_s + 1) * 1_000_000))


def _micros(wall_s: float) -> int:
    return int(wall_s * 1_000_000)


def _whole_seconds(ttl_s: float) -> int:
    """Return a duration for the record; rounded up, others wait longer and never shorter."""
    return max(1, min(math.ceil(ttl_s), _GREATEST_INT32))


# -- helpers --------------------------------------------------------------------------------------


def _spec(obj: Object) -> Object:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def _annotations(obj: Object) -> dict[str, str]:
    notes = obj.get("metadata", {}).get("annotations")
    return notes if isinstance(notes, dict) else {}


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _parsed(text: str) -> Object:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
