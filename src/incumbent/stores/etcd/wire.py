"""The messages of etcd's JSON gateway that this store needs. Pure: JSON goes in and comes out.

The gateway speaks protobuf's JSON: keys and values in base64, 64-bit numbers as text, and what is
zero, false or empty left out. So a `succeeded` that is missing is a false one, and an event without
a type is a put.

The version of a key is its `mod_revision`: the number of the one write, among all of the cluster,
that left it as it is. It is never given twice, not even to a key that was deleted and made anew.
Zero stands for a key that is not there.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from incumbent.stores.kv.api import ABSENT, Conditions, Entry, Writes

__all__ = [
    "Change",
    "Object",
    "Prefix",
    "base64_of",
    "bytes_of",
    "cancelled",
    "range_of",
    "revision",
    "succeeded",
]

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a key at a revision; no entry if it was deleted."""

    key: str
    entry: Entry | None
    revision: int


def base64_of(data: bytes | str) -> str:
    """Return how a key or a value is written."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode("ascii")


def bytes_of(text: str) -> bytes:
    """Return what is written so."""
    return base64.b64decode(text)


def range_of(folder: str) -> Object:
    """Return the range of all keys that begin with `folder`, which ends in a slash."""
    start = folder.encode()
    return {"key": base64_of(start), "range_end": base64_of(_end(start))}


def _end(start: bytes) -> bytes:
    """Return the first key after all those that begin with `start`, which ends in a slash."""
    return start[:-1] + bytes([start[-1] + 1])


class Prefix:
    """Makes requests of keys that are relative to a prefix, and takes answers apart.

    Args:
        prefix: with a slash at its end.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()

    def _key(self, key: str) -> str:
        return base64_of(self._prefix + key.encode())

    def _range(self, name: str) -> Object:
        """Return the range of one key, or of a folder (its name ends in a slash, or is "")."""
        start = self._prefix + name.encode()
        if not start.endswith(b"/"):
            return {"key": base64_of(start)}
        return {"key": base64_of(start), "range_end": base64_of(_end(start))}

    # -- requests ---------------------------------------------------------------------------------

    def reading(self, keys: Iterable[str]) -> Object:
        """Return a transaction that reads keys, all of them at one revision."""
        return {"success": [{"request_range": {"key": self._key(key)}} for key in keys]}

    def page(self, folder: str, after: str, limit: int, at: int) -> Object:
        """Return the request of up to `limit` keys of a folder, those after `after`.

        Args:
            folder: with a slash at its end, or "".
            after: the last key of the page before, or "".
            limit: how many.
            at: the revision of the page before, or 0 for now.
        """
        request: Object = {**self._range(folder), "limit": str(limit)}
        if after:
            request["key"] = self._key(f"{after}\0")
        if at:
            request["revision"] = str(at)
        return request

    def swap(self, conditions: Conditions, writes: Writes) -> Object:
        """Return a transaction that writes if all conditions are met."""
        puts = [
            {"request_put": {"key": self._key(key), "value": base64_of(value)}}
            for key, value in writes.items()
        ]
        return {"compare": self._compares(conditions), "success": puts}

    def removal(self, conditions: Conditions) -> Object:
        """Return a transaction that deletes keys if all conditions are met."""
        gone = [{"request_delete_range": {"key": self._key(key)}} for key in conditions]
        return {"compare": self._compares(conditions), "success": gone}

    def never(self) -> Object:
        """Return a write whose condition is never met: it only asks whether we might write."""
        request = self.swap({"elections/-": ABSENT}, {"elections/-": b""})
        request["compare"][0]["mod_revision"] = str(2**63 - 1)
        return request

    def watch(self, name: str, after: int) -> Object:
        """Return the order to report what happens in a range after a revision."""
        return {"create_request": {**self._range(name), "start_revision": str(after + 1)}}

    def _compares(self, conditions: Conditions) -> list[Object]:
        return [
            {
                "key": self._key(key),
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": "0" if version is ABSENT else str(version),
            }
            for key, version in conditions.items()
        ]

    # -- answers ----------------------------------------------------------------------------------

    def read(self, keys: Iterable[str], answer: Object) -> dict[str, Entry | None]:
        """Return what a transaction of `reading` found."""
        responses = answer["responses"]
        found: dict[str, Entry | None] = {}
        for key, response in zip(keys, responses, strict=True):
            kvs = response["response_range"].get("kvs", ())
            found[key] = self._entry(kvs[0]) if kvs else None
        return found

    def entries(self, answer: Object) -> list[Entry]:
        """Return the keys of a page."""
        return [self._entry(kv) for kv in answer.get("kvs", ())]

    def changes(self, result: Object) -> list[Change]:
        """Return what a message of a watch reports."""
        found = []
        for event in result.get("events", ()):
            entry = self._entry(event["kv"])
            gone = event.get("type") == "DELETE"
            found.append(Change(entry.key, None if gone else entry, entry.revision))
        return found

    def _entry(self, kv: Mapping[str, str]) -> Entry:
        key = bytes_of(kv["key"])[len(self._prefix) :].decode("utf-8", "replace")
        number = int(kv["mod_revision"])
        return Entry(key, bytes_of(kv.get("value", "")), number, number)


def revision(answer: Object) -> int:
    """Return the revision of the store at which a request was answered."""
    return int(answer["header"]["revision"])


def succeeded(answer: Object) -> bool:
    """Tell whether the conditions of a transaction were met."""
    return bool(answer.get("succeeded", False))


def cancelled(result: Object) -> tuple[bool, int, str]:
    """Return whether a watch was ended, the revision below which etcd forgot all, and why."""
    forgotten = int(result.get("compact_revision", 0))
    return bool(result.get("canceled", False)), forgotten, str(result.get("cancel_reason", ""))
