"""A TCP proxy that breaks the network between a client and a server on command.

One thread owns every socket and carries out the commands between two rounds of its loop; each
method waits for that, so when it returns no byte moves under the old rules any more, and a test
needs no grace period. Bytes that the operating system took from a sender but that did not leave
the proxy before a `cut` are held, not lost, as retransmission would do it on a real network.

What a proxy cannot imitate: the sender's own kernel sees its bytes acknowledged, so TCP timeouts
and keepalives of the client do not notice a `cut`; timeouts of the application do.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import queue
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self

from tests.servers.ports import claim_port, release_port

_CHUNK_BYTES = 64 * 1024
_PENDING_LIMIT_BYTES = 1024 * 1024
_CONTROL_TIMEOUT_S = 10.0
_BACKLOG = 128


class Mode(enum.Enum):
    """What the network does; `reset` is no mode but an event."""

    PASS = "pass"
    CUT = "cut"
    REFUSE = "refuse"
    DROP_REPLIES = "drop_replies"
    HOLD_REQUESTS = "hold_requests"


@dataclass(slots=True, eq=False)
class _Flow:
    """One direction: chunks, each with the time from which it may leave; b"" is the end."""

    source: socket.socket
    sink: socket.socket
    is_reply: bool
    chunks: deque[tuple[float, bytes]] = field(default_factory=deque)
    pending_bytes: int = 0
    source_ended: bool = False
    sink_ended: bool = False
    held: bool = False
    tail: bytes = b""


@dataclass(slots=True, eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    flows: tuple[_Flow, _Flow]
    connecting: bool = False
    connected: bool = False
    lost_bytes: bool = False


class Proxy:
    """Listens on a loopback port of its own and forwards to the target until told otherwise.

    To be closed, or used as a context manager.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host = "127.0.0.1"
        self.port = claim_port()
        self.rewrite: tuple[bytes, bytes] | None = None
        """What clients say in one piece, and what the server is to read in its place."""
        self._target = (target_host, target_port)
        self._mode = Mode.PASS
        self._marker = b""
        self._delay_s = 0.0
        self._accepted = 0
        self._recorded: tuple[bytearray, bytearray] | None = None
        self._read_bytes = 0
        self._connections: set[_Connection] = set()
        self._commands: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = (
            queue.SimpleQueue()
        )
        self._selector = selectors.DefaultSelector()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._closed = False
        self._listen()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Host and port, as they stand in a URL."""
        return f"{self.host}:{self.port}"

    @property
    def mode(self) -> Mode:
        return self._mode

    @property
    def accepted(self) -> int:
        """How many connections clients have opened so far."""
        return self._accepted

    def server_side_ports(self) -> list[int]:
        """Return the ports from which it speaks to the server: there, its clients' names."""
        ports: list[int] = []
        self._command(lambda: ports.extend(self._ports_to_server()))
        return ports

    def retarget(self, host: str, port: int) -> None:
        """Abort every connection, and lead new ones to another server, as a moved name does."""

        def move() -> None:
            self._target = (host, port)
            self._abort_all()

        self._command(move)

    @property
    def read_bytes(self) -> int:
        """How much was read so far, from clients and from the server."""
        return self._read_bytes

    def cut(self) -> None:
        """No byte moves either way; connections stay open, new ones are accepted and silent.

        After `heal` both kinds go on with what was held.
        """
        self._command(functools.partial(self._set_mode, Mode.CUT))

    def reset(self) -> None:
        """Abort every connection on both sides with a TCP reset; the mode stays as it is."""
        self._command(self._abort_all)

    def refuse(self) -> None:
        """As if the server had died: aborts every connection, and the port refuses new ones."""
        self._command(functools.partial(self._set_mode, Mode.REFUSE))

    def drop_replies(self) -> None:
        """What clients send arrives, what the server answers is swallowed: outcomes are unknown.

        A TLS handshake needs answers, so over TLS this concerns requests on connections that
        exist. A connection that lost bytes is aborted by `heal`, because nothing on it could make
        sense again.
        """
        self._command(functools.partial(self._set_mode, Mode.DROP_REPLIES))

    def hold_requests(self) -> None:
        """What the server sends arrives, what clients send is held until `heal`.

        So what a client hears meanwhile is what the server says unasked.
        """
        self._command(functools.partial(self._set_mode, Mode.HOLD_REQUESTS))

    def hold_saying(self, marker: bytes) -> None:
        """Hold what a client sends on a connection from the piece on that has `marker` in it.

        All other connections pass. `heal` ends it.
        """
        self._command(functools.partial(setattr, self, "_marker", marker))

    def held(self) -> int:
        """Return how many connections are held by `hold_saying`."""
        found: list[_Connection] = []
        self._command(lambda: found.extend(c for c in self._connections if c.flows[0].held))
        return len(found)

    def record(self) -> None:
        """Forget what was recorded, and record from now on what comes from either side."""
        self._command(self._begin_record)

    def recorded(self) -> tuple[bytes, bytes]:
        """Return what came from clients and from the server since `record`, held or not."""
        found: list[bytes] = []
        self._command(lambda: found.extend(bytes(side) for side in self._recorded or (b"", b"")))
        return found[0], found[1]

    def delay(self, seconds: float) -> None:
        """Delay what is read from now on, in each direction; 0 ends that."""
        if seconds < 0:
            raise ValueError("a delay cannot be negative")
        self._command(functools.partial(setattr, self, "_delay_s", seconds))

    def heal(self) -> None:
        """Pass everything again, without delay."""
        self._command(self._heal)

    def close(self) -> None:
        """Abort every connection and ends the thread."""
        if not self._closed:
            self._command(self._shut_down)
            self._thread.join(_CONTROL_TIMEOUT_S)
            release_port(self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _command(self, action: Callable[[], None]) -> None:
        if self._closed:
            raise RuntimeError("the proxy is closed")
        done: Future[None] = Future()
        self._commands.put((action, done))
        self._wake_sender.send(b"\0")
        done.result(_CONTROL_TIMEOUT_S)

    def _serve(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(self._next_due_in_s()):
                if key.fileobj is self._wake_receiver:
                    self._run_commands()
                    break
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _Connection) and key.data in self._connections:
                    self._advance(key.data)
            if not self._closed:
                self._move_due()
                self._update_interests()
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _run_commands(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(_CHUNK_BYTES)
        while not self._closed:
            try:
                action, done = self._commands.get_nowait()
            except queue.Empty:
                return
            try:
                action()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _set_mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.REFUSE:
            self._stop_listening()
            self._abort_all()
        elif self._listener is None:
            self._listen()

    def _heal(self) -> None:
        self._delay_s = 0.0
        self._marker = b""
        for connection in list(self._connections):
            connection.flows[0].held = False
            if connection.lost_bytes:
                self._abort(connection)
        self._set_mode(Mode.PASS)

    def _begin_record(self) -> None:
        self._recorded = bytearray(), bytearray()

    def _holds(self, flow: _Flow) -> bool:
        return flow.held or (self._mode is Mode.HOLD_REQUESTS and not flow.is_reply)

    def _shut_down(self) -> None:
        self._stop_listening()
        self._abort_all()
        self._closed = True

    def _listen(self) -> None:
        self._listener = socket.create_server(
            (self.host, self.port), backlog=_BACKLOG, reuse_port=False
        )
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted += 1
        flows = (_Flow(client, server, is_reply=False), _Flow(server, client, is_reply=True))
        self._connections.add(_Connection(client, server, flows))

    def _advance(self, connection: _Connection) -> None:
        if self._mode is Mode.CUT:
            return
        try:
            if not connection.connected:
                self._finish_connecting(connection)
                return
            for flow in connection.flows:
                self._read(connection, flow)
                self._write(flow)
            if all(flow.sink_ended for flow in connection.flows):
                self._close(connection)
        except OSError:
            self._abort(connection)

    def _finish_connecting(self, connection: _Connection) -> None:
        error = connection.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise ConnectionError(error)
        with contextlib.suppress(OSError):
            connection.server.getpeername()
            connection.connected = True

    def _read(self, connection: _Connection, flow: _Flow) -> None:
        if flow.source_ended or flow.pending_bytes > _PENDING_LIMIT_BYTES:
            return
        try:
            chunk = flow.source.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        flow.source_ended = not chunk
        if self._recorded is not None:
            self._recorded[flow.is_reply].extend(chunk)
        self._read_bytes += len(chunk)
        if flow.is_reply and self._mode is Mode.DROP_REPLIES:
            connection.lost_bytes = True
            return
        if self._marker and not flow.is_reply:
            flow.held = flow.held or self._marker in flow.tail + chunk
            flow.tail = (flow.tail + chunk)[1 - len(self._marker) :]
        if self.rewrite is not None and not flow.is_reply:
            chunk = chunk.replace(*self.rewrite)
        flow.chunks.append((time.monotonic() + self._delay_s, chunk))
        flow.pending_bytes += len(chunk)

    def _write(self, flow: _Flow) -> None:
        now_s = time.monotonic()
        while flow.chunks and flow.chunks[0][0] <= now_s and not self._holds(flow):
            due_s, chunk = flow.chunks[0]
            if not chunk:
                flow.chunks.popleft()
                flow.sink.shutdown(socket.SHUT_WR)
                flow.sink_ended = True
                return
            try:
                sent = flow.sink.send(chunk)
            except BlockingIOError:
                return
            flow.pending_bytes -= sent
            if sent < len(chunk):
                flow.chunks[0] = (due_s, chunk[sent:])
                return
            flow.chunks.popleft()

    def _move_due(self) -> None:
        if self._mode is Mode.CUT:
            return
        for connection in list(self._connections):
            if not connection.connecting:
                self._connect(connection)
            elif connection.connected and any(flow.chunks for flow in connection.flows):
                self._advance(connection)

    def _connect(self, connection: _Connection) -> None:
        connection.connecting = True
        try:
            with contextlib.suppress(BlockingIOError):
                connection.server.connect(self._target)
        except OSError:
            self._abort(connection)

    def _next_due_in_s(self) -> float | None:
        if self._mode is Mode.CUT:
            return None
        now_s = time.monotonic()
        future_s = [
            flow.chunks[0][0] - now_s
            for connection in self._connections
            for flow in connection.flows
            if flow.chunks and flow.chunks[0][0] > now_s
        ]
        return min(future_s, default=None)

    def _update_interests(self) -> None:
        now_s = time.monotonic()
        for connection in self._connections:
            wanted = {connection.client: 0, connection.server: 0}
            if self._mode is Mode.CUT:
                pass
            elif not connection.connected:
                wanted[connection.server] = selectors.EVENT_WRITE
            else:
                for flow in connection.flows:
                    if not flow.source_ended and flow.pending_bytes <= _PENDING_LIMIT_BYTES:
                        wanted[flow.source] |= selectors.EVENT_READ
                    if flow.chunks and flow.chunks[0][0] <= now_s and not self._holds(flow):
                        wanted[flow.sink] |= selectors.EVENT_WRITE
            for end, events in wanted.items():
                self._watch(end, events, connection)

    def _watch(self, end: socket.socket, events: int, connection: _Connection) -> None:
        registered = self._selector.get_map().get(end)
        if registered is None:
            if events:
                self._selector.register(end, events, connection)
        elif not events:
            self._selector.unregister(end)
        elif registered.events != events:
            self._selector.modify(end, events, connection)

    def _ports_to_server(self) -> list[int]:
        return [
            int(connection.server.getsockname()[1])
            for connection in self._connections
            if connection.connected
        ]

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            self._abort(connection)

    def _abort(self, connection: _Connection) -> None:
        for end in (connection.client, connection.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        for end in (connection.client, connection.server):
            if end.fileno() >= 0 and self._selector.get_map().get(end) is not None:
                self._selector.unregister(end)
            end.close()
