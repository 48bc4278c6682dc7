"""The fence of a request: which requests need one, and what becomes of a refusal.

Both kinds of middleware run the same cases.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from incumbent.errors import ConfigError, LeadershipLost, StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.header import LARGEST_TOKEN, RESOURCE, STALE, TOKEN
from incumbent.fencing.http import KEY, ReceivedFence, asgi, wsgi
from incumbent.fencing.http.received import Answer
from incumbent.fencing.sql import TABLE
from tests.fencing.answering import NAME, Handler, Service


@pytest.fixture(params=["asgi", "wsgi", "wsgi, lazy"])
def serve(request: pytest.FixtureRequest) -> Callable[..., Service]:
    def make(handler: Handler, **options: Any) -> Service:
        kind, _, lazy = request.param.partition(", ")
        reports = options.pop("reports", False)
        return Service(kind, handler, options, bool(lazy), reports)

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "ledger.db", check_same_thread=False)) as db:
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


def test_a_service_that_starts_again_remembers(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    def answered(token: str) -> int:
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
            db.executescript(TABLE + "; CREATE TABLE IF NOT EXISTS entry (token INTEGER)")
            return serve(book(db)).request(token).status

    assert [answered(token) for token in ("9", "7", "9")] == [201, 412, 201]


def refused_then(db: sqlite3.Connection, then: Callable[[], int]) -> Handler:
    """Return a handler that catches the refusal, outside of its transaction."""
    write = book(db)

    def handler(fence: ReceivedFence | None) -> int:
        try:
            return write(fence)
        except StaleToken:
            return then()

    return handler


def test_a_refusal_that_a_framework_makes_something_else_of_is_a_refusal(
    serve: Callable[..., Service], ledger: sqlite3.Connection
) -> None:
    service = serve(refused_then(ledger, lambda: 500))
    assert [service.request(token).status for token in ("9", "7")] == [201, 412]
    assert entries(ledger) == [9]


def test_a_refusal_that_is_answered_and_let_through_as_well_is_answered_once(
    serve: Callable[..., Service], ledger: sqlite3.Connection
) -> None:
    service = serve(book(ledger), reports=True)
    assert [service.request(token).status for token in ("9", "7")] == [201, 412]
    assert entries(ledger) == [9]


def test_a_refusal_with_another_error_around_it_is_a_refusal_and_logged(
    serve: Callable[..., Service],
    ledger: sqlite3.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> int:
        raise ValueError("closing failed, too")

    service = serve(refused_then(ledger, fail))
    assert [service.request(token).status for token in ("9", "7")] == [201, 412]
    assert "closing failed, too" in caplog.text


def test_a_handler_that_does_not_heed_a_refusal_is_found(
    serve: Callable[..., Service],
    ledger: sqlite3.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = serve(refused_then(ledger, lambda: 200))
    assert [service.request(token).status for token in ("9", "7")] == [201, 412]
    assert "it has caught StaleToken" in caplog.text


def test_an_error_of_the_handler_is_its_own(serve: Callable[..., Service]) -> None:
    def handler(fence: ReceivedFence | None) -> int:
        raise ValueError("of the handler")

    with pytest.raises(ValueError, match="of the handler"):
        serve(handler).request("7")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_request_that_may_change_something_needs_a_token(
    serve: Callable[..., Service], method: str
) -> None:
    def handler(fence: ReceivedFence | None) -> int:
        raise AssertionError("it was handled")

    answered = serve(handler).request(method=method)
    assert (answered.status, TOKEN in answered.problem) == (428, True)
    assert f"{RESOURCE}: {NAME}" in answered.problem


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_request_that_changes_nothing_needs_none(
    serve: Callable[..., Service], method: str
) -> None:
    seen: list[ReceivedFence | None] = []

    def handler(fence: ReceivedFence | None) -> int:
        seen.append(fence)
        return 200

    assert serve(handler).request(method=method).status == 200
    assert seen == [None]


def test_a_read_that_carries_a_token_is_sealed(
    serve: Callable[..., Service], ledger: sqlite3.Connection
) -> None:
    """Else the old leader could write between the new one's read and its first write."""

    def read(fence: ReceivedFence | None) -> int:
        assert fence is not None
        with ledger:
            fence.sql(ledger)
        return 200

    write = serve(book(ledger))
    assert write.request("7").status == 201
    assert serve(read).request("9", method="GET").status == 200
    assert write.request("7").status == 412
    assert serve(lambda _: 200).request("9", method="GET").status == 500
    assert entries(ledger) == [7]


@pytest.mark.parametrize(
    "tokens",
    [
        *((text,) for text in ("", "x", "-1", "+1", "0", "1.0", "1e3", "0x7", "7;a=b", "1_000")),
        *((text,) for text in ("\u0663", "\u00b2", "\xa07", "007", '"7"', "1 2", "1" * 5000)),
        (str(LARGEST_TOKEN + 1),),
        ("7", "8"),
        ("7", "7"),
    ],
    ids=lambda tokens: ascii(",".join(tokens))[:20],
)
def test_what_is_no_token_is_refused(serve: Callable[..., Service], tokens: tuple[str]) -> None:
    def handler(fence: ReceivedFence | None) -> int:
        raise AssertionError("it was handled")

    raw = (token if token.isascii() else token.encode().decode("latin-1") for token in tokens)
    answered = serve(handler).request(*raw)
    assert (answered.status, "one whole number" in answered.problem) == (400, True)


