"""The checkpoints in a database: one table beside those of the elections.

1. **Made when it is first written to.** A database in which nobody keeps a checkpoint needs no
   table more than before, and no right to make one. Who lets candidates make none makes it first.
2. **A version is drawn by chance**, 128 bits of it, and belongs to the one write that drew it: a
   row that was deleted and inserted anew, and one of a restored backup that was written to since,
   have another one. So what compares an older version, however late, changes nothing.
3. **One transaction compares, writes, and reads what is there then.** Of two that compare the same
   version the second waits for the first, and finds another version. Whether it was written is told
   by the version that is there: our own, or another one.

A value is text, base64, so that no driver need know what a binary column is.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable

from incumbent.core.records import Checkpoint
from incumbent.errors import CheckpointMoved, StoreAbsent, StoreUnavailable, StoreUnusable
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
        return _found(name, part, await self._looked(self._select(name, part)))

    async def listed(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part."""
        found = await self._looked(self._select(name))
        return sorted((_found(name, str(row[0]), [row]) for row in found), key=lambda at: at.part)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`."""
        for _ in range(_ATTEMPTS):
            if not await self._is_there():
                await self._server.write(self._server.dialect.make_checkpoints(), LIMIT_S)
                self._there = True
            version = self._chance(16)
            change = self._change(over, value, token, version)
            try:
                *_, found = await self._server.write(
                    [change, self._select(over.name, over.part)], LIMIT_S
                )
            except StoreAbsent:
                self._there = (
                    False  # Dropped by hand, with all that was in it; nothing was written.
                )
                continue
            now = _found(over.name, over.part, found)
            if now.version == version:
                return now
            if now.version != over.version:
                raise CheckpointMoved(now)
            # It was in the way, and is gone: nothing was written.
        raise StoreUnavailable(f"the checkpoint {over.part!r} of {over.name!r} is in dispute")

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

    def _select(self, name: str, part: str = "") -> str:
        where = f" AND part = {self._text(part)}" if part else ""
        return (
            f"SELECT part, value, token, version FROM {self._table} "
            f"WHERE election = {self._text(name)}{where}"
        )

    def _change(self, over: Checkpoint, value: bytes, token: int, version: str) -> str:
        text, name, part = self._text, self._text(over.name), self._text(over.part)
        kept = text(base64.b64encode(value).decode())
        if over.version is None:
            source = f"VALUES ({name}, {part}, {kept}, {token}, {text(version)})"
            return self._server.dialect.insert_new(self._table, _COLUMNS, source)
        return (
            f"UPDATE {self._table} SET value = {kept}, token = {token}, version = {text(version)} "
            f"WHERE election = {name} AND part = {part} AND version = {text(str(over.version))}"
        )

    # -- the table --------------------------------------------------------------------------------

    async def _is_there(self) -> bool:
        if not self._there:
            (found,) = await self._server.look([self._server.dialect.is_there(TABLE)])
            self._there = bool(found) and found[0][0] is not None
        return self._there


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
