"""What a term gives to the user: one resource, one token, a method for each kind of resource."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from incumbent.errors import ConfigError, StaleToken
from incumbent.fencing import etcd, file, header, kubernetes, progress, redis, sql
from incumbent.fencing.both import through

__all__ = ["Fence"]

LONGEST_NAME = 200


class Fence:
    """Puts the token of one term into writes to one resource. Made by `Term.fence`.

    Attributes:
        resource: the name under which the resource remembers tokens; at most 200 characters. All
            leaders of an election use the same name for the same thing.
        token: of the term.
    """

    __slots__ = ("_check", "resource", "token")

    def __init__(self, resource: str, token: int | None, check: Callable[[], None]) -> None:
        if token is None:
            raise ConfigError(
                f"this store gives no fencing token, so {resource!r} cannot be fenced: choose "
                'another store, and require="token" to be told at the start'
            )
        if not 0 < len(resource) <= LONGEST_NAME:
            raise ConfigError(f"resource {resource!r}: use 1 to {LONGEST_NAME} characters")
        self.resource = resource
        self.token = token
        self._check = check

    def sql(self, connection: Any) -> None:
        """Seal and check in the transaction that `connection` is in, or begins with this.

        Args:
            connection: a DB-API connection of sqlite3, psycopg or PyMySQL, or a Connection or
                Session of SQLAlchemy. Known by name, and untried: psycopg2, mysqlclient, MySQL
                Connector, MariaDB Connector.

        Raises:
            StaleToken: a later leader was here. Leave the transaction with it.
            LeadershipLost: the term is over, or can no longer be trusted.
            ConfigError: the connection commits each statement by itself, so that nothing would be
                protected; or it is none that is known here.
        """
        self._check()
        self._judge(sql.seal(connection, self.resource, self.token))

    async def sql_async(self, connection: Any) -> None:
        """Do the same on an AsyncConnection or AsyncSession of SQLAlchemy, or of psycopg.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        self._check()
        self._judge(await sql.seal_async(connection, self.resource, self.token))

    def once(
        self, connection: Any, item: str, *, checkpoint: str = "", keep: int = progress.KEEP
    ) -> bool:
        """Seal and check as `sql` does, and write down that `item` is done: True the first time.

        With False it was done before, by whomever: do nothing for it. All of it is part of the
        transaction that `connection` is in, as your own writes are, so it is there with them or not
        at all. After a commit of which the outcome is unknown, do it again on a new connection: the
        answer tells.

        It needs the tables of `incumbent.fencing.progress.tables`.

        Args:
            connection: as for `sql`.
            item: its id, which no other item under this name has.
            checkpoint: how far the work has come with this; kept for `checkpoint`.
            keep: of how many items the ids are remembered, at least.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`. ConfigError also in the handler of
                a consumer under the name of its own work: its ids are noted before it is called.
        """
        self._refuse_handled()
        return through(self.once_in(progress.database(connection), item, checkpoint, keep))

    async def once_async(
        self, connection: Any, item: str, *, checkpoint: str = "", keep: int = progress.KEEP
    ) -> bool:
        """Do the same on a connection of asyncio: see `sql_async`.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `once`.
        """
        self._refuse_handled()
        db = progress.database(connection, waits=True)
        return await self.once_in(db, item, checkpoint, keep)

    def checkpoint(self, connection: Any) -> str:
        """Seal and check, and return the checkpoint that was committed last; "" if none was.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        return through(self.checkpoint_in(progress.database(connection)))

    async def checkpoint_async(self, connection: Any) -> str:
        """Do the same on a connection of asyncio: see `sql_async`.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        return await self.checkpoint_in(progress.database(connection, waits=True))

    def advance(self, connection: Any, checkpoint: str) -> None:
        """Seal and check, and write the checkpoint, for work that has no items to tell apart.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        through(self._advance(progress.database(connection), checkpoint))

    async def advance_async(self, connection: Any, checkpoint: str) -> None:
        """Do the same on a connection of asyncio: see `sql_async`.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        await self._advance(progress.database(connection, waits=True), checkpoint)

    def _refuse_handled(self) -> None:
        if progress.handled.get() == self.resource:
            raise ConfigError(
                f"the consumer {self.resource!r} notes its items and its checkpoint itself, before "
                "it calls the handler: leave this out, or use the fence of another name"
            )

    async def _advance(self, db: progress.Database, checkpoint: str) -> None:
        self._refuse_handled()
        await self.checkpoint_in(db)
        await progress.advance(db, self.resource, checkpoint)

    async def once_in(
        self,
        db: progress.Database,
        item: str,
        checkpoint: str = "",
        keep: int = progress.KEEP,
        taking: progress.Taking | None = None,
    ) -> bool:
        """Do what `once` does, for who has the connection in the hands of `progress` already.

        With `taking` an item that is not there to be taken was not first, either.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        return (await self.noted_in(db, item, checkpoint, keep, taking)).first

    async def noted_in(
        self,
        db: progress.Database,
        item: str,
        checkpoint: str,
        keep: int,
        taking: progress.Taking | None,
        step: int = 0,
    ) -> progress.Noted:
        """Do the same, and return all that was found.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        self._check()
        noted = await progress.note(
            db, self.resource, self.token, item, keep, taking, checkpoint, step
        )
        self._judge(noted.token)
        return noted

    async def checkpoint_in(self, db: progress.Database) -> str:
        """Do what `checkpoint` does, for who has the connection in the hands of `progress` already.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `sql`.
        """
        self._check()
        noted = await progress.read(db, self.resource, self.token)
        self._judge(noted.token)
        return noted.checkpoint

    def redis(self, pipeline: Any) -> None:
        """Seal and check in a transaction: a pipeline of redis-py that has no command in it yet.

        Then read what you need, by the client and not by the pipeline, which collects; add your
        commands, and execute. A WatchError says that some leader wrote in between, and that nothing
        was written: begin again with the fence.

        Raises:
            StaleToken, LeadershipLost: see `sql`. Reset the pipeline.
            ConfigError: it is no such pipeline, or the key holds something that is no token.
        """
        self._check()
        self._judge(redis.seal(pipeline, self.resource, self.token))

    async def redis_async(self, pipeline: Any) -> None:
        """Do the same on a pipeline of redis.asyncio.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `redis`.
        """
        self._check()
        self._judge(await redis.seal_async(pipeline, self.resource, self.token))

    def etcd(self, txn: Mapping[str, Any]) -> dict[str, Any]:
        """Return a transaction of etcd's JSON gateway that seals, checks and carries out `txn`.

        Send it by any client that takes this form (etcd3gw's `transaction` does), and give the
        answer to `etcd_result`. At the start of the term seal with an empty one, `fence.etcd({})`,
        before anything is read: etcd's transactions write what was read before them.

        Args:
            txn: with "compare", "success" and "failure", each of which may be missing.

        Raises:
            LeadershipLost: the term is over, or can no longer be trusted.
            ConfigError: it is no such transaction.
        """
        self._check()
        return etcd.sealed(txn, self.resource, self.token)

    def etcd_result(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to your own transaction, with "succeeded" and "responses".

        Raises:
            StaleToken: a later leader was here; your transaction was not carried out, neither its
                success nor its failure.
            ConfigError: it is no answer to such a transaction, or the key that remembers the token
                holds something else.
        """
        highest, own = etcd.result(answer, self.resource)
        self._judge(highest)
        return own

    def kubernetes(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return the object to write in place of `obj`, which was read from the API server.

        It has an annotation with the token, and the resourceVersion that was read: replace it (PUT)
        as it is. A conflict means that somebody wrote in between: read again, and fence again.

        Raises:
            StaleToken, LeadershipLost: see `sql`.
            ConfigError: the object has no resourceVersion, or an annotation that is no token.
        """
        self._check()
        highest, changed = kubernetes.sealed(obj, self.resource, self.token)
        self._judge(highest)
        return changed

    @contextmanager
    def file(self, path: str | os.PathLike[str]) -> Iterator[None]:
        """Write the file `path` in the body; the token is kept in `PATH.fence`, locked meanwhile.

        For writers of one host that all do the same. The name of the resource plays no part.

        Raises:
            StaleToken, LeadershipLost: on entering; see `sql`.
            ConfigError: `PATH.fence` holds something that is no token.
            OSError: it cannot be written.
        """
        self._check()
        with file.sealing(Path(path), self.token) as highest:
            self._judge(highest)
            yield

    def http(self) -> dict[str, str]:
        """Return the header fields that carry the token to a service: see `incumbent.fencing.http`.

        Ask for them anew for each request, and give each answer to `http_result`. At the start of
        the term, read by a request that carries them before anything is written.

        Raises:
            LeadershipLost: the term is over, or can no longer be trusted.
        """
        self._check()
        return header.written(self.resource, self.token)

    def http_result(self, status: int, body: bytes | str) -> None:
        """Return, unless the service has refused the token.

        Raises:
            StaleToken: a later leader was there, and nothing was changed.
        """
        told = header.refusal(status, body)
        if told:
            raise StaleToken(told)

    def _judge(self, highest: int) -> None:
        if highest > self.token:
            raise StaleToken(
                f"{self.resource!r} has seen token {highest}, and this term has {self.token}: a "
                "later leader is at work, and nothing was changed"
            )
