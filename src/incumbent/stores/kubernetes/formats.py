"""The formats in which a record does not lie in a Lease. `wire` says what a record is.

- `ConfigMapFormat` is ours: the fields of a Lease's spec as entries of a ConfigMap's `data`, for
  clusters on which Leases are not permitted.
- `AnnotationFormat` is what client-go wrote before there were Leases, and what the Kubernetes
  client of Python writes in a ConfigMap: the record as JSON in an annotation.
- `HeartbeatFormat` is the lease of Pekko and Akka: an owner, and the time of its last heartbeat.

What ours adds stands in the same annotations everywhere, and counts only while the term in them
belongs to the present holder.

The version of a record
-----------------------
Others keep other things in ConfigMaps, and write them: other settings, another election in the same
one. That is no sign of life of this holder. So the version of a record in a ConfigMap is what the
record says, and not the resourceVersion of the object: each write by a member of ours says
something that no earlier one did (a nonce, or a `renewTime` in a later second), and what client-go
compares is what its record says, too. The uid stands beside it, so that a copy that is put back in
the place of a deleted object is another record.

A ConfigMap that is there without a record
------------------------------------------
One of ours that has lost its marks, or that was never an election's, is left alone: somebody keeps
other things in ConfigMaps, under the same names. In the format of client-go the annotation stands
beside other things, and who takes it away has taken a record away, as who deletes a Lease has: that
is an absence, waited out for a TTL, though the object has a version that a take can compare.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime

from incumbent.core.records import Claim, Holding, Snapshot
from incumbent.errors import ConfigError, StoreUnusable
from incumbent.stores.kubernetes.resource import CONFIG_MAPS, Resource
from incumbent.stores.kubernetes.wire import (
    FORMAT_KEY,
    PREFIX,
    TERM_KEY,
    Format,
    Object,
    belongs,
    later,
    notes_of,
    parsed,
    version,
)

__all__ = [
    "LEADER_KEY",
    "AnnotationFormat",
    "ConfigMapFormat",
    "HeartbeatFormat",
    "pekko_name",
    "pekko_text",
]

LEADER_KEY = "control-plane.alpha.kubernetes.io/leader"
TTL_KEY = PREFIX + "ttl"

_FIELDS = ("holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions")
_NUMBERS = ("leaseDurationSeconds", "leaseTransitions")
_LONGEST_NAME = 63


class ConfigMapFormat(Format):
    """Ours: each field of the record is an entry of `data`. Other entries are kept."""

    resource = CONFIG_MAPS

    def record(self, obj: Object) -> Object | None:
        """Return the record; None of a ConfigMap that is no election's."""
        if FORMAT_KEY not in notes_of(obj):
            return None
        data = obj.get("data")
        told = data if isinstance(data, dict) else {}
        return {key: _number(told[key], key) for key in _FIELDS if key in told}

    def laid(self, obj: Object, record: Object) -> Object:
        """Return the ConfigMap with this record in it."""
        data = obj.get("data")
        others = data if isinstance(data, dict) else {}
        return {**obj, "data": {**others, **{key: str(value) for key, value in record.items()}}}

    def version_of(self, obj: Object) -> Hashable:
        """Return the entries of the record and our annotations."""
        data = obj.get("data")
        told = data if isinstance(data, dict) else {}
        return (_uid(obj), *(told.get(key) for key in _FIELDS), *_marks(obj))

    def without(self, name: str, obj: Object) -> Snapshot:
        """Leave alone what somebody else keeps here."""
        at = super().version_of(obj)
        return Snapshot(
            name=name,
            holding=Holding.FOREIGN,
            version=at,
            serial=version(obj),
            lease_version=at,
            why=f"the ConfigMap has no annotation {FORMAT_KEY}, so it is no election's",
        )

    def is_election(self, obj: Object) -> bool:
        """Tell it by our annotation."""
        return FORMAT_KEY in notes_of(obj)


class AnnotationFormat(Format):
    """client-go's, of the time before Leases.

    Its members parse the times, in whole seconds; the Kubernetes client of Python writes others,
    and the duration as text. It has no name for a release, but takes what names no holder at once.
    """

    resource = CONFIG_MAPS

    def record(self, obj: Object) -> Object | None:
        """Return the record; None of an object without the annotation."""
        text = notes_of(obj).get(LEADER_KEY)
        if not text:
            return None
        told = parsed(text)
        found = {key: _number(told[key], key) for key in _FIELDS if key in told}
        if "leaderTransitions" in told:
            found["leaseTransitions"] = told["leaderTransitions"]
        return found

    def laid(self, obj: Object, record: Object) -> Object:
        """Return the object with this record in its annotation."""
        written = {key: record[key] for key in _FIELDS[:-1] if key in record}
        written["leaderTransitions"] = record.get("leaseTransitions", 0)
        metadata = obj["metadata"]
        notes = {**notes_of(obj), LEADER_KEY: json.dumps(written)}
        return {**obj, "metadata": {**metadata, "annotations": notes}}

    def stamp(self, before: Object, wall_s: float) -> str:
        """Return the time in whole seconds, and always another one than before.

        Members compare whole records, so one that was renewed must not look the same.
        """
        seconds = later(before, wall_s) // 1_000_000
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def obstacle(self, obj: Object) -> str:
        """Return why the annotation cannot be read, or ""."""
        text = notes_of(obj).get(LEADER_KEY, "")
        return "" if parsed(text) else f"the annotation {LEADER_KEY} is no record: {text[:80]!r}"

    def version_of(self, obj: Object) -> Hashable:
        """Return the annotation of theirs and ours."""
        return (_uid(obj), notes_of(obj).get(LEADER_KEY), *_marks(obj))

    def without(self, name: str, obj: Object) -> Snapshot:
        """Return an absence, which can be compared."""
        at = super().version_of(obj)
        return Snapshot(
            name=name, holding=Holding.ABSENT, version=at, serial=version(obj), lease_version=at
        )

    def is_election(self, obj: Object) -> bool:
        """Tell it by the annotation."""
        return LEADER_KEY in notes_of(obj)


