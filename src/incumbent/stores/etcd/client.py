"""Requests to the members of an etcd cluster, and what their answers mean.

Why no client library
---------------------
etcd3 0.12.0 is of March 2020, and what was generated for it does not load beside protobuf 4 or
later. aetcd 1.0.0 (June 2026) is kept, and stands, as every gRPC client does, on grpcio: a wheel of
7 MB that takes 21 MiB when it is imported (1.85), where all of this client does with 15, asyncio
and TLS included. etcd documents a JSON gateway on the same port as gRPC, and it needs nothing but
the HTTP that this package has anyway.

What is known after an error
----------------------------
The gateway passes on gRPC's code and etcd's text. Before anything is proposed to the cluster, a
member refuses what it does not understand (3), a token that it does not know (16), and requests
that come too fast (8); a right that is missing (7) is found when the request is carried out, on
every member alike, and nothing is written. All else is unknown in a write, and two answers deserve
a warning:

- "etcdserver: mvcc: database space exceeded" (8) does **not** say that nothing was written: the
  very write that reaches the quota is carried out, and answered like this all the same.
- "etcdserver: no leader" (14) is certain, where other answers of this code are not. Every request
  of ours says `hasleader`, so that a member that has lost its peers refuses at once instead of
  keeping us waiting; then another one is asked.

Several members
---------------
A request goes to the member that answered last. It goes to the next one if this one certainly did
nothing: there was no connection, or it had no leader. A read goes on after any failure. A write
whose outcome is unknown is never repeated. A request that was cancelled, for that is what a time
limit is, moves on the requests that come after it.

Authentication is by user and password, once, for a token that later requests carry; another one is
asked for when a member does not know it any more. A client certificate names nobody here: etcd
takes no user from the certificate of a request that came through its gateway. It even refuses such
a request if users are asked for and the certificate has a CommonName; and it knows a request of the
gateway by its `Accept` header, so that is always sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from enum import IntEnum
from typing import Literal

from incumbent.errors import (
    IncumbentError,
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.etcd.settings import Settings
from incumbent.stores.etcd.wire import Object
from incumbent.stores.http import Broken, NotSent, Pool, Response

__all__ = ["Client", "Forgotten"]

POOL_CONNECTIONS = 16

Effect = Literal["read", "write"]


class _Code(IntEnum):
    """The codes of gRPC that etcd uses."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Forgotten(Exception):
    """etcd does not remember the revision that was asked for."""


class Elsewhere(Exception):
    """This member did nothing, and another one might.

    Attributes:
        error: what to raise if no other one does.
    """

    def __init__(self, error: IncumbentError) -> None:
        super().__init__(str(error))
        self.error = error


class _Unauthenticated(Exception):
    """The member does not know our token, and did nothing."""


class _Open(Exception):
    """The cluster asks nobody who he is."""


class _Member:
    """One member: its connections."""

    def __init__(self, server: str, settings: Settings) -> None:
        context = None if settings.tls is None else settings.tls.context
        self.server = server
        self.plain = context is None
        self.name = f"etcd at {server.partition('://')[2]}"
        self.requests = Pool(server, context, "", POOL_CONNECTIONS)
        self.watches = Pool(server, context, "", None)


