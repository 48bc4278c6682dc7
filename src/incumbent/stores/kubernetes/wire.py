"""The record of this store: a Lease as client-go writes it, and what ours carries beyond that.

Pure: JSON objects go in and come out, and a wall clock is a number that the caller passes.

A `Format` says what a record is, where it lies in an object, and what its version is. Inside of
this store a record is always a dictionary with the names of a Lease's spec; the class here is the
format in which it is that spec, and `formats` has those in which it lies elsewhere.

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

`managedFields` are not sent back: the server keeps its own account of them when they are missing.
Everything else that we did not write is kept as it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any

from incumbent.core.records import FORMAT, Bar, Claim, Holding, Snapshot, StepDownRequest
from incumbent.errors import StoreUnusable
from incumbent.stores.kubernetes.resource import LEASES, Resource

__all__ = [
    "CHECKPOINT_LABEL",
    "LEASE",
    "Format",
    "Object",
    "belongs",
    "later",
    "micro_time",
    "micros",
    "notes_of",
    "parsed",
    "request",
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
VOIDED_KEY = PREFIX + "voided"

CHECKPOINT_LABEL = PREFIX + "checkpoint-of"
"""The label of an object that is no election, but has a checkpoint of one (`checkpoints`)."""

BARRED = "barred"
NOBODY = "incumbent-barred"
"""The holder of what is barred."""

_GREATEST_INT32 = 2**31 - 1


def version(obj: Object) -> int:
    """Return the resourceVersion, which is an integer that grows (Kubernetes says so since 1.35).

    Raises:
        StoreUnusable: it is none, so that this server cannot give fencing tokens.
    """
    text = obj.get("metadata", {}).get("resourceVersion")
    if not isinstance(text, str) or not text.isdecimal():
        raise StoreUnusable(f"this API server's resourceVersion {text!r} is not an integer")
    return int(text)


def belongs(term: str, holder: object) -> bool:
    """Tell whether a term is one of this holder: a term begins with its candidate's identity."""
    return isinstance(holder, str) and bool(holder) and term.startswith(holder + "/")


def _why_foreign(record: Object, notes: dict[str, str], term: str) -> str:
    """Return what cannot be understood, or ""."""
    holder = record.get("holderIdentity")
    if holder is not None and not isinstance(holder, str):
        return f"holderIdentity is {holder!r}"
    if record.get("strategy"):
        # Here the API server chooses the holder among LeaseCandidates, and we are none.
        return f"coordinated leader election (strategy {record['strategy']!r}) decides who holds it"
    told = notes.get(FORMAT_KEY)
    if told is not None and told != str(FORMAT) and (term or not holder):
        return f"its format is {told!r}, and this version of incumbent knows {FORMAT}"
    if holder and not _is_positive(record.get("leaseDurationSeconds")):
        # Pekko's and nais' electors: how long must one wait for a holder that does not say it?
        return f"held by {holder!r} without a positive leaseDurationSeconds"
    return ""


def _successor(record: Object, notes: dict[str, str]) -> str:
    told = parsed(notes.get(SUCCESSOR_KEY, ""))
    if told.get("released") != record.get("renewTime"):
        return ""
    to = told.get("to")
    return to if isinstance(to, str) else ""


def request(notes: dict[str, str], term: str) -> StepDownRequest | None:
    """Return the request to step down that the annotations have for this term."""
    told = parsed(notes.get(STEP_DOWN_KEY, ""))
    to = told.get("to", "")
    if told.get("term") != term or not isinstance(to, str):
        return None
    return StepDownRequest(term, to)


def trimmed(obj: Object) -> Object:
    """Return the object without `managedFields`: half of its size, and never sent back."""
    metadata = obj.get("metadata", {})
    if "managedFields" not in metadata:
        return obj
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    return {**obj, "metadata": kept}


# -- times ----------------------------------------------------------------------------------------


