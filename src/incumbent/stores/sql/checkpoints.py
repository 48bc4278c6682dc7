"""The checkpoints in a database: one table beside those of the elections.

1. **Made when it is first written to.** A database in which nobody keeps a checkpoint needs no
   table more than before, and no right to make one. Who lets candidates make none makes it first.
2. **A version is drawn by chance**, 128 bits of it, and belongs to the one write that drew it: a
   row that was deleted and inserted anew, and one of a restored backup that was written to since,
   have another one. So what compares an older version, however late, changes nothing.
3. **One transaction compares, writes, and reads what is there then.** Of two that compare the same
   version the second waits for the first, and finds another version. Whether it was written is told
   by the version that is there: our own, or another one.
4. **Several advances are one transaction.** Each draws a version of its own and is told by it, so
   none is taken for another's. They are written in the order of their parts, whoever sends them:
   so of two transactions one waits for the other, and they never wait for each other.

A value is text, base64, so that no driver need know what a binary column is.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import (
    CheckpointMoved,
    StoreAbsent,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.sql.api import Rows, Server

__all__ = ["TABLE", "SqlCheckpoints"]

TABLE = "incumbent_checkpoint"
LIMIT_S = 10.0
"""For how long the server may try if we are cut off from it. Nobody's lease hangs on it."""
_ATTEMPTS = 3
_COLUMNS = ("election", "part", "value", "token", "version")


class SqlCheckpoints:
    """The checkpoints in one database.

    Args:
        server: the database.
        chance: returns so many random bytes in hexadecimal; names versions.
    """

    def __init__(self, server: Server, chance: Callable[[int], str] = secrets.token_hex) -> None:
        self._server = server
        self._chance = chance
        self._table = f"{server.dialect.prefix}{TABLE}"
        self._text = server.dialect.text
        self._there = False

    async def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint."""
        return _found(name, part, await self._looked(self._select(name, [part])))

    async def listed(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part."""
        found = await self._looked(self._select(name))
        return sorted((_found(name, str(row[0]), [row]) for row in found), key=lambda at: at.part)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`."""
        (outcome,) = await self.advance_all([Advance(over, value, token)])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out several of one election; return what each came to."""
        outcomes: dict[int, Checkpoint | StoreError] = {}
        for _ in range(_ATTEMPTS):
            left = [number for number in range(len(advances)) if number not in outcomes]
            if not left:
                break
            outcomes |= await self._written({number: advances[number] for number in left})
        return [outcomes.get(number) or _disputed(one) for number, one in enumerate(advances)]

    async def _written(self, wanted: dict[int, Advance]) -> dict[int, Checkpoint | StoreError]:
        """Carry out a transaction, and return what those came to of which it is known by that."""
        if not await self._is_there():
            await self._server.write(self._server.dialect.make_checkpoints(), LIMIT_S)
            self._there = True
        versions = {number: self._chance(16) for number in wanted}
        ordered = sorted(wanted.items(), key=lambda entry: entry[1].over.part)
        changes = [self._change(one, versions[number]) for number, one in ordered]
        name = ordered[0][1].over.name
        parts = sorted({one.over.part for one in wanted.values()})
        try:
            *_, found = await self._server.write([*changes, self._select(name, parts)], LIMIT_S)
        except StoreAbsent:
            self._there = False  # Dropped by hand, with all that was in it; nothing was written.
            return {}
        rows = {str(row[0]): row for row in found}
        outcomes = {number: _outcome(one, versions[number], rows) for number, one in wanted.items()}
        return {number: outcome for number, outcome in outcomes.items() if outcome is not None}

    async def _looked(self, statement: str) -> Rows:
        if await self._is_there():
            try:
                (found,) = await self._server.look([statement])
            except StoreAbsent:
                self._there = False
            else:
                return found
        return []

    # -- statements -------------------------------------------------------------------------------

    def _select(self, name: str, parts: Sequence[str] = ()) -> str:
        where = f" AND part IN ({', '.join(map(self._text, parts))})" if parts else ""
        return (
            f"SELECT part, value, token, version FROM {self._table} "
            f"WHERE election = {self._text(name)}{where}"
        )

    def _change(self, one: Advance, version: str) -> str:
        over, text = one.over, self._text
        name, part = text(over.name), text(over.part)
        kept = text(base64.b64encode(one.value).decode())
        if over.version is None:
            source = f"VALUES ({name}, {part}, {kept}, {one.token}, {text(version)})"
            return self._server.dialect.insert_new(self._table, _COLUMNS, source)
        return (
            f"UPDATE {self._table} "
            f"SET value = {kept}, token = {one.token}, version = {text(version)} "
            f"WHERE election = {name} AND part = {part} AND version = {text(str(over.version))}"
        )

    # -- the table --------------------------------------------------------------------------------

    async def _is_there(self) -> bool:
        if not self._there:
            (found,) = await self._server.look([self._server.dialect.is_there(TABLE)])
            self._there = bool(found) and found[0][0] is not None
        return self._there


def _outcome(
    one: Advance, version: str, rows: Mapping[str, tuple[Any, ...]]
) -> Checkpoint | StoreError | None:
    """Tell by what is there then whether it was written; None: what was in the way is gone."""
    over = one.over
    row = rows.get(over.part)
    try:
        now = _found(over.name, over.part, [row] if row is not None else [])
    except StoreUnusable as error:
        return error
    if now.version == version:
        return now
    if now.version != over.version:
        return CheckpointMoved(now)
    return None


def _disputed(one: Advance) -> StoreError:
    return StoreUnavailable(f"the checkpoint {one.over.part!r} of {one.over.name!r} is in dispute")


def _found(name: str, part: str, rows: Rows) -> Checkpoint:
    if not rows:
        return Checkpoint(name, part)
    ((_, value, token, version),) = rows
    try:
        kept = base64.b64decode(str(value), validate=True)
    except (ValueError, binascii.Error):
        raise StoreUnusable(
            f"the checkpoint {part!r} of {name!r} was changed by hand to something that no "
            f"candidate can read: put it right, or delete its row of {TABLE} and the work starts "
            "afresh"
        ) from None
    return Checkpoint(name, part, kept, int(token), str(version))