@pytest.mark.parametrize("names", [(), ("other",), ("Ledger",), (NAME, NAME), ("%6cedger",)])
def test_a_token_for_something_else_is_refused(
    serve: Callable[..., Service], names: tuple[str, ...]
) -> None:
    def handler(fence: ReceivedFence | None) -> int:
        raise AssertionError("it was handled")

    for method in ("POST", "GET"):
        answered = serve(handler).request("7", method=method, names=names)
        assert (answered.status, f"send {RESOURCE}: {NAME}, once" in answered.problem) == (
            400,
            True,
        )


def test_what_stands_around_a_value_is_none_of_it(
    serve: Callable[..., Service], ledger: sqlite3.Connection
) -> None:
    answered = serve(book(ledger)).request(f"\t{LARGEST_TOKEN} ", names=(f" {NAME} ",))
    assert (answered.status, entries(ledger)) == (201, [LARGEST_TOKEN])


def test_a_handler_that_never_asks_is_found(
    serve: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    answered = serve(lambda fence: 200).request("7")
    assert (answered.status, answered.problem) == (500, "the fencing token was not checked")
    assert "has never asked the fence of 'ledger'" in caplog.text
    assert [serve(lambda _, s=s: s).request("7").status for s in (303, 307, 404)] == [500, 307, 404]
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
    for lazy in (False, True):
        service = Service("wsgi", refused_then(ledger, lambda: 500), lazy=lazy)
        assert [service.request(token).status for token in ("9", "7")] == [201, 412]
        assert service.closed == 2


def test_an_answer_that_has_begun_is_broken_off(ledger: sqlite3.Connection) -> None:
    """By the server, whose `start_response` raises what the application failed of."""
    book(ledger)(ReceivedFence(NAME, 9))

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"done")
        book(ledger)(environ[KEY])
        return []

    said: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        said.append(status)
        if exc_info is not None:
            raise exc_info[1]
        return lambda _: None

    middleware = wsgi.FencingMiddleware(app, resource=NAME, unasked=True)
    fields = {"HTTP_FENCING_TOKEN": "7", "HTTP_FENCING_RESOURCE": NAME}
    with pytest.raises(StaleToken):
        middleware({"REQUEST_METHOD": "POST", **fields}, start_response)
    assert said == ["200 OK", "412 Precondition Failed"]


@pytest.mark.parametrize("middleware", [asgi.FencingMiddleware, wsgi.FencingMiddleware])
@pytest.mark.parametrize("resource", ["", "x" * 201])
def test_a_name_that_no_fence_can_have(middleware: Any, resource: str) -> None:
    with pytest.raises(ConfigError, match="use 1 to 200 characters"):
        middleware(None, resource=resource)


def test_what_is_not_http_goes_through() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert KEY not in scope
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    middleware = asgi.FencingMiddleware(app, resource=NAME)
    for kind in ("lifespan", "websocket"):
        asyncio.run(middleware({"type": kind, "headers": []}, nothing, nothing))
    assert seen == ["lifespan", "websocket"]


def test_a_leader_sends_the_token_as_long_as_it_leads() -> None:
    assert Fence("ledger/Bücher", 1_763_776_800_000_000, lambda: None).http() == {
        "Fencing-Token": "1763776800000000",
        "Fencing-Resource": "ledger%2FB%C3%BCcher",
    }

    def over() -> None:
        raise LeadershipLost("the term is over")

    with pytest.raises(LeadershipLost):
        Fence(NAME, 7, over).http()


def test_a_leader_is_told(serve: Callable[..., Service], ledger: sqlite3.Connection) -> None:
    service = serve(book(ledger))
    old, new = (Fence(NAME, token, lambda: None) for token in (7, 9))
    assert [fence.http()[TOKEN] for fence in (old, new)] == ["7", "9"]
    answered = service.request("9")
    new.http_result(answered.status, answered.body)
    answered = service.request("7")
    with pytest.raises(StaleToken, match="has seen token 9, and this term has 7"):
        old.http_result(answered.status, answered.body)


def test_a_service_in_between_passes_token_and_refusal_on(
    serve: Callable[..., Service], ledger: sqlite3.Connection
) -> None:
    behind = serve(book(ledger))

    def pass_on(fence: ReceivedFence | None) -> int:
        assert fence is not None
        answered = behind.request(fence.http()[TOKEN])
        fence.http_result(answered.status, answered.body)
        return answered.status

    # As another thread: asyncio runs one loop in each.
    with ThreadPoolExecutor(1) as thread:
        passing = serve(lambda fence: thread.submit(pass_on, fence).result())
        assert [passing.request(token).status for token in ("9", "7", "9")] == [201, 412, 201]
    assert entries(ledger) == [9, 9]


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b'{"type": "about:blank"}', b"\xff"])
def test_another_412_is_no_refusal_of_the_token(body: bytes) -> None:
    Fence(NAME, 7, lambda: None).http_result(412, body)


def test_a_refusal_is_one_by_its_type() -> None:
    body = Answer(412, "Precondition Failed", "seen", STALE).body
    with pytest.raises(StaleToken, match="seen"):
        Fence(NAME, 7, lambda: None).http_result(412, body.decode())
    Fence(NAME, 7, lambda: None).http_result(200, body)
