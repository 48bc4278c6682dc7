"""One connection to MySQL or MariaDB, and what its errors mean.

The driver is PyMySQL, in a thread: of those that were looked at (November 2026) it is the one that
is kept with the most care (1.2.4 is of this month), and it is plain Python. aiomysql is built upon
it and has had one release in a year; asyncmy had its protocol rewritten in autumn, because a
request that was cancelled gave its answer to the next one; Connector/Python is GPL, and large.

A request that is cancelled shuts its socket down, which ends the thread's wait at once, also while
it greets a server that does not answer. The socket is ours for that: below any TLS, and made before
the driver has a hand in it.

Several statements in one message are carried out one after the other. An error ends the message and
not the transaction, so after an error the connection is closed, and the server rolls back.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import pymysql
from pymysql.constants import CLIENT, CR

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
from incumbent.threads import KeepersThread

__all__ = ["Connection", "NoTls"]

CONNECT_S = 10
SILENCE_S = 60
"""After which a thread stops waiting for an answer, if nobody has told it to before."""

T = TypeVar("T")


class NoTls(StoreUnusable):
    """The server does not offer TLS."""


class Connection:
    """A connection with a thread, for one request at a time. Make one with `to`.

    Args:
        place: of the server, for messages.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._driver: pymysql.connections.Connection[Any] | None = None
        self._plain: socket.socket | None = None
        self._closed = False
        KeepersThread(self._serve, "incumbent-mysql").start()

    @classmethod
    async def to(cls, params: Mapping[str, Any]) -> Connection:
        """Connect.

        Raises:
            StoreUnavailable, PermissionDenied, StoreUnusable: by what the server says.
        """
        socket_, host, port = params["unix_socket"], params["host"], params["port"]
        connection = cls(socket_ or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
        try:
            await connection._do(partial(connection._connect, params))
        except pymysql.MySQLError as error:
            connection.close()
            raise _not_connected(error, connection._place) from None
        except OSError as error:
            connection.close()
            raise StoreUnavailable(
                f"cannot connect to MySQL at {connection._place}: {error}"
            ) from None
        except (RuntimeError, ValueError) as error:
            connection.close()
            raise StoreUnusable(
                f"cannot connect to MySQL at {connection._place}: {error}"
            ) from None
        except BaseException:
            connection.close()
            raise
        return connection

    # -- in the thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, future = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            del entry, job, future
        if self._driver is not None and self._driver.open:
            with suppress(pymysql.MySQLError, OSError):
                self._driver.close()
        if self._plain is not None:
            self._plain.close()

    def _connect(self, params: Mapping[str, Any]) -> None:
        driver = pymysql.connect(
            **params,
            charset="utf8mb4",
            collation="utf8mb4_bin",
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
            connect_timeout=CONNECT_S,
            read_timeout=SILENCE_S,
            write_timeout=SILENCE_S,
            defer_connect=True,
        )
        self._driver = driver
        path = params.get("unix_socket")
        plain = _local(path) if path else _remote(params["host"], params["port"])
        self._plain = plain.dup()
        self._plain.settimeout(None)  # With one, `recv` waits before it asks whether to wait.
        if self._closed:
            plain.close()
            raise ConnectionAbortedError("given up")
        driver.connect(plain)

    def _ask(self, text: str) -> list[Rows]:
        assert self._driver is not None
        found: list[Rows] = []
        with self._driver.cursor() as cursor:
            cursor.execute(text)
            while True:
                found.append(list(cursor.fetchall()) if cursor.description else [])
                if not cursor.nextset():
                    return found

    # -- on the loop ------------------------------------------------------------------------------

    async def _do(self, job: Callable[[], T]) -> T:
        future: Future[T] = Future()
        self._jobs.put((job, future))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self.close()
            raise

    async def ask(self, statements: Sequence[str], *, writes: bool) -> list[Rows]:
        """Send some statements in one message; return what each of them returned."""
        try:
            return await self._do(partial(self._ask, "; ".join(statements)))
        except pymysql.MySQLError as error:
            self.close()
            raise _failed(error, self._place, writes=writes) from None
        except (OSError, ValueError) as error:
            self.close()
            text = f"the connection to MySQL at {self._place} was lost: {error}"
            raise (OutcomeUnknown if writes else StoreUnavailable)(text) from None

    def is_sound(self) -> bool:
        """Tell whether it is open and has nothing to say."""
        if self._closed or self._plain is None:
            return False
        try:
            self._plain.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """End it at once, whatever its thread is waiting for."""
        if self._closed:
            return
        self._closed = True
        if self._plain is not None:
            with suppress(OSError):
                self._plain.shutdown(socket.SHUT_RDWR)
        self._jobs.put(None)


def _local(path: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.settimeout(CONNECT_S)
    try:
        found.connect(path)
    except OSError:
        found.close()
        raise
    return found


def _remote(host: str, port: int) -> socket.socket:
    found = socket.create_connection((host, port), CONNECT_S)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return found


_UNTOLD = {1053, 1152, 1158, 1159, 1160, 1161, 1927, 4031}
"""The connection ends; whether the commit was made before is not told. So it is with the codes of
the client, 2000 and above."""
_OF_CODE: dict[int, type[StoreError]] = {
    **dict.fromkeys((1044, 1045, 1130, 1142, 1143, 1227, 1251, 1698, 1820), PermissionDenied),
    **dict.fromkeys((1021, 1114), StoreFull),
    **dict.fromkeys((1146, 1051), StoreAbsent),
    **dict.fromkeys((1049, 1054, 1064, 1286, 1290, 1406, 1665, 1792, 1836, 2026), StoreUnusable),
}
"""Of what is not here (a lock's time limit, a deadlock, too many connections, …) all that is known
is that the transaction is undone."""
_ADVICE = {
    1146: "incumbent's tables are gone: somebody has dropped them",
    1290: "it is read-only: name the primary, and not a replica",
    1665: "set binlog_format to MIXED or ROW",
    1836: "it is read-only: name the primary, and not a replica",
}


def _said(error: pymysql.MySQLError, place: str) -> tuple[int, str]:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    words = error.args[1] if len(error.args) > 1 else error
    text = f"MySQL at {place} says: {words} ({code or 'no code'})"
    return code, f"{text}; {_ADVICE[code]}" if code in _ADVICE else text


def _failed(error: pymysql.MySQLError, place: str, *, writes: bool) -> StoreError:
    code, text = _said(error, place)
    if (not 1000 <= code < 2000 and not 3000 <= code < 5000) or code in _UNTOLD:
        return (OutcomeUnknown if writes else StoreUnavailable)(text)
    return _OF_CODE.get(code, StoreUnavailable)(text)


def _not_connected(error: pymysql.MySQLError, place: str) -> StoreError:
    code, text = _said(error, place)
    if code == CR.CR_SSL_CONNECTION_ERROR:
        return NoTls(text)
    if "certificate" in text or "SSL" in text:
        return StoreUnusable(text)
    return _OF_CODE.get(code, StoreUnavailable)(text)
