"""HTTP/1.1 to one server: a bounded pool on asyncio streams, with h11 as the parser.

Why not a ready client: an elector must know of every failed write whether it may have had an
effect, must give back a connection whenever it is cancelled (each time limit is a cancellation),
and pays for every renewal of every election. httpx2 2.16 was tried: a request cancelled in the TLS
handshake left its socket open for ever, so a silent API server cost one file descriptor an attempt,
and a PUT took 0.64 ms of CPU where this takes less than half of that.

`NotSent` is certain. `Broken` is not: some of the request had left. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

__all__ = ["Broken", "NotSent", "Pool", "Response"]

IDLE_S = 60.0
"""What idled longer is not used again: something in between may have forgotten it."""
AHEAD_S = 5.0
"""A connection that is made ready must be good for that long."""
_CHUNK_BYTES = 65_536
_LINE_BYTES = 4 * 1024 * 1024

_SOCKET_OPTIONS = (
    ("IPPROTO_TCP", "TCP_NODELAY", 1),
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 15),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", 5),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 30_000),
)

Headers = Iterable[tuple[str, str]]


class NotSent(Exception):
    """There was no connection; the server has seen nothing of the request."""


class Broken(Exception):
    """The connection ended, or spoke no HTTP, after the request had begun to leave."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; the body is empty where it is streamed. The names of headers are in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)


class Pool:
    """Connections to one server.

    Args:
        url: scheme, host and port; a path is put before that of each request.
        tls: trust and client certificate; None for plain HTTP.
        tls_name: the name in the server's certificate, if it is not the host.
        limit: how many requests at a time that are not urgent; more wait. None for any number.
    """

    def __init__(
        self, url: str, tls: ssl.SSLContext | None, tls_name: str, limit: int | None
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self._tls = tls
        self._tls_name = (tls_name or self._host) if tls else None
        self._slots = asyncio.Semaphore(limit) if limit else contextlib.nullcontext()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._closed = 0

    async def request(
        self,
        method: str,
        path: str,
        headers: Headers,
        content: bytes | None = None,
        *,
        urgent: bool = False,
    ) -> Response:
        """Send a request and return the whole answer.

        One that is urgent waits for no other: it has a connection beyond the limit if need be. A
        session has one under way at a time, and a process few sessions, so they are few.

        Raises:
            NotSent, Broken: see there.
        """
        exchange = self._exchange(method, path, headers, content, urgent=urgent)
        async with exchange as (connection, head):
            chunks = [chunk async for chunk in connection.body()]
        return Response(head.status_code, b"".join(chunks), dict(head.headers))

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, headers: Headers, *, method: str = "GET", content: bytes | None = None
    ) -> AsyncIterator[tuple[Response, AsyncIterator[bytes]]]:
        """Send a request; give the status, and the lines of the body as they come."""
        async with self._exchange(method, path, headers, content) as (connection, head):
            if head.status_code != 200:
                chunks = [chunk async for chunk in connection.body()]
                yield Response(head.status_code, b"".join(chunks), dict(head.headers)), _lines(None)
            else:
                yield Response(200, headers=dict(head.headers)), _lines(connection)

    async def connect(self) -> None:
        """Have a connection ready for a request that comes soon.

        Raises:
            NotSent: there is none.
        """
        async with self._slots:
            connection = self._take_idle(AHEAD_S)
            self._idle.append(connection or await self._connect())

    async def close(self) -> None:
        """Close every connection; requests in flight are broken."""
        self._closed += 1
        connections, self._idle = [*self._idle, *self._busy], []
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.closed()

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        headers: Headers,
        content: bytes | None,
        *,
        urgent: bool = False,
    ) -> AsyncIterator[tuple[_Connection, h11.Response]]:
        async with contextlib.nullcontext() if urgent else self._slots:
            connection = self._take_idle() or await self._connect()
            self._busy.add(connection)
            try:
                fields = [("Host", self._authority), *headers]
                if content is not None:
                    fields.append(("Content-Length", str(len(content))))
                target = self._prefix + path
                head = await connection.send(method, target, fields, content)
                yield connection, head
            except (OSError, ssl.SSLError, EOFError, h11.ProtocolError) as error:
                raise Broken(f"{type(error).__name__}: {error}") from None
            finally:
                # Whatever happened, a cancellation included: used again only if it is clean.
                self._busy.discard(connection)
                if connection.start_over():
                    self._idle.append(connection)
                else:
                    connection.abort()
                    await connection.closed()

    def _take_idle(self, ahead_s: float = 0.0) -> _Connection | None:
        now = asyncio.get_running_loop().time() + ahead_s
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(now):
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        closed = self._closed
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            if self._tls is not None:
                await _secure(writer, self._tls, self._tls_name)
        except (OSError, ssl.SSLError) as error:
            raise NotSent(str(error) or type(error).__name__) from error
        plug = writer.get_extra_info("socket")
        for level, option, value in _SOCKET_OPTIONS:
            if hasattr(socket, option):
                plug.setsockopt(getattr(socket, level), getattr(socket, option), value)
        connection = _Connection(reader, writer)
        if closed != self._closed:  # Nobody would close it.
            connection.abort()
            await connection.closed()
            raise NotSent("closed while it was connecting")
        return connection


