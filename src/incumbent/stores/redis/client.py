"""Connections to one server, and what its errors mean. redis-py is used here and nowhere else.

Why redis-py, and how much of it
--------------------------------
It is the server's own client, alive, and knows TLS, users and sockets of every kind; read in its
versions 5.0 to 8.1. Importing it costs 55 ms and 10.6 MiB, most of which is commands of which none
is sent here. Its `Redis` repeats commands that failed (three times, by default, since version 6),
has pools, and time limits that differ from version to version. So nothing is used of it but a
single `Connection` with every retry switched off: connect, send, receive.

What is known after an error
----------------------------
Nothing was sent if there was no connection. An answer that is an error says that nothing was
written: see rule 2 of `scripts`. Whatever was sent and not answered is unknown.

A connection on which an answer is missing is given up: what comes next on it would be taken for the
answer to something else. So a request that is cancelled closes its connection, and one request at a
time is under way on it. One that is urgent has a second connection while the first is busy.

Every connection is greeted before its first request: is this a primary, and one that we may use?
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis.exceptions as theirs
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
    causes,
)
from incumbent.stores.redis.scripts import FORMAT

__all__ = ["CLOSE_S", "Address", "Client", "Line", "Refusal", "facts"]

CONNECT_S = 5.0
"""A port that speaks no TLS keeps whoever greets it with TLS waiting for ever."""

CLOSE_S = 1.0

Word = str | bytes

_OPEN: list[AbstractConnection] = []
"""All that are connected. A forked child never touches what is its parent's: redis-py would close
a connection that is collected as garbage, and with it the parent's place in the event loop."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and who we are.

    Attributes:
        name: for messages, without secrets.
        host, port: empty for a socket.
        socket: the path of a Unix socket, or "".
        database: its number.
        username, password: None if not given.
        tls: settings of redis-py's `SSLConnection`; None for no TLS.
    """

    name: str
    host: str = ""
    port: int = 6379
    socket: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: dict[str, Any] | None = None

    def connection(self) -> AbstractConnection:
        """Return a connection that is not open yet."""
        options: dict[str, Any] = {
            "db": self.database,
            "username": self.username,
            "password": self.password,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_S,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
        }
        if self.socket:
            return UnixDomainSocketConnection(path=self.socket, **options)
        options |= {"host": self.host, "port": self.port, "socket_keepalive": True}
        if self.tls is None:
            return Connection(**options)
        return SSLConnection(**options, **self.tls)


class Refusal(StoreError):
    """The server answered with an error: nothing was written. See `Client.meaning`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Line:
    """One connection.

    Args:
        address: of the server.
        check: told the server's facts about itself; raises if it is none that we may use.
    """

    def __init__(self, address: Address, check: Callable[[dict[str, str]], None]) -> None:
        self._address = address
        self._check = check
        self._connection: AbstractConnection | None = None
        self._pid = os.getpid()

    @property
    def connected(self) -> bool:
        """Tell whether there is a connection, as far as is known."""
        ours = self._pid == os.getpid()
        return ours and self._connection is not None and self._connection.is_connected

    async def connect(self) -> None:
        """Connect if there is no connection.

        Raises:
            StoreError: there is none, and nothing was sent.
        """
        if self.connected:
            return
        connection = self._address.connection()
        _OPEN.append(connection)
        self._connection, self._pid = connection, os.getpid()
        try:
            with _meanings(self._address, sent=False):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("INFO")
                self._check(facts(await connection.read_response()))
        except BaseException:
            await self.close()
            raise

    async def send(self, *words: Word | int | float) -> None:
        """Send a command."""
        if self._connection is None:
            raise StoreUnavailable(f"{self._address.name}: not connected")
        with _meanings(self._address, sent=True):
            await self._connection.send_command(*words, check_health=False)

    async def receive(self, limit_s: float | None = None) -> Any:
        """Return the next answer, or None if there is none within the limit.

        Raises:
            Refusal: it is an error.
            OutcomeUnknown: there will be none.
        """
        if self._connection is None:
            raise OutcomeUnknown(f"{self._address.name}: not connected")
        with _meanings(self._address, sent=True):
            return await self._connection.read_response(timeout=limit_s)

    async def close(self, *, wait_s: float = 0.0) -> None:
        """Close the connection; wait for the end of TLS for as long as that."""
        connection, self._connection = self._connection, None
        if connection is None or self._pid != os.getpid():
            return
        with contextlib.suppress(theirs.RedisError, OSError, TimeoutError):
            if wait_s:
                async with asyncio.timeout(wait_s):
                    await connection.disconnect()
        with contextlib.suppress(theirs.RedisError, OSError):
            await connection.disconnect(nowait=True)
        if connection in _OPEN:
            _OPEN.remove(connection)


