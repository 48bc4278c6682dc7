"""The ConfigMap of Apache Camel: `KubernetesClusterService` with `leaseResourceType=ConfigMap`.

The members and their rules are those of `camel`. What is different is the record:

- All groups of a cluster lie in one ConfigMap. A group has two entries, `leader.pod.GROUP`, a Pod's
  name, and `leader.local.timestamp.GROUP`, when it took the group, which nobody of theirs reads.
- A holder of theirs writes nothing while it holds, and gives the group up by removing both entries.
- Everything else in the ConfigMap is kept by theirs as it is.

What ours does
--------------
1. A third entry, `incumbent.GROUP`, has what Camel's have no room for: the term, the TTL, when it
   was renewed, the token, requests. All three are written in one step. It counts only beside the
   Pod and the timestamp that were written with it: theirs leave it alone, also when they take over.
2. The version of a group's record is what its three entries say. What is written elsewhere in the
   ConfigMap, for another group or by somebody else, is neither a sign of life of this holder nor a
   refusal; it is carried over as it is.
3. A holder of theirs shows no sign of life, so it is taken over when it is no member, as in
   `camel`, in two steps of `takeover_s` each.

What a missing holder means
---------------------------
- Our entry says that it was released: vacant.
- Our entry names a holder, and Camel's are missing: one of theirs took over and gave it up, or
  somebody removed them under a holder of ours, who may not know yet. That is an absence with a TTL.
- There is no entry at all: an absence, although the ConfigMap is there. It may have been deleted
  under a holder of ours, and made anew for another group. It has no version of its own, so it
  stands by its mark (see `ledger`), as a missing object does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable

from incumbent.core.records import Claim, Holding, Snapshot, absent, check_name
from incumbent.errors import ConfigError, InvalidName
from incumbent.stores.kubernetes.camel import PodFormat, pod_of
from incumbent.stores.kubernetes.layout import Layout
from incumbent.stores.kubernetes.names import Names
from incumbent.stores.kubernetes.resource import CONFIG_MAPS, Resource
from incumbent.stores.kubernetes.wire import PREFIX, TERM_KEY, Object, parsed, version

__all__ = ["GroupFormat", "Groups", "group_name"]

POD_KEY = "leader.pod."
TIME_KEY = "leader.local.timestamp."
NOTE_KEY = "incumbent."

_LABELS = {"provider": "camel", "kind": "locks"}
_LONGEST_KEY = 253


class GroupFormat(PodFormat):
    """The record of one group.

    Args:
        group: the group.
        takeover_s: for how long members of theirs wait after a takeover.
    """

    resource = CONFIG_MAPS

    def __init__(self, group: str, takeover_s: float) -> None:
        super().__init__(takeover_s)
        self._pod, self._time, self._note = POD_KEY + group, TIME_KEY + group, NOTE_KEY + group

    # -- reading ----------------------------------------------------------------------------------

    def record(self, obj: Object) -> Object | None:
        """Return the record; of ours, with the whole identity for a holder. None of an absence."""
        data = _data(obj)
        pod, written = data.get(self._pod), parsed(data.get(self._note, ""))
        if pod is None and (self._note not in data or "pod" in written):
            return None
        told = self._told(obj)
        if pod is not None and not told:
            taken_at = data.get(self._time, "")
            return {
                "holderIdentity": pod,
                "leaseDurationSeconds": self.theirs_s,
                "acquireTime": taken_at,
            }
        fields = {key: value for key, value in told.items() if not _is_mark(key)}
        identity = str(told.get(TERM_KEY, "")).rpartition("/")[0]
        return {**fields, "holderIdentity": identity if pod_of(identity) == pod else pod}

    def notes(self, obj: Object) -> dict[str, str]:
        """Return the marks in our entry, if it counts."""
        return {key: str(value) for key, value in self._told(obj).items() if _is_mark(key)}

    def version_of(self, obj: Object) -> Hashable:
        """Return what the three entries say, and in which object."""
        data = _data(obj)
        entries = (data.get(self._pod), data.get(self._time), data.get(self._note))
        return (str(obj["metadata"].get("uid", "")), *entries)

    def obstacle(self, obj: Object) -> str:
        """Return why our entry cannot be read, or ""."""
        text = _data(obj).get(self._note)
        if text is None or parsed(text):
            return ""
        return f"the entry {self._note} is no record: {text[:80]!r}"

    def without(self, name: str, obj: Object) -> Snapshot:
        """Return an absence; if our entry names a holder, one that is waited out for its TTL."""
        text = _data(obj).get(self._note)
        if text is None:
            return absent(name, version(obj))
        at, ttl = self.version_of(obj), parsed(text).get("leaseDurationSeconds")
        return Snapshot(
            name=name,
            holding=Holding.ABSENT,
            version=at,
            serial=version(obj),
            ttl_s=float(max(ttl if isinstance(ttl, int) else 0, self.theirs_s)),
            lease_version=at,
        )

    def _told(self, obj: Object) -> Object:
        """Return what our entry says, if it was written with what Camel's say now; else nothing."""
        data = _data(obj)
        told = parsed(data.get(self._note, ""))
        with_it = (told.pop("pod", None), told.pop("timestamp", None))
        return told if with_it == (data.get(self._pod), data.get(self._time)) else {}

    # -- writing ----------------------------------------------------------------------------------

    def created(self, name: str, namespace: str, claim: Claim, wall_s: float) -> Object:
        """Return a ConfigMap with nothing but this group in it, and the labels that theirs have."""
        made = super().created(name, namespace, claim, wall_s)
        return {**made, "metadata": {**made["metadata"], "labels": dict(_LABELS)}}

    def marked(self, obj: Object, ours: dict[str, str]) -> Object:
        """Return the ConfigMap with nothing but these marks in our entry."""
        return {**obj, "data": {**_data(obj), self._note: json.dumps(ours)}}

    def laid(self, obj: Object, record: Object) -> Object:
        """Return the ConfigMap with this record beside the marks that are in our entry."""
        data = {k: v for k, v in _data(obj).items() if k not in (self._pod, self._time)}
        told = {k: v for k, v in parsed(data.get(self._note, "")).items() if _is_mark(k)}
        told |= {key: value for key, value in record.items() if key != "holderIdentity"}
        if record.get("holderIdentity"):
            taken_at = f"{record['acquireTime'][:19]}Z"
            data[self._pod] = told["pod"] = pod_of(record["holderIdentity"])
            data[self._time] = told["timestamp"] = taken_at
        return {**obj, "data": {**data, self._note: json.dumps(told, sort_keys=True)}}