def micro_time(micros: int) -> str:
    """Return microseconds since 1970 as a MicroTime."""
    seconds, rest = divmod(micros, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def later(before: Object, wall_s: float) -> int:
    """Return the microseconds to write: now, or the next whole second after those of `before`."""
    now = micros(wall_s)
    last = str(before.get("renewTime"))
    try:
        last_s = math.floor(datetime.fromisoformat(last).timestamp())
    except (ValueError, OverflowError):
        return now
    return max(now, (last_s + 1) * 1_000_000)


def micros(wall_s: float) -> int:
    """Return a time in microseconds since 1970."""
    return int(wall_s * 1_000_000)


def _whole_seconds(ttl_s: float) -> int:
    """Return a duration for the record; rounded up, others wait longer and never shorter."""
    return max(1, min(math.ceil(ttl_s), _GREATEST_INT32))


# -- helpers --------------------------------------------------------------------------------------


def notes_of(obj: Object) -> dict[str, str]:
    """Return the annotations of an object."""
    notes = obj.get("metadata", {}).get("annotations")
    return notes if isinstance(notes, dict) else {}


def _token(notes: dict[str, str]) -> int | None:
    token = notes.get(TOKEN_KEY, "")
    return int(token) if token.isdecimal() else None


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def parsed(text: str) -> Object:
    """Return the JSON object that a text is, or an empty one."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# -- the format ------------------------------------------------------------------------------------


class Format:
    """Where the record lies, and what is written there: in the spec of a Lease, as client-go does.

    The last methods are what another format does otherwise.

    Attributes:
        resource: of which resource the objects are.
    """

    resource: Resource = LEASES

    # -- reading ----------------------------------------------------------------------------------

    def carries(self, obj: Object, term: str) -> bool:
        """Tell whether the record is held, and under this very term."""
        return bool(term) and self._own_term(obj) == term

    def snapshot(self, name: str, obj: Object) -> Snapshot:
        """Return what the record says."""
        serial = version(obj)
        record = self.record(obj)
        if record is None:
            return self.without(name, obj)
        at, notes = self.version_of(obj), self.notes(obj)
        holder = record.get("holderIdentity")
        duration = record.get("leaseDurationSeconds")
        term = self._own_term(obj)
        why = self.obstacle(obj) or _why_foreign(record, notes, term)
        if why:
            bar = self.bar_of(obj)
            return Snapshot(
                name=name,
                holding=Holding.FOREIGN,
                version=at,
                serial=serial,
                holder=holder if isinstance(holder, str) else "",
                token=None if bar is None else _token(notes),
                lease_version=at,
                why=why if bar is None else bar.text,
                bar=bar,
            )
        ttl_s = float(duration) if isinstance(duration, int) and duration > 0 else 0.0
        if not holder:
            return Snapshot(
                name=name,
                holding=Holding.VACANT,
                version=at,
                serial=serial,
                ttl_s=ttl_s,
                lease_version=at,
                successor=_successor(record, notes),
            )
        return Snapshot(
            name=name,
            holding=Holding.HELD,
            version=at,
            serial=serial,
            holder=holder,
            term=term,
            token=_token(notes) if term else None,
            ttl_s=ttl_s,
            lease_key=term or f"{holder}@{record.get('acquireTime', '')}",
            lease_version=at,
            request=request(notes, term) if term else None,
        )

    def bar_of(self, obj: Object) -> Bar | None:
        """Return the bar that stands in the record, or None."""
        notes, term = self.notes(obj), self._own_term(obj)
        if notes.get(FORMAT_KEY) != BARRED or not term.startswith(NOBODY + "/"):
            return None
        return Bar.of(notes.get(BAR_KEY), term.removeprefix(NOBODY + "/"))

    def _own_term(self, obj: Object) -> str:
        """Return the term in the marks, if it belongs to the present holder, else ""."""
        holder = (self.record(obj) or {}).get("holderIdentity")
        term = self.notes(obj).get(TERM_KEY, "")
        return term if belongs(term, holder) else ""

    # -- writing ----------------------------------------------------------------------------------

    def created(self, name: str, namespace: str, claim: Claim, wall_s: float) -> Object:
        """Return the object to create for `claim`."""
        now = self.stamp({}, wall_s)
        bare = {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {"name": name, "namespace": namespace},
        }
        record = {
            "holderIdentity": claim.identity,
            "leaseDurationSeconds": _whole_seconds(claim.ttl_s),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        marks = {FORMAT_KEY: str(FORMAT), TERM_KEY: claim.term}
        return self.laid(self.marked(bare, marks), record)

    def taken(self, obj: Object, claim: Claim, wall_s: float) -> Object:
        """Return the record after `claim` took it over."""
        before = self.record(obj) or {}
        now = self.stamp(before, wall_s)
        transitions = before.get("leaseTransitions")
        known = transitions if isinstance(transitions, int) and transitions >= 0 else 0
        record = {
            "holderIdentity": claim.identity,
            "leaseDurationSeconds": _whole_seconds(claim.ttl_s),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": min(known + 1, _GREATEST_INT32),
        }
        return self._changed(obj, record, {FORMAT_KEY: str(FORMAT), TERM_KEY: claim.term})

    def renewed(self, obj: Object, token: int | None, wall_s: float) -> Object:
        """Return the record after a renewal, with everything that others put in."""
        ours = self._ours(obj)
        if token is not None:
            ours[TOKEN_KEY] = str(token)
        return self._changed(obj, {"renewTime": self.stamp(self.record(obj) or {}, wall_s)}, ours)

    def released(self, obj: Object, successor: str, wall_s: float) -> Object:
        """Return the record after its holder gave it up."""
        now = self.stamp(self.record(obj) or {}, wall_s)
        record = {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": now,
            "renewTime": now,
        }
        ours = {FORMAT_KEY: str(FORMAT)}
        if successor:
            ours[SUCCESSOR_KEY] = json.dumps({"to": successor, "released": now})
        return self._changed(obj, record, ours)

    def voided(self, obj: Object, mark: str, wall_s: float) -> Object:
        """Return the record after somebody else declared its holder dead; `mark` tells who it was.

        Whoever takes it next leaves the mark out, as all of ours. The marks have to be annotations.
        """
        ours = {FORMAT_KEY: str(FORMAT), VOIDED_KEY: mark}
        return self.marked(self.released(obj, "", wall_s), ours)

    def voided_by(self, obj: Object, mark: str) -> bool:
        """Tell whether this is the vacancy that `voided` wrote with this very mark."""
        holder = (self.record(obj) or {}).get("holderIdentity")
        return not holder and self.notes(obj).get(VOIDED_KEY) == mark

    def barred(self, obj: Object, bar: Bar, wall_s: float) -> Object:
        """Return the record after it was barred.

        Where it does not tell the token of the last term, the version of the object stands for it:
        one that is at least as great.
        """
        now = self.stamp(self.record(obj) or {}, wall_s)
        record = {
            "holderIdentity": NOBODY,
            "leaseDurationSeconds": _GREATEST_INT32,
            "acquireTime": now,
            "renewTime": now,
        }
        token = _token(self.notes(obj)) if self._own_term(obj) else None
        ours = {
            FORMAT_KEY: BARRED,
            TERM_KEY: f"{NOBODY}/{bar.nonce}",
            BAR_KEY: bar.text,
            TOKEN_KEY: str(version(obj) if token is None else token),
        }
        return self._changed(obj, record, ours)

    def asked(self, obj: Object, wanted: StepDownRequest) -> Object:
        """Return the record with a request to step down in it."""
        ours = self._ours(obj)
        ours[STEP_DOWN_KEY] = json.dumps({"term": wanted.term, "to": wanted.to})
        return self._changed(obj, {}, ours)

    def _ours(self, obj: Object) -> dict[str, str]:
        return {key: value for key, value in self.notes(obj).items() if key.startswith(PREFIX)}

    def _changed(self, obj: Object, record: Object, ours: dict[str, str]) -> Object:
        """Return `obj` with these fields of the record, and these marks of ours and no other.

        The resourceVersion stays, so that the server compares it.
        """
        changed = {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            **obj,
            "metadata": trimmed(obj)["metadata"],
        }
        whole = {**(self.record(obj) or {}), **record}
        return self.laid(self.marked(changed, ours), whole)

    # -- what another format does otherwise -------------------------------------------------------

    def record(self, obj: Object) -> Object | None:
        """Return the record; None if the object has none."""
        spec = obj.get("spec")
        return spec if isinstance(spec, dict) else {}

    def laid(self, obj: Object, record: Object) -> Object:
        """Return the object with this record in it."""
        return {**obj, "spec": record}

    def notes(self, obj: Object) -> dict[str, str]:
        """Return what stands beside the record, ours under `PREFIX`."""
        return notes_of(obj)

    def marked(self, obj: Object, ours: dict[str, str]) -> Object:
        """Return the object with these marks of ours beside the record, and no other of ours."""
        metadata = obj["metadata"]
        others = {k: v for k, v in notes_of(obj).items() if not k.startswith(PREFIX)}
        return {**obj, "metadata": {**metadata, "annotations": {**others, **ours}}}

    def version_of(self, obj: Object) -> Hashable:
        """Return what is another one after each write of the record by a member.

        Where the object is the record, that is the object's own version.
        """
        return str(obj["metadata"]["resourceVersion"])

    def stamp(self, before: Object, wall_s: float) -> str:
        """Return the time to write over the record `before`."""
        return micro_time(later(before, wall_s))

    def obstacle(self, obj: Object) -> str:
        """Return why the record cannot be read, or ""."""
        return ""

    def without(self, name: str, obj: Object) -> Snapshot:
        """Return what an object without a record means."""
        raise AssertionError("a Lease always has one")

    def is_election(self, obj: Object) -> bool:
        """Tell whether the object is to be listed among the elections."""
        return CHECKPOINT_LABEL not in (obj["metadata"].get("labels") or {})

    def check(self, claim: Claim) -> None:
        """Make sure that what `claim` writes keeps everybody out for as long as it is trusted.

        Raises:
            StoreUnusable: it would not.
        """


LEASE = Format()
"""The format of a Lease."""