class HeartbeatFormat(Format):
    """Pekko's and Akka's: `owner`, empty if free, and `time` in milliseconds since 1970.

    A member of theirs takes over once its own wall clock is `takeover_s` past the `time`: that is
    its heartbeat-timeout less two of its heartbeat-intervals. The record does not tell, so whoever
    opens the store does. Two things follow.

    - A term of ours must not be trusted for longer: `check`.
    - The time that ours writes is never before the one that it wrote last, whatever our wall clock
      does meanwhile. But a takeover begins with the clock of its own host: that of a holder that is
      gone may have been years ahead, and would keep theirs out for as long.

    Ours waits until a record of theirs has stood still for `takeover_s`, and compares no clock: on
    hosts whose wall clocks agree, theirs would take it by then as well.

    Theirs writes whole objects without our annotations, which is how they go away.

    Args:
        resource: of Pekko or of Akka.
        takeover_s: for how long members of theirs stay out after a heartbeat.
    """

    def __init__(self, resource: Resource, takeover_s: float) -> None:
        self.resource = resource
        self._takeover_s = takeover_s

    def record(self, obj: Object) -> Object | None:
        """Return the record; of theirs, with how long it is waited for."""
        spec = _spec(obj)
        owner, time_ms = spec.get("owner"), spec.get("time")
        notes = notes_of(obj)
        ttl = notes.get(TTL_KEY, "")
        ours = belongs(notes.get(TERM_KEY, ""), owner) and ttl.isdecimal()
        theirs_s = max(1, math.ceil(self._takeover_s))
        return {
            "holderIdentity": owner,
            "leaseDurationSeconds": int(ttl) if ours else theirs_s,
            "renewTime": str(time_ms) if isinstance(time_ms, int) else "",
        }

    def laid(self, obj: Object, record: Object) -> Object:
        """Return the object with this record, whose duration stands in an annotation."""
        metadata = obj["metadata"]
        notes = {key: value for key, value in notes_of(obj).items() if key != TTL_KEY}
        if record["holderIdentity"]:
            notes[TTL_KEY] = str(record["leaseDurationSeconds"])
        written = {"owner": record["holderIdentity"], "time": int(record["renewTime"] or 0)}
        return {
            **obj,
            "metadata": {**metadata, "annotations": notes},
            "spec": {**_spec(obj), **written},
        }

    def taken(self, obj: Object, claim: Claim, wall_s: float) -> Object:
        """Return the record after a takeover: the clock of the last holder says nothing."""
        forgotten = {**obj, "spec": {**_spec(obj), "time": 0}}
        return super().taken(forgotten, claim, wall_s)

    def stamp(self, before: Object, wall_s: float) -> str:
        """Return milliseconds since 1970, and always more than before."""
        last = str(before.get("renewTime") or 0)
        return str(max(int(wall_s * 1000), int(last) + 1))

    def check(self, claim: Claim) -> None:
        """Refuse a TTL within which a member of theirs would take over from a holder of ours."""
        if claim.ttl_s > self._takeover_s:
            raise StoreUnusable(
                f"a TTL of {claim.ttl_s:g} s is longer than takeover_s={self._takeover_s:g}, after "
                "which members of theirs take over: shorten the TTL, or lengthen their "
                "heartbeat-timeout and say so by takeover_s="
            )


def pekko_text(text: str) -> str:
    """Return what Pekko and Akka make of a piece of a name."""
    lower = unicodedata.normalize("NFKD", text).lower()
    return re.sub("[^-a-z0-9]", "", re.sub("[_.]", "-", lower))


def pekko_name(name: str) -> str:
    """Return how Pekko and Akka call the object of a lease.

    Raises:
        ConfigError: nothing is left of the name, or it is so long that they would cut it, which
            their versions do differently.
    """
    kept = pekko_text(name).strip("-")
    if not 0 < len(kept) <= _LONGEST_NAME:
        raise ConfigError(
            f"{name!r} cannot be the name of a lease there: it would be {kept!r}, and they want 1 "
            f"to {_LONGEST_NAME} letters, digits and hyphens; choose one by lock="
        )
    return kept


def _spec(obj: Object) -> Object:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def _marks(obj: Object) -> Iterator[tuple[str, str]]:
    """Return our annotations, in an order."""
    notes = notes_of(obj)
    return ((key, notes[key]) for key in sorted(notes) if key.startswith(PREFIX))


def _number(value: object, key: str) -> object:
    """Return the integer that a text is, rounded up, where a field is one."""
    if key in _NUMBERS and isinstance(value, str) and re.fullmatch(r"\d{1,10}(\.\d*)?", value):
        return math.ceil(float(value))
    return value