class _Lane:
    """A connection and its queue."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.turn = asyncio.Lock()
        self._requests = 0

    @property
    def busy(self) -> bool:
        """Tell whether anybody has it, or waits for it: a lock that is passed on looks free."""
        return bool(self._requests)

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[Line]:
        """Wait for one's turn, and have it."""
        self._requests += 1
        try:
            async with self.turn:
                yield self.line
        finally:
            self._requests -= 1


class Client:
    """Sends requests on one connection, one after another, and connects anew where it is lost.

    What is urgent waits for no other: if that connection is busy, it has one of its own, which is
    closed again by the next one that finds the first free. So who is not busy has one only, which
    each renewal keeps from growing old, and which a release finds good.
    """

    def __init__(self, address: Address, check: Callable[[dict[str, str]], None]) -> None:
        self.address = address
        self._check = check
        self._lane = _Lane(self.line())
        self._urgent = _Lane(self.line())

    def line(self) -> Line:
        """Return a further connection, not open yet."""
        return Line(self.address, self._check)

    async def connect(self) -> None:
        """Have a connection."""
        async with self._lane.taken() as line:
            await line.connect()

    async def close(self) -> None:
        """Give it back."""
        await self._urgent.line.close()
        await self._lane.line.close(wait_s=CLOSE_S)

    async def run(
        self,
        script: str,
        key: str,
        *arguments: Word | int,
        writes: bool,
        urgent: bool = False,
        beside: str = "",
    ) -> Any:
        """Run a script.

        Args:
            script: what to run.
            key: the one that it touches.
            *arguments: what it is told.
            writes: whether it may change anything.
            urgent: whether to wait for no request that is not.
            beside: a second key that it touches, if there is one.

        Raises:
            OutcomeUnknown: it may have run, and `writes`.
            StoreUnavailable, StoreUnusable, PermissionDenied: nothing was written.
        """
        name = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        words = (2, key, beside, *arguments) if beside else (1, key, *arguments)
        async with self._request(writes=writes, urgent=urgent) as line:
            try:
                return await _ask(line, "EVALSHA", name, *words)
            except Refusal as refusal:
                if refusal.code != "NOSCRIPT":
                    raise
            return await _ask(line, "EVAL", script, *words)

    async def ask(self, *words: Word | int) -> Any:
        """Send a command that writes nothing, and return the answer."""
        async with self._request(writes=False) as line:
            return await _ask(line, *words)

    @contextlib.asynccontextmanager
    async def _request(self, *, writes: bool, urgent: bool = False) -> AsyncIterator[Line]:
        lane = self._urgent if urgent and self._lane.busy else self._lane
        async with lane.taken() as line:
            if urgent and lane is self._lane and not self._urgent.busy:
                await self._urgent.line.close()
            await line.connect()
            try:
                yield line
            except Refusal as refusal:
                raise self.meaning(refusal) from refusal
            except OutcomeUnknown as error:
                await line.close()
                if writes:
                    raise
                raise StoreUnavailable(str(error)) from error
            except BaseException:
                await line.close()
                raise

    def meaning(self, refusal: Refusal) -> StoreError:
        """Return which error of ours an answer is."""
        return _ours(self.address, refusal)


async def _ask(line: Line, *words: Word | int) -> Any:
    await line.send(*words)
    return await line.receive()


def facts(answer: bytes) -> dict[str, str]:
    """Return what INFO says, by name."""
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


# -- what errors mean -----------------------------------------------------------------------------

