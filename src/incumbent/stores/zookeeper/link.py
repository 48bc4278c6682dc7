"""One connection to one server: made once, thrown away at the first doubt, never mended.

This is the one module that knows kazoo, and all of its errors end here. kazoo is the client that
Python has for ZooKeeper (pure Python, no dependency, maintained: 2.11 is of March 2026, and the
first that counts its heartbeats on a clock that nobody sets). It works in threads of its own; what
it finds out comes back by `call_soon_threadsafe`.

Why not let kazoo keep the connection
-------------------------------------
It would mend it by itself, and stay with a server for as long as that answers pings, which a
server that was cut off from its peers does for many seconds. It has no time limit for a request
either. Nothing here needs its session: we have no ephemeral nodes, and watches are set anew after
every loss. So each connection has a session of its own, and a client of its own that is allowed
one connection. To begin a session is a write that a majority confirms, so a server that is cut off
does not even let us in, and the next one is tried.

The recipes of other libraries (`queue`) stand on ephemeral nodes, so on sessions that outlive a
connection. A link can be told to begin such a session, or to go on with one; which it is, and what
has become of it, is the business of `session`.

Rules
-----
1. **Nothing is repeated.** No request is retried by kazoo, and none is sent on a second connection.
2. What was handed to kazoo and not answered by the server is `OutcomeUnknown` if it writes. Only
   what was refused before that is `StoreUnavailable`.
3. A request that is given up after a while without an answer ends the connection.
4. Nothing blocks the event loop: ending a connection takes kazoo seconds, in a thread of its own.
5. Only `close` ends a session. `drop` breaks the connection first, so that kazoo's word of parting
   cannot reach the server: what is held under the session stays.

Warning: kazoo logs credentials, so nothing of its log is passed on but warnings, at DEBUG.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.serialization import Connect
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, make_digest_acl

from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    SessionGone,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.threads import KeepersThread

__all__ = ["ANY", "Link", "Op", "Server", "Session", "Settings", "Stat", "Unmet", "Why"]

_log = logging.getLogger("incumbent.stores.zookeeper")

ANY = -1
"""A version that every node has."""
SESSION_S = 6.0
"""How long a server keeps a silent session. kazoo pings thrice in it, and gives up after 2/3."""
CONNECT_S = 3.0
SILENT_S = 0.05
"""A request that is given up without an answer after less than this says nothing of the server."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to connect, to whichever server.

    Attributes:
        username, password: what the digest scheme is told; "" for none.
        cafile, certfile, keyfile: TLS is spoken if there is one of the first two.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""

    @property
    def encrypted(self) -> bool:
        """Tell whether TLS is spoken."""
        return bool(self.cafile or self.certfile)

    def context(self) -> ssl.SSLContext | None:
        """Return what TLS is spoken with. The files are read anew: certificates are replaced.

        Raises:
            OSError: one of the files cannot be used.
        """
        if not self.encrypted:
            return None
        context = ssl.create_default_context(cafile=self.cafile or None)
        if self.certfile:
            # A key that needs a password must not ask for it on a terminal.
            context.load_cert_chain(self.certfile, self.keyfile or None, password=lambda: b"")
        return context

    def rights(self) -> Sequence[Any]:
        """Return who may do what with a node of ours: we everything, others nothing if we can."""
        if self.username:
            return (make_digest_acl(self.username, self.password, all=True),)
        return tuple(CREATOR_ALL_ACL if self.certfile else OPEN_ACL_UNSAFE)