class Client:
    """A cluster, as far as we know it: the members that the URL names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._members = [_Member(server, settings) for server in settings.servers]
        # Not everybody begins with the member that everybody wrote first.
        self._at = secrets.randbelow(len(self._members))
        self._token: str | None = None
        self._logging_in = asyncio.Lock()

    @property
    def at(self) -> str:
        """The member that requests go to now."""
        return self._members[self._at].server

    async def ask(
        self, path: str, body: Object, effect: Effect = "read", *, urgent: bool = False
    ) -> Object:
        """Send a request and return the answer; see `Pool.request` for what is urgent.

        Raises:
            Forgotten, PermissionDenied, StoreUnavailable, StoreUnusable: nothing was written.
            OutcomeUnknown: only of a write.
        """
        content = _encoded(body)
        for tried in range(1, len(self._members) + 1):
            member = self._members[self._at]
            try:
                return await self._ask(member, "POST", path, content, effect, urgent=urgent)
            except Elsewhere as failure:
                self._move_on(member)
                if tried == len(self._members):
                    raise failure.error from None
            except (OutcomeUnknown, asyncio.CancelledError):
                self._move_on(member)
                raise
        raise AssertionError("unreachable")

    async def watch(self, order: Object) -> AsyncGenerator[Object]:
        """Order a watch of one member, and return what it reports, message by message.

        The stream ends when the member ends it.

        Raises:
            PermissionDenied, StoreUnavailable, StoreUnusable: see `ask`.
        """
        content = _encoded(order)
        member = self._members[self._at]
        try:
            token = await self._known(member)
            with _meanings(member, "read"):
                async with aclosing(_messages(member, token, content)) as messages:
                    async for message in messages:
                        yield message
        except _Unauthenticated as error:
            self.forget_token()
            raise StoreUnavailable(str(error)) from None
        except Elsewhere as failure:
            self._move_on(member)
            raise failure.error from None

    def forget_token(self) -> None:
        """Ask for another token before the next request: etcd did not like this one."""
        self._token = None

    def move_on(self, server: str) -> None:
        """Send the next requests to another member than this one, which was too slow."""
        for member in self._members:
            if member.server == server:
                self._move_on(member)

    async def version(self) -> str:
        """Return the version of the member that requests go to now."""
        member = self._members[self._at]
        try:
            answer = await self._ask(member, "GET", "/version", None, "read")
        except Elsewhere as failure:
            raise failure.error from None
        return str(answer["etcdserver"])

    async def connect(self) -> None:
        """Have a connection ready for the next request."""
        member = self._members[self._at]
        try:
            with _meanings(member, "read"):
                await member.requests.connect()
        except Elsewhere as failure:
            self._move_on(member)
            raise failure.error from None
        except asyncio.CancelledError:
            self._move_on(member)
            raise

    async def close(self) -> None:
        """Give back every connection."""
        self._token = None
        for member in self._members:
            await member.requests.close()
            await member.watches.close()

    # -- one request ------------------------------------------------------------------------------

    def _move_on(self, member: _Member) -> None:
        """Send the next requests to another member, if they still go to this one."""
        if self._settings.tls is not None:
            self._settings.tls.refresh()
        if self._members[self._at] is member:
            self._at = (self._at + 1) % len(self._members)

    async def _ask(
        self,
        member: _Member,
        method: str,
        path: str,
        content: bytes | None,
        effect: Effect,
        *,
        urgent: bool = False,
    ) -> Object:
        """Send a request; once more only if it was refused for a token that got old."""
        token = await self._known(member)
        with contextlib.suppress(_Unauthenticated):
            return await self._send(member, method, path, token, content, effect, urgent=urgent)
        token = await self._other(member, token)
        try:
            return await self._send(member, method, path, token, content, effect, urgent=urgent)
        except _Unauthenticated as error:
            raise PermissionDenied(str(error)) from None

    async def _send(
        self,
        member: _Member,
        method: str,
        path: str,
        token: str,
        content: bytes | None,
        effect: Effect,
        *,
        urgent: bool,
    ) -> Object:
        with _meanings(member, effect):
            response = await member.requests.request(
                method, path, _headers(token), content, urgent=urgent
            )
            if response.status == 200:
                answer: Object = json.loads(response.body)
                return answer
        raise _refusal(member, response, effect)

    async def _known(self, member: _Member) -> str:
        """Return the token, after logging in if there is none yet; "" if none is needed."""
        if self._token is None:
            return await self._log_in(member, None)
        return self._token

    async def _other(self, member: _Member, refused: str) -> str:
        """Return another token than the one that was refused."""
        token = await self._log_in(member, refused)
        if token and token != refused:
            return token
        if self._settings.username:
            raise PermissionDenied(f"{member.name} does not know us any more")
        text = f"{member.name} asks who we are: write USER:PASSWORD@ before the first host"
        raise PermissionDenied(text)

    async def _log_in(self, member: _Member, refused: str | None) -> str:
        """Return another token than the one that was refused; "" if there is none to be had."""
        if not self._settings.username:
            return ""
        async with self._logging_in:
            if self._token is None or self._token == refused:
                body = {"name": self._settings.username, "password": self._settings.password}
                path = "/v3/auth/authenticate"
                try:
                    # Whatever waits for the token waits for this, a renewal perhaps.
                    answer = await self._send(
                        member, "POST", path, "", _encoded(body), "read", urgent=True
                    )
                    self._token = str(answer["token"])
                except _Open:
                    self._token = ""
            return self._token


async def _messages(member: _Member, token: str, content: bytes) -> AsyncGenerator[Object]:
    """Return the messages of a stream until the member ends it."""
    stream = member.watches.stream("/v3/watch", _headers(token), method="POST", content=content)
    async with stream as (response, lines):
        if response.status != 200:
            raise _refusal(member, response, "read")
        async for line in lines:
            message = json.loads(line)
            if "error" in message:
                body = json.dumps(message["error"]).encode()
                raise _refusal(member, Response(500, body), "read")
            yield message["result"]


# -- what an answer means -------------------------------------------------------------------------


def _refusal(member: _Member, response: Response, effect: Effect) -> Exception:
    """Return what an answer that is no success says. See the head of this module."""
    code, text = _message(response.body)
    said = f"{member.name}: {text}"
    if code is None:
        return _not_of_etcd(member, response.status, text, effect)
    for known, words, meaning in _MEANINGS:
        if code == known and words in text:
            return meaning(said)
    if code == _Code.INVALID_ARGUMENT and "authentication failed" in text:
        return PermissionDenied(f"{member.name} does not know this user and password")
    return StoreUnusable(said) if code in _FINAL else _doubt(said, effect)


def _not_of_etcd(member: _Member, status: int, text: str, effect: Effect) -> Exception:
    """Return what an answer says that is not in etcd's own words."""
    if status == 404:
        return StoreUnusable(
            f"{member.name} has no JSON gateway: it is older than 3.4, was started with "
            "--enable-grpc-gateway=false, or is no etcd"
        )
    if status == 400 and "CommonName" in text:
        return StoreUnusable(
            f"{member.name} takes a user and a password only together with a client certificate "
            "without a CommonName"
        )
    return _doubt(f"{member.name} answered {status}: {text}", effect)