async def _secure(writer: asyncio.StreamWriter, tls: ssl.SSLContext, name: str | None) -> None:
    """Begin TLS, or leave nothing open.

    asyncio can connect and begin TLS in one call. If that is cancelled just as the handshake ends,
    it asks the server to end TLS, and keeps the socket until there is an answer: 30 s, or for ever
    if the loop ends before. So the connection below is ours from the beginning.
    """
    connection = writer.transport
    try:
        await writer.start_tls(tls, server_hostname=name)
    except BaseException:
        connection.abort()
        raise


class _Connection:
    """One connection; one request at a time."""

    __slots__ = ("_idle_since", "_machine", "_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._machine = h11.Connection(h11.CLIENT)
        self._idle_since = asyncio.get_running_loop().time()

    def usable(self, now: float) -> bool:
        """Tell whether the server has neither closed it nor said something unasked."""
        if self._writer.is_closing() or self._reader.at_eof() or now - self._idle_since >= IDLE_S:
            return False
        # Its end may have arrived, and wait for the event loop to look.
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    async def send(
        self, method: str, target: str, headers: list[tuple[str, str]], content: bytes | None
    ) -> h11.Response:
        """Send a request and return the head of the answer."""
        machine = self._machine
        data = [machine.send(h11.Request(method=method, target=target, headers=headers))]
        if content:
            data.append(machine.send(h11.Data(data=content)))
        data.append(machine.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part for part in data if part))
        await self._writer.drain()
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event

    async def body(self) -> AsyncGenerator[bytes]:
        """Return the body in pieces, as they come."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError("the server closed the connection")

    async def _next(self) -> object:
        while True:
            event = self._machine.next_event()
            if event is h11.PAUSED:
                raise EOFError("the server sent more than was asked for")
            if event is not h11.NEED_DATA:
                return event
            data = await self._reader.read(_CHUNK_BYTES)
            if not data and self._machine.their_state is h11.SEND_RESPONSE:
                raise EOFError("the server closed the connection without an answer")
            self._machine.receive_data(data)

    def start_over(self) -> bool:
        """Make ready for another request, if the last one was answered to the end."""
        machine = self._machine
        finished = machine.our_state is h11.DONE and machine.their_state is h11.DONE
        if not finished or self._writer.is_closing():
            return False
        machine.start_next_cycle()
        self._idle_since = asyncio.get_running_loop().time()
        return True

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Return when it is closed."""
        with contextlib.suppress(OSError, ssl.SSLError):
            await self._writer.wait_closed()


async def _lines(connection: _Connection | None) -> AsyncGenerator[bytes]:
    rest = b""
    if connection is None:
        return
    async with contextlib.aclosing(connection.body()) as body:
        async for chunk in body:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield line
            if len(rest) > _LINE_BYTES:
                raise EOFError("a line without an end")