class Groups(Layout[GroupFormat]):
    """The groups of one ConfigMap.

    Args:
        called: how the ConfigMap is called.
        names: how the groups of elections are called.
        takeover_s: for how long members of theirs wait after a takeover.
    """

    def __init__(self, called: str, names: Names, takeover_s: float) -> None:
        if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", called):
            raise ConfigError(f"kubernetes://: map={called!r} cannot be the name of a ConfigMap")
        self._called, self._names, self._takeover_s = called, names, takeover_s

    @property
    def resource(self) -> Resource:
        """ConfigMaps."""
        return CONFIG_MAPS

    def object_of(self, name: str) -> str:
        """Return the one ConfigMap."""
        self._names.object_of(name)
        return self._called

    def format_of(self, name: str) -> GroupFormat:
        """Return the format of the group of an election."""
        return GroupFormat(self._names.object_of(name), self._takeover_s)

    def elections_in(self, obj: Object) -> list[str]:
        """Return the elections whose groups have, or had, a holder."""
        if obj["metadata"]["name"] != self._called:
            return []
        keys = sorted(_data(obj))
        groups = {k.removeprefix(p) for k in keys for p in (POD_KEY, NOTE_KEY) if k.startswith(p)}
        return sorted(name for name in map(self._names.election_of, groups) if _is_name(name))


def group_name(group: str) -> str:
    """Return the name of a group.

    Raises:
        ConfigError: it cannot be part of a ConfigMap's keys.
    """
    if not re.fullmatch(rf"[-._a-zA-Z0-9]{{1,{_LONGEST_KEY - len(TIME_KEY)}}}", group):
        raise ConfigError(
            f"{group!r} cannot be a group in a ConfigMap: its keys have up to {_LONGEST_KEY} "
            "letters, digits, hyphens, underscores and dots; choose one by lock="
        )
    return group


def _is_mark(key: str) -> bool:
    return key.startswith(PREFIX)


def _is_name(name: str) -> bool:
    try:
        return bool(name) and check_name(name) == name
    except InvalidName:
        return False


def _data(obj: Object) -> dict[str, str]:
    data = obj.get("data")
    return data if isinstance(data, dict) else {}
