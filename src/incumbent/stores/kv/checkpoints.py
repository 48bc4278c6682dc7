"""The checkpoints of a key-value server: a key each, beside those of the elections.

    checkpoints-ELECTION/PART        both shortened: see `stores.naming`

Each write is one swap of one key, so a driver's rules are all that it takes: a version belongs to
one write and is never used again, also not after the key was deleted (rule 2 of `kv.api`).

A conflict may be a write of ours that was repeated on its way (rule 5 of `kv.store`): it is said as
what is there now, and whoever meant just that takes it for its own. If that cannot be read, nothing
is known.
"""

from __future__ import annotations

from incumbent.core.records import Checkpoint
from incumbent.errors import CheckpointMoved, OutcomeUnknown, StoreError, StoreUnavailable
from incumbent.stores import naming
from incumbent.stores.kv.api import ABSENT, Conflict, KeyValue

__all__ = ["KeyedCheckpoints"]

_ATTEMPTS = 3


class KeyedCheckpoints:
    """The checkpoints among the keys of one driver."""

    def __init__(self, driver: KeyValue) -> None:
        self._driver = driver

    async def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint."""
        entry, _ = await self._driver.get(_key(name, part))
        if entry is None:
            return Checkpoint(name, part)
        return naming.decoded(name, part, entry.value, entry.version)

    async def listed(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part."""
        entries = await self._driver.entries(_folder(name))
        found = [naming.decoded(name, "", entry.value, entry.version) for entry in entries]
        return sorted(found, key=lambda at: at.part)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`."""
        key = _key(over.name, over.part)
        condition = ABSENT if over.version is None else over.version
        text = naming.encoded(over.name, over.part, value, token)
        for _ in range(_ATTEMPTS):
            try:
                entry = (await self._driver.swap({key: condition}, {key: text}))[key]
            except Conflict as conflict:
                now = await self._after(conflict, over)
                if now.version != over.version:
                    raise CheckpointMoved(now) from None
                continue  # It was in the way, and is gone: nothing was written.
            return Checkpoint(over.name, over.part, value, token, entry.version)
        raise StoreUnavailable(f"the checkpoint {over.part!r} of {over.name!r} is in dispute")

    async def _after(self, conflict: Conflict, over: Checkpoint) -> Checkpoint:
        try:
            return await self.read(over.name, over.part)
        except StoreError as error:
            raise OutcomeUnknown(f"{conflict}; what is there could not be read: {error}") from error


def _folder(name: str) -> str:
    return f"checkpoints-{naming.election_key(name)}"


def _key(name: str, part: str) -> str:
    return f"{_folder(name)}/{naming.part_key(part)}"
