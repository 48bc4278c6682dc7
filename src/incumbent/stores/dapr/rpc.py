"""The lock API over gRPC, and what its answers mean.

Why this library, and no generated code
---------------------------------------
grpclib is asyncio and h2 in Python: 2 MB with what it needs, and a call that is cancelled, which is
what a time limit does, ends its stream. grpcio is a wheel of 7 MB around threads of its own, which
no `fork` may meet, and the elected work forks. Generated messages need protobuf, another 4 MB, for
what are here three strings and a number to send and one small number to read: a field is its
number and kind in one byte, then its value, and what a reader does not know it skips. The messages
that are sent are compared with those of Dapr's own SDK in the tests.

A connection may die without a word, and grpclib would go on to use it. So whatever comes after a
request that was cancelled has a new one, and the old one is closed when nobody waits on it.

What is known after an error: as over HTTP. Of gRPC's codes, those count as certain that daprd gives
before it asks the lock store anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import ProtocolError as H2Error

from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.dapr.api import Unlocked
from incumbent.stores.dapr.config import Settings

__all__ = ["Rpc", "encoded"]

_SERVICE = "/dapr.proto.runtime.v1.Dapr/"
_NUMBER, _BYTES = 0, 2
_SIZES = {1: 8, 5: 4}
_REFUSED = (Status.INVALID_ARGUMENT, Status.FAILED_PRECONDITION, Status.UNIMPLEMENTED)
_DENIED = (Status.UNAUTHENTICATED, Status.PERMISSION_DENIED)


class Rpc:
    """A sidecar, spoken to over gRPC: one connection for all requests at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._place = f"Dapr at {settings.address}"
        self._metadata = {"dapr-api-token": settings.token} if settings.token else {}
        self._line: _Line | None = None

    async def try_lock(self, resource: str, owner: str, expiry_s: int) -> bool:
        """Take a lock for so many seconds."""
        message = encoded(self._settings.component, resource, owner, expiry_s)
        return bool(await self._ask("TryLockAlpha1", message))

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give a lock back, if it is this owner's."""
        answer = await self._ask("UnlockAlpha1", encoded(self._settings.component, resource, owner))
        try:
            return Unlocked(answer)
        except ValueError:
            raise OutcomeUnknown(f"{self._place}: no status that is known: {answer}") from None

    async def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.channel.close()
            self._line = None
            await asyncio.sleep(0)  # sleep: the transport is closed in the loop's next turn

    async def _ask(self, what: str, message: bytes) -> int:
        if self._line is None:
            self._line = _Line(self._settings.host, self._settings.port)
        line = self._line
        line.waiting += 1
        try:
            return await self._ask_on(line.channel, what, message)
        except asyncio.CancelledError:
            if self._line is line:
                self._line = None
            raise
        finally:
            line.waiting -= 1
            if self._line is not line and not line.waiting:
                line.channel.close()

    async def _ask_on(self, channel: Channel, what: str, message: bytes) -> int:
        try:
            await channel.__connect__()
        except OSError as error:
            raise StoreUnavailable(f"{self._place} cannot be reached: {error}") from error
        method = UnaryUnaryMethod[bytes, int](channel, _SERVICE + what, bytes, int)
        try:
            return await method(message, metadata=self._metadata)
        except GRPCError as error:
            text = f"{self._place}: {error.message or error.status.name}"
            if error.status in _DENIED:
                denied = f"{text} (its token is read from DAPR_API_TOKEN)"
                raise PermissionDenied(denied) from error
            if error.status in _REFUSED:
                raise StoreUnusable(text) from error
            raise OutcomeUnknown(text) from error
        except (OSError, ProtocolError, StreamTerminatedError, H2Error, ValueError) as error:
            raise OutcomeUnknown(f"{self._place}: {type(error).__name__}: {error}") from error


class _Line:
    """A connection, and how many requests wait on it."""

    def __init__(self, host: str, port: int) -> None:
        self.channel = Channel(host, port, codec=_Plain())
        self.waiting = 0


class _Plain(CodecBase):
    """Messages that are bytes already, and answers of which the first field counts."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> int:
        return _first_number(data)


def encoded(store: str, resource: str, owner: str, expiry_s: int = 0) -> bytes:
    """Return a TryLockRequest, or without `expiry_s` an UnlockRequest, as protobuf has it."""
    message = b""
    for number, text in enumerate((store, resource, owner), 1):
        value = text.encode()
        message += bytes([number << 3 | _BYTES]) + _varint(len(value)) + value
    return message + (bytes([4 << 3 | _NUMBER]) + _varint(expiry_s) if expiry_s else b"")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _first_number(data: bytes) -> int:
    """Return field 1 of a message, which is a number, or 0 where it is not there.

    Raises:
        ValueError: this is no such message.
    """
    rest, found = iter(data), 0
    while (key := next(rest, None)) is not None:
        field, kind = _more(key, rest) >> 3, key & 7
        if kind == _NUMBER:
            value = _more(_one(rest), rest)
            found = value if field == 1 else found
        elif kind == _BYTES:
            for _ in range(_more(_one(rest), rest)):
                _one(rest)
        elif kind in _SIZES:
            for _ in range(_SIZES[kind]):
                _one(rest)
        else:
            raise ValueError(f"a field of kind {kind}")
    return found


def _more(byte: int, rest: Iterator[int]) -> int:
    """Return the varint that begins with `byte`."""
    value, shift = byte & 0x7F, 7
    while byte & 0x80:
        byte = _one(rest)
        value |= (byte & 0x7F) << shift
        shift += 7
    return value


def _one(rest: Iterator[int]) -> int:
    byte = next(rest, None)
    if byte is None:
        raise ValueError("a message that ends too early")
    return byte
