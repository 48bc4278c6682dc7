"""Handles items in transactions of the user's database, each sealed with the token of the term.

    begin
    the token is raised, the id is written     (a greater token: StaleToken; the id is there: done)
    the item is taken out of the source        (if the source is a table of the same database)
    handler(item, db)
    is the transaction whole? is the term?
    commit                                     (and begin, if another item follows at once)

The checks before the commit are for those that only were slow. For one that was paused between its
check and its commit there is the seal: the successor's seal has waited for this transaction, or has
had its session ended by the server, or has raised the token before it began.

A transaction that was begun with a commit holds nothing until its first statement, which seals it.

A transaction is whole if it is still open and no statement of it has failed. A handler that catches
the error of a statement would else have its effects undone by the server, at a commit that
succeeds, and the item would be counted as done.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from incumbent.errors import IncumbentError, SourceUnavailable
from incumbent.fencing.progress import Database, database, kept
from incumbent.runtime.term import Term
from incumbent.workloads.consumer.begun import Begun
from incumbent.workloads.consumer.hand import Hand, Taker
from incumbent.workloads.consumer.places import Place
from incumbent.workloads.sources.api import Item, Joining

__all__ = ["Sealed"]

T = TypeVar("T")

_BURY = """\
INSERT INTO incumbent_dead (work, item, body, headers, reason, attempts, token)
VALUES (:work, :item, :body, :headers, :reason, :attempts, :token)
"""

_log = logging.getLogger("incumbent")


class Sealed(Hand):
    """Handles items in sealed transactions.

    Args:
        term: under which they are handled.
        handler: the user's.
        place: where the effects lie.
        waits: whether the handler, and the driver, are asyncio's.
        work: the name under which ids and checkpoint are kept.
        batch: how many items share a transaction, at most.
        remember: of how many items the ids are kept.
        joined: the source, if it lies in the same database.
    """

    def __init__(
        self,
        term: Term,
        handler: Callable[..., Any],
        place: Place,
        *,
        waits: bool,
        work: str,
        batch: int,
        remember: int,
        joined: Joining | None,
    ) -> None:
        super().__init__(term, handler, waits=waits)
        self._place = place
        self._batch = batch
        self._remember = remember
        self._joined = joined
        self._fence = term.fence(work)
        self._deaths = Begun(term, self._fence)
        self._connection: Any = None
        self._db: Database | None = None
        self._theirs = False
        self._begun: Any = None

    def _together(self) -> int:
        return self._batch

    async def open(self) -> str:
        """Connect, seal and read."""
        await self.close()
        self.term.check()
        try:
            self._connection = await self._place.connect(
                self.term, self._fence.resource, waits=self.waits
            )
        except Exception as error:
            raise self._meant(error) from error
        self._db = database(self._connection, waits=self.waits)
        return await self._transact(self._fence.checkpoint_in)

    async def close(self) -> None:
        """Disconnect; the server undoes what is not committed."""
        connection, self._connection, self._db = self._connection, None, None
        self._begun = None
        if connection is not None:
            try:
                await self._place.close(connection)
            except Exception:
                _log.debug("closing the connection to %s failed", self._place.name, exc_info=True)

    async def bury(self, item: Item, reason: str, *, keep: bool) -> None:
        """Mark the item as done, and have it in the table of the dead letters if `keep`."""

        async def steps(db: Database) -> None:
            first = await self._begins(db, item)
            if first and isinstance(self._handler, Taker):
                first = await self._handler.take(item, db)
            if first and keep:
                values = {
                    "work": self._fence.resource,
                    "item": kept(item.id),
                    "body": item.body,
                    "headers": json.dumps(dict(item.headers)),
                    "reason": reason.replace("\0", "\\0"),
                    "attempts": item.attempt,
                    "token": self._fence.token,
                }
                await db.run(_BURY, values)

        await self._transact(steps)

    async def begin(self, item: Item) -> int | None:
        """Note with which item the term begins."""
        return await self._transact(lambda db: self._deaths.begin(db, item.id))

    async def take_back(self, item: Item) -> None:
        """Note that the term ends in order.

        What was cancelled has no connection any more. To make one, without a limit of time, might
        keep the end away: so that is done with asyncio alone.
        """
        if self._db is None and self.waits:
            await self.open()
        await self._transact(lambda db: self._deaths.take_back(db, item.id))

    async def _settle(self, items: Sequence[Item], *, more: bool) -> None:
        async def steps(db: Database) -> None:
            for item in items:
                if await self._begins(db, item):
                    self._theirs = True
                    await self._call(item, self._connection)
                    self._theirs = False

        await self._transact(steps, more=more)

    async def _rest(self) -> None:
        """End a transaction that was begun for an item which did not come."""
        begun, self._begun = self._begun, None
        if begun is not None:
            try:
                await self._place.commit(self._connection, begun)
            except Exception:
                await self.close()

    async def _begins(self, db: Database, item: Item) -> bool:
        """Seal, write the id and take the item; tell whether it was there to be done."""
        taking = None if self._joined is None else self._joined.taking(item)
        return await self._fence.once_in(db, item.id, item.position, self._remember, taking)

    async def _transact(
        self, steps: Callable[[Database], Awaitable[T]], *, more: bool = False
    ) -> T:
        """Carry out `steps` in a transaction, and commit it; there may be another one at once.

        Raises:
            SourceUnavailable: the database is gone; the transaction is there as a whole or not at
                all, and the ids tell.
            StaleToken, LeadershipLost: the end; nothing was changed.
            IncumbentError: our own statements are refused.
            Exception: the handler's; nothing was changed.
        """
        if self._db is None:
            raise SourceUnavailable("there is no connection")
        self.term.check()
        self._theirs, committing = False, False
        begun, self._begun = self._begun, None
        try:
            if begun is None:
                begun = await self._place.begin(self._connection)
            result = await steps(self._db)
            self._theirs = True  # What is wrong with the transaction now is the handler's doing.
            await self._place.whole(self._connection)
            self.term.check()
            committing = True
            if more:
                self._begun = await self._place.commit_and_begin(self._connection, begun)
            else:
                await self._place.commit(self._connection, begun)
        except BaseException as error:
            meant = self._meant(error)
            gone = isinstance(meant, SourceUnavailable) or not isinstance(error, Exception)
            if gone or committing:
                await self.close()
            else:
                await self._undo(begun, error)
            if meant is error:
                raise
            raise meant from error
        return result

    async def _undo(self, begun: Any, error: BaseException) -> None:
        try:
            await self._place.rollback(self._connection, begun, error)
        except Exception:
            await self.close()

    def _meant(self, error: BaseException) -> BaseException:
        """Return what an error is: nobody's but the database's, the end, or the handler's."""
        if isinstance(error, IncumbentError) or not isinstance(error, Exception):
            return error
        if gone := self._place.lost(error, self._connection):
            return SourceUnavailable(f"{self._place.name}: {gone}")
        if self._theirs:
            return error
        return IncumbentError(f"{self._place.name}: {' '.join(str(error).split())}")
