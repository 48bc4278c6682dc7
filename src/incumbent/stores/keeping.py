"""A store whose checkpoints are kept by something of its own, beside the elections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import StoreError
from incumbent.stores.api import StoreDefaults

__all__ = ["Checkpoints", "KeepingStore", "Together"]


class Checkpoints(Protocol):
    """What keeps them. Its methods are those of `stores.api.Store`, and raise the same."""

    async def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint, by a linearizable read."""
        ...

    async def listed(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part."""
        ...

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`."""
        ...


@runtime_checkable
class Together(Protocol):
    """What writes several of them by one request, and not one by one."""

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out advances of one election, each over exactly its own `over`."""
        ...


class KeepingStore(StoreDefaults):
    """The verbs of checkpoints, for a store that has `_checkpoints`; None refuses them."""

    _checkpoints: Checkpoints | None

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        """Return a checkpoint as it is now."""
        if self._checkpoints is None:
            return await super().checkpoint(name, part)
        return await self._checkpoints.read(name, part)

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election."""
        if self._checkpoints is None:
            return await super().checkpoints(name)
        return await self._checkpoints.listed(name)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write a checkpoint if it is still exactly `over`."""
        if self._checkpoints is None:
            return await super().advance(over, value, token)
        return await self._checkpoints.advance(over, value, token)

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out several advances of one election."""
        together: object = self._checkpoints
        if isinstance(together, Together):
            return await together.advance_all(advances)
        return await super().advance_all(advances)
