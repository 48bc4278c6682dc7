"""Handles items in transactions of the user's database, each sealed with the token of the term.

    begin
    the token is raised, the id is written     (a greater token: StaleToken; the id is there: done)
    the item is taken out of the source        (if the source is a table of the same database)
    handler(item, db)
    is the transaction whole, and still the same? is the term there?
    commit                                     (and begin, if another item follows at once)

The checks before the commit are for those that only were slow. For one that was paused between its
check and its commit there is the seal: the successor's seal has waited for this transaction, or has
had its session ended by the server, or has raised the token before it began.

A transaction that was begun with a commit holds nothing until its first statement, which seals it.

A transaction is whole if it is still open and no statement of it has failed. A handler that catches
the error of a statement would else have its effects undone by the server, at a commit that
succeeds, and the item would be counted as done.

It is the same if nothing has ended it since the seal: what comes after a COMMIT of the handler's is
under no seal, and a half of an effect may be there already, with the id. That ends the run. The id
tells what has happened: it is there before we have committed, so the handler has. Then the item is
put among the dead letters, for it is neither done nor to be done again without somebody's look. The
id is asked for whenever a handler has failed, and it is remembered of which ids no commit was sent.

What the database says to a handler is not always said of itself: a function in it may raise what a
conflict raises, and a handler may stand in its own way. So the server is blamed ten times for one
item, if the seal before had succeeded each time; from then on each is a failed attempt.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from incumbent.errors import IncumbentError, SourceUnavailable
from incumbent.fencing import progress
from incumbent.fencing.progress import Database, Noted, done, kept
from incumbent.runtime.term import Term
from incumbent.workloads.consumer.begun import Begun
from incumbent.workloads.consumer.hand import Hand, Outcome, Taker, Vanished
from incumbent.workloads.consumer.places import Ended, Place
from incumbent.workloads.sources.api import Item, Joining

__all__ = ["Sealed"]

T = TypeVar("T")

PATIENCE = 10
"""How often an item may find that the database is not there, when its seal was written."""

_BURY = """\
INSERT INTO incumbent_dead (work, item, body, headers, reason, attempts, token)
VALUES (:work, :item, :body, :headers, :reason, :attempts, :token)
ON CONFLICT (work, item) DO UPDATE SET body = excluded.body, headers = excluded.headers,
    reason = excluded.reason, attempts = excluded.attempts, token = excluded.token