def _elsewhere(said: str) -> Elsewhere:
    return Elsewhere(StoreUnavailable(said))


_MEANINGS: tuple[tuple[_Code, str, Callable[[str], Exception]], ...] = (
    (_Code.UNAUTHENTICATED, "", _Unauthenticated),
    (_Code.INVALID_ARGUMENT, "user name is empty", _Unauthenticated),
    (_Code.INVALID_ARGUMENT, "revision of auth store is old", _Unauthenticated),
    (_Code.FAILED_PRECONDITION, "authentication is not enabled", _Open),
    (_Code.PERMISSION_DENIED, "", PermissionDenied),
    (_Code.RESOURCE_EXHAUSTED, "too many requests", StoreUnavailable),
    (_Code.FAILED_PRECONDITION, "learner", _elsewhere),
    (_Code.UNAVAILABLE, "learner", _elsewhere),
    (_Code.UNAVAILABLE, "etcdserver: no leader", _elsewhere),
    (_Code.OUT_OF_RANGE, "compacted", Forgotten),
)
"""Code, words and meaning of what etcd says before it has done anything."""

_FINAL = frozenset(
    {
        _Code.INVALID_ARGUMENT,
        _Code.NOT_FOUND,
        _Code.FAILED_PRECONDITION,
        _Code.OUT_OF_RANGE,
        _Code.UNIMPLEMENTED,
    }
)
"""Refusals that no other attempt changes."""


@contextlib.contextmanager
def _meanings(member: _Member, effect: Effect) -> Iterator[None]:
    """Turn the errors of the HTTP client and of the JSON decoder into ours."""
    try:
        yield
    except (IncumbentError, Elsewhere, Forgotten, _Open, _Unauthenticated):
        raise
    except NotSent as error:
        raise Elsewhere(_unreachable(member, error)) from None
    except Broken as error:
        text = str(error)
        if "ALERT_CERTIFICATE_REQUIRED" in text or "ALERT_BAD_CERTIFICATE" in text:
            # TLS 1.3 has no other way to say this than after the handshake, to the first request.
            raise Elsewhere(
                StoreUnusable(
                    f"{member.name} wants a client certificate that it trusts: certfile=, keyfile="
                )
            ) from None
        if member.plain and "EOFError" in text:
            text += " (if it speaks TLS, leave out tls=0)"
        raise _doubt(f"{member.name}: no answer: {text}", effect) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        text = f"{member.name}: the answer cannot be understood: {error!r}"
        raise _doubt(text, effect) from None


def _unreachable(member: _Member, error: NotSent) -> IncumbentError:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StoreUnusable(f"the certificate of {member.name} is not trusted: {error}")
    if isinstance(cause, ssl.SSLError):
        return StoreUnusable(f"{member.name} does not speak TLS with us: {error} (tls=0?)")
    if isinstance(cause, ConnectionResetError) and not member.plain:
        return StoreUnavailable(f"{member.name} hung up on our TLS: {error} (tls=0?)")
    return StoreUnavailable(f"{member.name} cannot be reached: {error}")


def _doubt(text: str, effect: Effect) -> Exception:
    """Return what is to be said where a write may have happened, and a read has not."""
    return OutcomeUnknown(text) if effect == "write" else Elsewhere(StoreUnavailable(text))


def _message(answer: bytes) -> tuple[int | None, str]:
    """Return gRPC's code and etcd's text, or None and the beginning of something else."""
    try:
        status = json.loads(answer)
        return int(status["code"]), str(status["message"])
    except (ValueError, KeyError, TypeError):
        return None, answer[:200].decode("utf-8", "replace").strip()


def _headers(token: str) -> list[tuple[str, str]]:
    headers = [
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("Grpc-Metadata-Hasleader", "true"),
        ("User-Agent", "incumbent"),
    ]
    if token:
        headers.append(("Authorization", token))
    return headers


def _encoded(body: Object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