class Server(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Stat(NamedTuple):
    """What ZooKeeper says of a node.

    Attributes:
        version: counts the writes of its data, from 0.
        written: the transaction (zxid) of the last of them.
        children_changed: that in which a child last came or went, or the node was made.
        data_length: of its data, in bytes.
        children_version: counts the children that came or went.
        created: the transaction that made the node.
    """

    version: int
    written: int
    children_changed: int
    data_length: int
    children_version: int
    created: int = 0


class Session(NamedTuple):
    """A session at the servers, which a later connection may go on with.

    Attributes:
        timeout_s: how long the servers are asked to keep it when nobody is heard of.
        id, password: who goes on with it; 0 for a new one.
        seen: the youngest transaction that it knows: no server that does not may serve it.
    """

    timeout_s: float
    id: int = 0
    password: bytes = b""
    seen: int = 0


class Why(Enum):
    """Why a transaction was refused."""

    MISSING = "there is no such node"
    EXISTS = "there is such a node"
    CHANGED = "it has another version"
    FILLED = "it has children"


class Unmet(Exception):
    """A transaction was refused, as a whole, for the operation with this number."""

    def __init__(self, number: int, why: Why) -> None:
        super().__init__(f"operation {number}: {why.value}")
        self.number = number
        self.why = why


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a transaction: "create", "delete", "set_data" or "check"."""

    verb: str
    path: str
    value: bytes = b""
    version: int = ANY


class Link:
    """A connection to `server`. All methods are called on the event loop that opened it.

    Attributes:
        lost: gets the reason once it is over.
        on_event: is told the path when a watch fires.
        granted_s: for how long the server keeps the silent session; 0 if it is over, None as long
            as it has not said so.
    """

    def __init__(self, server: Server, settings: Settings, session: Session | None = None) -> None:
        self.server = server
        self._settings = settings
        self._session = session or Session(SESSION_S)
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.on_event: Callable[[str], None] | None = None
        self._disposed: asyncio.Future[None] = self._loop.create_future()
        self._settled = asyncio.Event()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._handler = _Handler(settings, self._ended)
        self._client = KazooClient(
            hosts=str(server),
            timeout=self._session.timeout_s,
            client_id=(self._session.id, self._session.password) if self._session.id else None,
            handler=self._handler,
            auth_data={("digest", f"{settings.username}:{settings.password}")}
            if settings.username
            else None,
            default_acl=settings.rights(),
            connection_retry=_once(),
            command_retry=_once(),
            logger=_Quiet(),
        )
        self._client.add_listener(self._heard)
        self._client.last_zxid = self._session.seen
        self.granted_s: float | None = None
        self._invoke = self._client._connection._invoke
        self._client._connection._invoke = self._listening

    # -- life -------------------------------------------------------------------------------------

    @classmethod
    async def connected(
        cls, server: Server, settings: Settings, session: Session | None = None
    ) -> Link:
        """Return a new connection.

        Raises:
            SessionGone: the session with which it should go on is over.
            StoreUnavailable: the server cannot be reached, or is cut off from its peers.
            StoreUnusable: it is not the one that we trust.
        """
        link = cls(server, settings, session)
        try:
            link._client.start_async()
            async with asyncio.timeout(CONNECT_S):
                await link._settled.wait()
            if link.lost.done():
                raise link._failure(link.lost.result())
        except TimeoutError:
            link.drop(f"no session within {CONNECT_S:g} s")
            raise StoreUnavailable(f"{server}: no session within {CONNECT_S:g} s") from None
        except BaseException:
            link.drop("given up")
            raise
        return link

    def drop(self, why: str) -> None:
        """End it at once, and not its session. What was not answered is unknown."""
        if not self.lost.done():
            self._handler.abort()
        self._over(why)

    @property
    def session(self) -> Session:
        """The session, for whoever goes on with it."""
        known = self._client.client_id
        if known is not None:  # kazoo forgets it with the connection.
            self._session = self._session._replace(id=known[0], password=known[1])
        return self._session._replace(seen=max(self._session.seen, self._client.last_zxid))

    async def close(self, limit_s: float = 1.0) -> None:
        """End it, and its session at the server, unless that takes too long."""
        if self._over("closed"):
            await asyncio.wait({self._disposed}, timeout=limit_s)
            self._handler.abort()

    def _over(self, why: str) -> bool:
        """Take note of the end; False if it was known. Whoever waits for an answer is told."""
        self.on_event = None
        if self.lost.done():
            return False
        self.lost.set_result(why)
        self._settled.set()
        for future in self._waiting:
            if not future.done():
                future.set_exception(exceptions.ConnectionLoss(why))
        self._waiting.clear()
        KeepersThread(self._dispose, "incumbent-zookeeper-end").start()
        return True

    def _dispose(self) -> None:
        """Have kazoo end its threads, and wait for them: in a thread of its own."""
        try:
            self._client.stop()
            self._client.close()
        except Exception as error:
            _log.debug("%s: the end of a connection: %r", self.server, error)
        finally:
            self._tell(self._disposed.set_result, None)

    def _failure(self, why: str) -> StoreError:
        if self.granted_s == 0 and self._session.id:
            return SessionGone(f"{self.server}: the session is over")
        error = self._handler.failure
        if isinstance(error, ssl.SSLCertVerificationError):
            return StoreUnusable(f"{self.server}: its certificate: {error.verify_message}")
        if error is not None:
            why = error.strerror or str(error)
        elif self._handler.connected:
            why = "it ended the connection before there was a session"
        elif not self._handler.asked:
            why = "its name cannot be resolved"
        return StoreUnavailable(f"{self.server}: {why}")

    # -- in kazoo's threads -----------------------------------------------------------------------

    def _listening(self, limit_s: float, request: Any, xid: int | None = None) -> Any:
        """Send what begins a connection, and note what is granted: kazoo tells it nobody."""
        begins = isinstance(request, Connect)
        # It would be waited for as long as the session is asked to last, however short that is.
        answer = self._invoke(max(limit_s, CONNECT_S) if begins else limit_s, request, xid)
        if begins:
            self.granted_s = max(0.0, answer[0].time_out / 1000)
        return answer

    def _heard(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._tell(self._settled.set)
        else:
            self._ended()

    def _ended(self) -> None:
        self._tell(self._lost_it)

    def _lost_it(self) -> None:
        self._over("the connection was lost")

    def _fired(self, event: Any) -> None:
        if event.path is not None:
            self._tell(self._pass_on, event.path)

    def _pass_on(self, path: str) -> None:
        if self.on_event is not None:
            self.on_event(path)

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        # A loop that is closed has nobody who wants to know.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    # -- requests ---------------------------------------------------------------------------------

    async def exists(self, path: str, *, watch: bool = False) -> Stat | None:
        """Return the node's state; a watch fires when it comes, changes or goes."""
        found = await self._read(self._client.exists_async, path, watch)
        return None if found is None else _stat(found)

    async def data(self, path: str, *, watch: bool = False) -> tuple[bytes, Stat] | None:
        """Return what is in a node; a watch fires when it changes or goes."""
        found = await self._read(self._client.get_async, path, watch)
        return None if found is None else (found[0], _stat(found[1]))

    async def children(
        self, path: str, *, watch: bool = False
    ) -> tuple[Sequence[str], Stat] | None:
        """Return the names of a node's children; a watch fires when one comes or goes."""

        def send(path: str, watcher: Any) -> Any:
            return self._client.get_children_async(path, watcher, include_data=True)

        found = await self._read(send, path, watch)
        return None if found is None else (found[0], _stat(found[1]))

    async def rights(self, path: str) -> Sequence[Any] | None:
        """Return the access list of a node: each entry has `perms`, and `id.scheme`, `id.id`."""
        found = await self._read(lambda path, _: self._client.get_acls_async(path), path, False)
        return None if found is None else found[0]

    async def _read(self, send: Callable[..., Any], path: str, watch: bool) -> Any:
        try:
            return await self._ask(lambda: send(path, self._fired if watch else None))
        except exceptions.NoNodeError:
            return None
        except StoreError:
            raise
        except Exception as error:
            raise _definite(error, path) or StoreUnavailable(f"{self.server}: {error!r}") from error

    async def stand(self, path: str, value: bytes) -> str | None:
        """Create a node that goes with the session, and return its name with a number behind it.

        None if there is nothing for it to stand in.
        """

        def send() -> Any:
            return self._client.create_async(path, value, ephemeral=True, sequence=True)

        try:
            return str(await self._ask(send))
        except exceptions.NoNodeError:
            return None
        except StoreError:
            raise
        except Exception as error:
            text = f"{self.server}: no answer to a write: {error!r}"
            raise _definite(error, path) or OutcomeUnknown(text) from error

    async def transact(self, ops: Sequence[Op]) -> list[Stat | None]:
        """Do all of `ops` in one atomic step that a majority confirms, or nothing.

        Raises:
            Unmet: one of them could not be done.
        """

        def send() -> Any:
            request = self._client.transaction()
            for op in ops:
                if op.verb == "create":
                    request.create(op.path, op.value)
                elif op.verb == "set_data":
                    request.set_data(op.path, op.value, op.version)
                else:
                    getattr(request, op.verb)(op.path, op.version)
            return request.commit_async()

        try:
            answers = await self._ask(send)
        except StoreError:
            raise
        except Exception as error:
            text = f"{self.server}: no answer to a write: {error!r}"
            raise _definite(error, ops[0].path) or OutcomeUnknown(text) from error
        both = list(zip(ops, answers, strict=True))
        for number, (op, answer) in enumerate(both):
            if isinstance(answer, _FOR_OTHERS) or not isinstance(answer, Exception):
                continue
            if type(answer) in _UNMET:
                raise Unmet(number, _UNMET[type(answer)])
            text = f"{self.server}: {op.verb} {op.path}: {answer!r}"
            raise _definite(answer, op.path) or OutcomeUnknown(text) from answer
        return [_stat(x) if op.verb == "set_data" else None for op, x in both]

    async def _ask(self, send: Callable[[], Any]) -> Any:
        if self.lost.done():
            raise StoreUnavailable(f"{self.server}: {self.lost.result()}")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.add(answer)
        began = self._loop.time()
        try:
            send().rawlink(lambda result: self._tell(_hand_over, result, answer))
            return await answer
        except asyncio.CancelledError:
            if self._loop.time() - began > SILENT_S:
                self.drop("a request was not answered in time")
            raise
        finally:
            self._waiting.discard(answer)


def _hand_over(result: Any, answer: asyncio.Future[Any]) -> None:
    if answer.done():
        return
    if result.successful():
        answer.set_result(result.value)
    else:
        answer.set_exception(result.exception)


def _stat(found: Any) -> Stat:
    return Stat(
        found.version, found.mzxid, found.pzxid, found.dataLength, found.cversion, found.czxid
    )


_FOR_OTHERS = (exceptions.RolledBackError, exceptions.RuntimeInconsistency)
"""What operations are answered that were not done because of another one."""

_UNMET = {
    exceptions.NoNodeError: Why.MISSING,
    exceptions.NodeExistsError: Why.EXISTS,
    exceptions.BadVersionError: Why.CHANGED,
    exceptions.NotEmptyError: Why.FILLED,
}


def _definite(error: Exception, path: str) -> StoreError | None:
    """Return what an answer of the server says for certain: that nothing was changed."""
    if isinstance(error, exceptions.NoAuthError):
        return PermissionDenied(f"ZooKeeper: no right to do this at {path}: {_RIGHTS}")
    if isinstance(error, exceptions.InvalidACLError):
        return PermissionDenied(f"ZooKeeper knows no one of these credentials at {path}")
    if isinstance(error, exceptions.QuotaExceededError):
        return StoreFull(f"ZooKeeper: the quota above {path} is used up")
    if isinstance(error, exceptions.ThrottledOpError):
        return StoreUnavailable("ZooKeeper turned the request away: it has too many")
    return None


_RIGHTS = "the user name, password or certificate is another than that of the nodes' owner"


def _once() -> KazooRetry:
    return KazooRetry(max_tries=1, sleep_func=SequentialThreadingHandler.sleep_func)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads, with our TLS, one connection, and a word at its end.

    Attributes:
        failure: why there was no connection.
        asked: a connection was asked for, so the name had been resolved.
    """

    def __init__(self, settings: Settings, on_end: Callable[[], None]) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.asked = False
        self._settings = settings
        self._on_end = on_end
        self._socket: socket.socket | None = None

    @property
    def connected(self) -> bool:
        """Tell whether there was a connection."""
        return self._socket is not None

    def start(self) -> None:
        """Start the threads, without what would wait for them in a forked child at its exit."""
        super().start()
        atexit.unregister(self.stop)

    def spawn(self, func: Callable[..., Any], *args: Any, **options: Any) -> KeepersThread:
        """Start a thread; none of them ends as long as the connection is good."""

        def run() -> None:
            try:
                func(*args, **options)
            finally:
                self._on_end()

        thread = KeepersThread(run, "incumbent-zookeeper")
        thread.start()
        return thread

    def create_connection(
        self, address: tuple[str, int], hostname: str | None = None, **_: Any
    ) -> socket.socket:
        """Connect, once."""
        self.asked = True
        if self._socket is not None:
            raise OSError("the connection was lost")
        try:
            made = socket.create_connection(address, CONNECT_S)
            try:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                context = self._settings.context()
                if context is not None:
                    made = context.wrap_socket(made, server_hostname=hostname)
            except BaseException:
                made.close()
                raise
        except OSError as error:
            self.failure = error
            raise
        self._socket = made
        return made

    def abort(self) -> None:
        """Break the connection. kazoo notices by itself, and closes the socket."""
        if self._socket is not None:
            with suppress(OSError):
                # Below TLS, which may be in use by kazoo's thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Quiet(logging.Logger):
    """kazoo's own log, of which only warnings are passed on: in the rest are credentials."""

    def __init__(self) -> None:
        super().__init__("kazoo", logging.WARNING)

    def handle(self, record: logging.LogRecord) -> None:
        """Say it as a matter of detail: the connection's end is reported by us."""
        _log.debug("kazoo: %s", record.getMessage())
