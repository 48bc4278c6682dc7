"""The fence of a request: which requests need one, and what becomes of a refusal.

Both kinds of middleware run the same cases; every WSGI call is checked by the standard library's
validator on both sides.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from incumbent.errors import LeadershipLost, StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.http import HEADER, KEY, ReceivedFence, asgi, wsgi
from incumbent.fencing.sql import TABLE

RESOURCE = "ledger"
Handler = Callable[[ReceivedFence | None], int]


@dataclass
class Answered:
    """What a client gets."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        assert int(self.headers["content-length"]) == len(self.body)
        said = json.loads(self.body)
        assert said["status"] == self.status
        return str(said["detail"])


@dataclass
class Service:
    """An application around one handler, which gives the status of its answer."""

    kind: str
    handler: Handler
    options: dict[str, Any] = field(default_factory=dict)
    lazy: bool = False
    closed: int = 0

    def request(self, *tokens: str, method: str = "POST") -> Answered:
        """Send a request with the header so many times."""
        return (self._wsgi if self.kind == "wsgi" else self._asgi)(method, tokens)

    def _wsgi(self, method: str, tokens: tuple[str, ...]) -> Answered:
        service = self

        class Body:
            def __init__(self, start: Callable[[], None] | None) -> None:
                self._start = start

            def __iter__(self) -> Iterator[bytes]:
                if self._start is not None:
                    self._start()
                yield b"do"
                yield b"ne"

            def close(self) -> None:
                service.closed += 1

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            def start() -> None:
                status = service.handler(environ[KEY])
                start_response(f"{status} Whatever", [("Content-Type", "text/plain")])

            if service.lazy:
                return Body(start)
            start()
            return Body(None)

        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ |= {"REQUEST_METHOD": method, "QUERY_STRING": ""}
        if tokens:
            environ["HTTP_FENCING_TOKEN"] = ",".join(tokens)
        said: list[Any] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            said.append((int(status[:3]), {key.lower(): value for key, value in headers}))
            return lambda _: None

        middleware = wsgi.FencingMiddleware(
            validator(app),
            resource=RESOURCE,
            **self.options,
        )
        answered = validator(middleware)(environ, start_response)
        with closing(answered):  # type: ignore[type-var]
            body = b"".join(answered)
        ((status, headers),) = said
        return Answered(status, headers, body)

    def _asgi(self, method: str, tokens: tuple[str, ...]) -> Answered:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            status = self.handler(scope[KEY])
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"do", "more_body": True})
            await send({"type": "http.response.body", "body": b"ne"})

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(HEADER.lower().encode(), token.encode()) for token in tokens]
        scope = {"type": "http", "method": method, "headers": headers}
        middleware = asgi.FencingMiddleware(app, resource=RESOURCE, **self.options)
        asyncio.run(middleware(scope, receive, send))
        start, *bodies = sent
        assert {body["type"] for body in bodies} == {"http.response.body"}
        assert not bodies[-1].get("more_body")
        return Answered(
            start["status"],
            {key.decode(): value.decode() for key, value in start["headers"]},
            b"".join(body["body"] for body in bodies),
        )


@pytest.fixture(params=["asgi", "wsgi", "wsgi, lazy"])
def serve(request: pytest.FixtureRequest) -> Callable[..., Service]:
    def make(handler: Handler, **options: Any) -> Service:
        kind, _, lazy = request.param.partition(", ")
        return Service(kind, handler, options, bool(lazy))

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.executescript(TABLE + "; CREATE TABLE entry (token INTEGER)")
        yield db


def book(db: sqlite3.Connection) -> Handler:
    """Return a handler that writes under the fence."""

    def handler(fence: ReceivedFence | None) -> int:
        assert fence is not None
        with db:
            fence.sql(db)
            db.execute("INSERT INTO entry VALUES (?)", (fence.token,))
        return 201

    return handler


def entries(db: sqlite3.Connection) -> list[int]:
    return [token for (token,) in db.execute("SELECT token FROM entry ORDER BY rowid")]


def test_a_leader_writes_until_a_later_one_has(
    serve: Callable[..., Service], ledger: sqlite3.Connection
) -> None:
    service = serve(book(ledger))
    for token in ("7", "7", "9"):
        answered = service.request(token)
        assert (answered.status, answered.body) == (201, b"done")
    refused = service.request("7")
    assert refused.status == 412
    assert "has seen token 9, and this term has 7" in refused.problem
    assert entries(ledger) == [7, 7, 9]


