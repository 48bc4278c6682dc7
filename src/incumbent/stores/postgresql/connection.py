"""One connection to PostgreSQL, and what its errors mean.

psycopg connects; requests are sent by its `pq` layer (libpq) as *simple queries*: several
statements in one message are one transaction, which the server carries out and commits without
hearing from us again, and which a pooler in transaction mode passes on as one piece. Nothing here
is prepared, and no setting outlives a transaction.

Why not psycopg's cursors: a coroutine of theirs that is cancelled asks the server to cancel the
query, on a new connection, and waits for that. With a server that stands still, our time limits
would be overrun by seconds. And a cancelled wait for synchronous standbys ends with a *success* and
a warning. Here a cancelled request closes its connection, and cancels nothing.

Warnings
--------
1. An answer with a warning of class 01 in a transaction that writes is no confirmation: that is how
   the server says that the commit is there and its standbys may not have it.
2. An error of severity FATAL, or of the classes 08 and 57P, may come after the commit; and a pooler
   that lost the server in the middle of a query reports class 08 with any severity.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import pq

from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    StoreAbsent,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.sql.api import Rows

__all__ = ["Connection"]


class Connection:
    """A connection, for one request at a time. Make one with `to`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        self._doubts: list[str] = []
        connection.add_notice_handler(self._noticed)

    @classmethod
    async def to(cls, conninfo: str) -> Connection:
        """Connect.

        Raises:
            StoreUnavailable, PermissionDenied, StoreUnusable: by what the server or libpq says.
        """
        try:
            connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        except psycopg.Error as error:
            raise _not_connected(" ".join(str(error).split())) from None
        return cls(connection)

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if (notice.sqlstate or "").startswith("01"):
            self._doubts.append(
                " ".join(filter(None, (notice.message_primary, notice.message_detail)))
            )

    def is_sound(self) -> bool:
        """Tell whether it is idle and has nothing to say."""
        if self._libpq.status != pq.ConnStatus.OK:
            return False
        if self._libpq.transaction_status != pq.TransactionStatus.IDLE:
            return False
        poll = select.poll()
        poll.register(self._libpq.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """End it at once."""
        self._libpq.finish()

    async def ask(self, statements: Sequence[str], *, writes: bool) -> list[Rows]:
        """Carry out one transaction; return what each statement returned."""
        self._doubts.clear()
        try:
            found = await self._ask("; ".join(statements))
        except asyncio.CancelledError:
            self.close()
            raise
        except (psycopg.Error, OSError) as error:
            self.close()
            text = f"the connection was lost: {' '.join(str(error).split())}"
            raise (OutcomeUnknown if writes else StoreUnavailable)(text) from None
        failed = next((r for r in found if r.status == pq.ExecStatus.FATAL_ERROR), None)
        if failed is not None:
            raise _failed(failed, writes=writes)
        if self._doubts and writes:
            raise OutcomeUnknown(f"PostgreSQL warns: {'; '.join(self._doubts)}")
        return [_rows(result) for result in found]

    async def _ask(self, text: str) -> list[pq.abc.PGresult]:
        libpq = self._libpq
        libpq.send_query(text.encode())
        while libpq.flush():
            await self._ready(writable=True)
            libpq.consume_input()
        found: list[pq.abc.PGresult] = []
        while True:
            while libpq.is_busy():
                await self._ready()
                libpq.consume_input()
            result = libpq.get_result()
            if result is None:
                return found
            found.append(result)

    async def _ready(self, *, writable: bool = False) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        socket = self._libpq.socket
        loop.add_reader(socket, wake)
        if writable:
            loop.add_writer(socket, wake)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if writable:
                loop.remove_writer(socket)

    async def hear(self, limit_s: float) -> list[str]:
        """Return what was notified, waiting for up to `limit_s` if there is nothing yet.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        try:
            if not (heard := self._notified()):
                try:
                    async with asyncio.timeout(limit_s):
                        await self._ready()
                except TimeoutError:
                    return []
                self._libpq.consume_input()
                heard = self._notified()
        except (psycopg.Error, OSError) as error:
            self.close()
            raise StoreUnavailable(f"the connection was lost: {error}") from None
        return heard

    def _notified(self) -> list[str]:
        heard = []
        while (notify := self._libpq.notifies()) is not None:
            heard.append(notify.extra.decode(errors="replace"))
        return heard


def _rows(result: pq.abc.PGresult) -> Rows:
    def value(row: int, column: int) -> str | None:
        found = result.get_value(row, column)
        return None if found is None else found.decode()

    columns = range(result.nfields)
    return [tuple(value(row, column) for column in columns) for row in range(result.ntuples)]


_UNTOLD = ("08", "57P")
"""Whoever reports these may not know whether the commit was made."""
_OF_CODE: dict[str, type[StoreError]] = {
    "42501": PermissionDenied,
    "28": PermissionDenied,
    "53100": StoreFull,
    "25006": StoreUnusable,
    "42P01": StoreAbsent,
    "3D": StoreUnusable,
    "3F": StoreUnusable,
    "42": StoreUnusable,
    "22": StoreUnusable,
    "23": StoreUnusable,
}
"""By the class or the whole code; of what is not here (a lock's time limit, a deadlock, too many
connections, …) all that is known is that the transaction was undone."""
_ADVICE = {
    "25006": "it is read-only: name the primary, and not a standby",
    "42P01": "incumbent's tables are gone: somebody has dropped them",
}


def _failed(result: pq.abc.PGresult, *, writes: bool) -> StoreError:
    def told(field: pq.DiagnosticField) -> str:
        return (result.error_field(field) or b"").decode(errors="replace")

    code = told(pq.DiagnosticField.SQLSTATE)
    severity = told(pq.DiagnosticField.SEVERITY_NONLOCALIZED)
    text = told(pq.DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message()
    text = f"PostgreSQL says: {text.strip()} ({code or 'no code'})"
    if not code or severity != "ERROR" or code.startswith(_UNTOLD):
        return (OutcomeUnknown if writes else StoreUnavailable)(text)
    if code in _ADVICE:
        text = f"{text}; {_ADVICE[code]}"
    kind = _OF_CODE.get(code) or _OF_CODE.get(code[:2]) or StoreUnavailable
    return kind(text)


_DENIED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|permission denied"
    r"|not permitted|role .* does not exist|authentication method|password is wrong"
)
_WRONG = re.compile(
    r"database .* does not exist|certificate|SSL|TLS|invalid (?:connection|value|[a-z]+ value)"
    r"|no such database|unsupported startup parameter"
)


def _not_connected(text: str) -> StoreError:
    """Say why there is no connection: libpq has a text and no code for that."""
    if _DENIED.search(text):
        return PermissionDenied(text)
    if _WRONG.search(text):
        return StoreUnusable(text)
    return StoreUnavailable(text)