_CODE = re.compile(r"\b[A-Z]{3,}\b")
_OTHERS = ("NOSCRIPT", "INCUMBENT")
_CODES = {
    theirs.NoScriptError: "NOSCRIPT",
    theirs.OutOfMemoryError: "OOM",
    theirs.ReadOnlyError: "READONLY",
    theirs.NoPermissionError: "NOPERM",
    theirs.MovedError: "MOVED",
    theirs.AskError: "ASK",
    theirs.ClusterDownError: "CLUSTERDOWN",
    theirs.TryAgainError: "TRYAGAIN",
    theirs.MasterDownError: "MASTERDOWN",
}


@contextlib.contextmanager
def _meanings(address: Address, *, sent: bool) -> Iterator[None]:
    """Turn redis-py's errors into ours, or into a `Refusal`."""
    try:
        yield
    except theirs.AuthenticationError as error:
        text = f"{address.name} does not know us: {error}"
        raise PermissionDenied(text) from None
    except theirs.BusyLoadingError as error:
        raise StoreUnavailable(f"{address.name}: {error}") from None
    except theirs.ResponseError as error:
        refusal = _refusal(error)
        raise refusal if sent else _ours(address, refusal) from None
    except (theirs.RedisError, OSError, EOFError) as error:
        if sent:
            raise OutcomeUnknown(f"{address.name}: no answer: {error}") from None
        for cause in causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                text = f"the certificate of {address.name} is not trusted: {cause}"
                raise StoreUnusable(text) from None
        raise StoreUnavailable(f"{address.name} cannot be reached: {error}") from None


def _refusal(error: theirs.ResponseError) -> Refusal:
    text = str(error)
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return Refusal(code, text)
    known = [word for word in _CODE.findall(text) if word in _MEANINGS or word in _OTHERS]
    if known:
        return Refusal(known[0], text)
    denied = any(words in text for words in _DENIED)
    return Refusal("NOPERM" if denied else "ERR", text)


_DENIED = ("can't run this command", "can't access", "No permissions", "no permissions")
"""What is said within a script, where no code is: by Redis up to 7.0, since 7.2 and by Valkey."""

_REPLICA = "it is a replica, whose answers may be old: name the primary"
_MEANINGS: dict[str, tuple[type[StoreError], str]] = {
    "NOPERM": (PermissionDenied, "a right is missing, see `ACL SETUSER` in the documentation"),
    "NOAUTH": (PermissionDenied, "it wants a user and a password"),
    "OOM": (StoreFull, "no room: raise maxmemory"),
    "MISCONF": (StoreFull, "it cannot write to its disk, and so refuses all writes"),
    "READONLY": (StoreUnavailable, _REPLICA),
    "MASTERDOWN": (StoreUnavailable, _REPLICA),
    "NOREPLICAS": (StoreUnavailable, "too few of its replicas answer"),
    "BUSY": (StoreUnavailable, "somebody's script keeps it busy"),
    "LOADING": (StoreUnavailable, "it is starting"),
    "CLUSTERDOWN": (StoreUnavailable, "the cluster is down"),
    "TRYAGAIN": (StoreUnavailable, "the cluster is moving our slot"),
    "ASK": (StoreUnavailable, "the cluster is moving our slot"),
    "MOVED": (StoreUnusable, "another node of the cluster has our slot: name that one"),
    "WRONGTYPE": (StoreUnusable, "the key is another program's: choose another prefix"),
}
_OWN = {
    "replica": (StoreUnavailable, _REPLICA),
    "nameless": (StoreUnusable, "it does not tell its replication id: it is no Redis or Valkey"),
}


def _ours(address: Address, refusal: Refusal) -> StoreError:
    if refusal.code == "INCUMBENT":
        said = str(refusal).partition("INCUMBENT ")[2].split()
        if said and said[0] in _OWN:
            kind, text = _OWN[said[0]]
            return kind(f"{address.name}: {text}")
        if said[:1] == ["format"] and len(said) > 1 and said[1].isdecimal():
            text = f"its data have format {said[1]}, and this incumbent knows {FORMAT}"
        else:
            text = _MEANINGS["WRONGTYPE"][1]
        return StoreUnusable(f"{address.name}: {text}")
    kind, text = _MEANINGS.get(refusal.code, (StoreUnusable, "it refused"))
    return kind(f"{address.name}: {text}: {refusal}")