def test_a_refusal_that_a_framework_makes_something_else_of_is_a_refusal(
    serve: Callable[..., Service], ledger: sqlite3.Connection
) -> None:
    write = book(ledger)

    def handler(fence: ReceivedFence | None) -> int:
        try:
            return write(fence)
        except StaleToken:
            return 500

    service = serve(handler)
    assert [service.request(token).status for token in ("9", "7")] == [201, 412]
    assert entries(ledger) == [9]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_request_that_may_change_something_needs_a_token(
    serve: Callable[..., Service], method: str
) -> None:
    def handler(fence: ReceivedFence | None) -> int:
        raise AssertionError("it was handled")

    answered = serve(handler).request(method=method)
    assert (answered.status, HEADER in answered.problem) == (428, True)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_request_that_changes_nothing_needs_none(
    serve: Callable[..., Service], method: str
) -> None:
    seen: list[ReceivedFence | None] = []

    def handler(fence: ReceivedFence | None) -> int:
        seen.append(fence)
        return 200

    service = serve(handler)
    assert service.request(method=method).status == 200
    assert service.request("7", method=method).status == 200
    assert [fence and fence.token for fence in seen] == [None, 7]


@pytest.mark.parametrize(
    "tokens",
    [
        *((text,) for text in ("", "x", "-1", "0", "1.0", "1e3", "٣", "0x7", "7;a=b", "1" * 5000)),
        ("9223372036854775808",),
        ("7", "8"),
        ("7", "7"),
    ],
    ids=lambda tokens: ascii(",".join(tokens))[:20],
)
def test_what_is_no_token_is_refused(serve: Callable[..., Service], tokens: tuple[str]) -> None:
    def handler(fence: ReceivedFence | None) -> int:
        raise AssertionError("it was handled")

    answered = serve(handler).request(*(token.encode().decode("latin-1") for token in tokens))
    assert (answered.status, "one whole number" in answered.problem) == (400, True)


def test_a_handler_that_never_asks_is_found(
    serve: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    answered = serve(lambda fence: 200).request("7")
    assert (answered.status, answered.problem) == (500, "the fencing token was not checked")
    assert "has never asked the fence of 'ledger'" in caplog.text
    assert serve(lambda fence: 404).request("7").status == 404
    assert serve(lambda fence: 202, unasked=True).request("7").status == 202


def test_what_is_safe_can_be_said(serve: Callable[..., Service]) -> None:
    service = serve(lambda fence: 200, safe_methods={"GET", "PATCH"})
    assert [service.request(method=method).status for method in ("PATCH", "HEAD")] == [200, 428]


def test_anothers_refusal_is_not_ours(serve: Callable[..., Service]) -> None:
    """The service leads an election itself, and its own term is old."""

    def handler(fence: ReceivedFence | None) -> int:
        raise StaleToken("of another fence")

    with pytest.raises(StaleToken, match="of another fence"):
        serve(handler).request("7")


def test_every_body_is_closed(ledger: sqlite3.Connection) -> None:
    write = book(ledger)

    def handler(fence: ReceivedFence | None) -> int:
        try:
            return write(fence)
        except StaleToken:
            return 500

    for lazy in (False, True):
        service = Service("wsgi", handler, lazy=lazy)
        assert [service.request(token).status for token in ("9", "7")] == [201, 412]
        assert service.closed == 2


def test_what_is_not_http_goes_through() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert KEY not in scope
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    middleware = asgi.FencingMiddleware(app, resource=RESOURCE)
    for kind in ("lifespan", "websocket"):
        asyncio.run(middleware({"type": kind, "headers": []}, nothing, nothing))
    assert seen == ["lifespan", "websocket"]


def test_a_leader_sends_the_token_as_long_as_it_leads() -> None:
    assert Fence(RESOURCE, 1_763_776_800_000_000, lambda: None).http() == {
        "Fencing-Token": "1763776800000000"
    }

    def over() -> None:
        raise LeadershipLost("the term is over")

    with pytest.raises(LeadershipLost):
        Fence(RESOURCE, 7, over).http()
