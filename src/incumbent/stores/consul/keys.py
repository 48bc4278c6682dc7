"""What our keys are called in Consul.

    PREFIX/elections/NAME/record     the record of an election
    PREFIX/elections/NAME/created    written anew whenever the record is created
    PREFIX/sessions/KEY              the session of a process

An election is a folder so that one query asks for exactly this election: `elections/jobs` would
also find `elections/jobs-at-night`. And the second key is in it because an absence has no version.
It outlives the record, so whoever finds the record absent twice, and `created` at the same index,
knows that nobody was elected in between.
"""

from __future__ import annotations

__all__ = ["ELECTIONS", "Keys"]

ELECTIONS = "elections"
_RECORD = "/record"


class Keys:
    """Translates the keys of `stores.kv` for one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def folder(self, folder: str) -> str:
        """Return the beginning of all keys of a folder."""
        return f"{self._prefix}/{folder}/"

    def path(self, key: str) -> str:
        """Return where a key is."""
        return f"{self._prefix}/{key}{_RECORD if _is_record(key) else ''}"

    def created(self, key: str) -> str | None:
        """Return where the creation of this key is noted, if it is."""
        return f"{self._prefix}/{key}/created" if _is_record(key) else None

    def beginning(self, key: str) -> str:
        """Return with what the paths begin that belong to this key, and no others."""
        return f"{self._prefix}/{key}/" if _is_record(key) else self.path(key)

    def key(self, path: str) -> str | None:
        """Return the key that is at `path`; None if it is no key of ours."""
        key = path.removeprefix(f"{self._prefix}/")
        if not _is_record(key):
            return key
        return key.removesuffix(_RECORD) if key.endswith(_RECORD) else None


def _is_record(key: str) -> bool:
    return key.startswith(f"{ELECTIONS}/")