"""
_BURY_MYSQL = """\
INSERT INTO incumbent_dead (work, item, body, headers, reason, attempts, token)
VALUES (:work, :item, :body, :headers, :reason, :attempts, :token)
ON DUPLICATE KEY UPDATE body = VALUES(body), headers = VALUES(headers),
    reason = VALUES(reason), attempts = VALUES(attempts), token = VALUES(token)
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
        self._remember, self._step = remember, remember // 10
        self._joined = joined
        self._fence = term.fence(work)
        self._deaths = Begun(term, self._fence)
        self._connection: Any = None
        self._db: Database | None = None
        self._theirs = False
        self._begun: Any = None
        self._written: set[str] = set()
        self._in_hand = ""
        self._unsent: set[str] = set()
        self._held = ""
        self._blamed = ("", 0)
        self._former = self._left = 0

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
        self._db = self._place.database(self._connection)
        return await self._transact(self._read)

    async def _read(self, db: Database) -> str:
        checkpoint = await self._fence.checkpoint_in(db)
        span = await progress.span(db, self._fence.resource)
        self._former = self._left = span if span > self._remember + self._remember // 10 else 0
        return checkpoint

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
            noted = await self._noted(db, item)
            if not noted.known:
                self._written.add(item.id)
            fresh = not noted.known or item.id in self._unsent
            if fresh and isinstance(self._handler, Taker):
                fresh = await self._handler.take(item, db)
            if fresh and keep:
                await self._keep(db, item, reason)

        await self._transact(steps)

    async def _keep(self, db: Database, item: Item, reason: str) -> None:
        values = {
            "work": self._fence.resource,
            "item": kept(item.id),
            "body": item.body,
            "headers": json.dumps(dict(item.headers)),
            "reason": self._place.written(reason.replace("\0", "\\0"), self._connection),
            "attempts": item.attempt,
            "token": self._fence.token,
        }
        await db.run(_BURY_MYSQL if db.dialect in ("mysql", "mariadb") else _BURY, values)

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

    async def work(self, items: Sequence[Item]) -> Outcome:
        """Handle items; what is asked of the fence meanwhile, is asked by a handler."""
        handled = progress.handled.set(self._fence.resource)
        try:
            return await super().work(items)
        finally:
            progress.handled.reset(handled)

    async def _settle(self, items: Sequence[Item], *, more: bool) -> None:
        async def steps(db: Database) -> None:
            for item in items:
                if await self._begins(db, item):
                    await self._whole_call(db, item)

        try:
            await self._transact(steps, more=more)
        except SourceUnavailable:
            raise
        except Exception as error:
            await self._see_what_is_there(items, error)
            raise

    async def _whole_call(self, db: Database, item: Item) -> None:
        self._theirs, self._in_hand = True, item.id
        await self._call(item, self._connection)
        # What is wrong with the transaction now is the handler's doing.
        await self._place.whole(self._connection, db, self._held)
        self._theirs = False

    async def _see_what_is_there(self, items: Sequence[Item], error: Exception) -> None:
        """Put aside what a handler has committed by itself.

        Raises:
            Ended: there is something.
        """
        asked = [item for item in items if item.id in self._unsent]
        if not asked:
            return
        try:
            if self._db is None:
                await self.open()
            there = await self._transact(lambda db: self._put_aside(db, asked))
        except Exception as unknown:
            if isinstance(error, Ended):
                ids = ", ".join(item.id for item in asked)
                _log.error(
                    "%s: whether a handler has committed a part of these, nobody can tell (%s): %s",
                    self._fence.resource,
                    unknown,
                    ids,
                )
            return
        if there:
            self._unsent.difference_update(there)
            _log.error(
                "%s: a handler has committed by itself: its items are among the dead letters, and "
                "their effects may be there in part: %s",
                self._fence.resource,
                ", ".join(there),
            )
            if not isinstance(error, Ended):
                raise Ended from error

    async def _put_aside(self, db: Database, items: Sequence[Item]) -> list[str]:
        await self._fence.checkpoint_in(db)
        there = []
        for item in items:
            if await done(db, self._fence.resource, item.id):
                there.append(item.id)
                await self._keep(db, item, f"Ended: {Ended()}")
        return there

    async def _rest(self) -> None:
        """End a transaction that was begun for an item which did not come."""
        begun, self._begun = self._begun, None
        if begun is not None:
            try:
                await self._place.commit(self._connection, begun, "")
            except Exception:
                await self.close()

    async def _begins(self, db: Database, item: Item) -> bool:
        """Seal, write the id and take the item; tell whether it was there to be done."""
        noted = await self._noted(db, item)
        if not noted.known:
            self._written.add(item.id)
        elif item.id in self._unsent - self._written:
            raise Ended
        if not noted.known and not noted.first:
            raise Vanished(f"item {item.id} is there no more, or was changed: reading anew")
        if noted.first:
            self._held = await self._place.hold(db, noted, self._held)
        return noted.first

    def _noted(self, db: Database, item: Item) -> Coroutine[Any, Any, Noted]:
        taking = None if self._joined is None else self._joined.taking(item)
        keep = self._kept() if self._left else self._remember
        return self._fence.noted_in(db, item.id, item.position, keep, taking, self._step)

    def _kept(self) -> int:
        """Return of how many items the ids are kept now.

        Where more were kept before, as many are for one turn of them: whatever was handed out
        under the former settings comes in this time.
        """
        self._left -= 1
        return max(self._remember, self._former) if self._left else self._remember

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
            raise SourceUnavailable("the connection was given up, and another one is made")
        self.term.check()
        self._theirs, committing, self._held, self._in_hand = False, False, "", ""
        self._written = set()
        begun, self._begun = self._begun, None
        try:
            if begun is None:
                begun = await self._place.begin(self._connection)
            result = await steps(self._db)
            self.term.check()
            self._theirs = committing = True
            if more:
                self._begun = await self._place.commit_and_begin(
                    self._connection, begun, self._held
                )
            else:
                await self._place.commit(self._connection, begun, self._held)
        except BaseException as error:
            if committing and not isinstance(error, Ended):
                self._unsent -= self._written
            else:
                self._unsent |= self._written
            meant = self._meant(error, committing=committing)
            gone = isinstance(meant, SourceUnavailable) or not isinstance(error, Exception)
            if gone or committing:
                await self.close()
            else:
                await self._undo(begun, error)
            if meant is error:
                raise
            raise meant from error
        self._unsent -= self._written
        return result

    async def _undo(self, begun: Any, error: BaseException) -> None:
        try:
            await self._place.rollback(self._connection, begun, error)
        except Exception:
            await self.close()

    def _meant(self, error: BaseException, *, committing: bool = False) -> BaseException:
        """Return what an error is: nobody's but the database's, the end, or the handler's."""
        if isinstance(error, IncumbentError) or not isinstance(error, Exception):
            return error
        if self._theirs and not committing and self._place.refused(self._connection):
            return Ended()
        theirs = self._theirs and not committing
        gone = self._place.lost(error, self._connection, theirs=theirs)
        if gone and (not theirs or self._bears()):
            return SourceUnavailable(f"{self._place.name}: {gone}")
        if self._theirs or (self._in_hand and self._place.stood_still(error)):
            return error
        return IncumbentError(f"{self._place.name}: {' '.join(str(error).split())}")

    def _bears(self) -> bool:
        """Tell whether what the item in hand has met may be the database's fault once more."""
        item, times = self._blamed
        self._blamed = (self._in_hand, times + 1 if item == self._in_hand else 1)
        return self._blamed[1] <= PATIENCE
