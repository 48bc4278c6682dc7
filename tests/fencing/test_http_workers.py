"""One ledger behind several workers: uvicorn with Starlette, gunicorn with Flask."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from incumbent.errors import StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.header import RESOURCE, TOKEN
from incumbent.fencing.http import ReceivedFence
from incumbent.fencing.sql import TABLE
from tests.fencing.answering import NAME, Service
from tests.fencing.services import SECRET
from tests.servers.postgresql import Postgres
from tests.servers.receivers import WORKERS, Answer, Receiver

LIMIT_S = 60.0
APPS = {"uvicorn": "for_asgi", "gunicorn": "for_wsgi"}


def empty(postgres: Postgres) -> None:
    postgres.execute("DROP TABLE IF EXISTS incumbent_fence")
    postgres.execute("DROP TABLE IF EXISTS entry")
    postgres.execute(TABLE)
    postgres.execute("CREATE TABLE entry (id BIGSERIAL PRIMARY KEY, token BIGINT NOT NULL)")


@pytest.fixture(params=APPS)
def server(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path
) -> Iterator[Receiver]:
    empty(postgres)
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{TABLE}; CREATE TABLE entry (id INTEGER PRIMARY KEY, token INTEGER)")
    server = Receiver(
        request.param,
        f"tests.fencing.services.{APPS[request.param]}:app",
        tmp_path,
        ready="/sqlite/entries",
        environment={"LEDGER_SQLITE": str(path), "LEDGER_POSTGRESQL": postgres.url()},
    )
    try:
        server.start()
        yield server
    finally:
        server.kill()


def fence(token: int) -> Fence:
    return Fence(NAME, token, lambda: None)


def fields(token: int) -> list[tuple[str, str]]:
    """Return what a leader sends."""
    return [*fence(token).http().items(), *SECRET.items()]


@dataclass
class Ledger:
    """One of a server's ledgers, as its clients see it."""

    server: Receiver
    database: str

    @property
    def path(self) -> str:
        return f"/{self.database}/entries"

    def send(self, token: int) -> Answer:
        return self.server.request("POST", self.path, fields(token))

    def send_each(self, token: int) -> dict[int, Answer]:
        """Send it to every worker."""
        return self.server.by_each("POST", self.path, fields(token))

    def send_with(self, *headers: tuple[str, str]) -> int:
        return self.server.request("POST", self.path, headers).status

    def booked(self) -> list[int]:
        tokens: list[int] = json.loads(self.server.request("GET", self.path).body)
        return tokens


def statuses(answers: dict[int, Answer]) -> list[int]:
    return [answer.status for answer in answers.values()]


@pytest.mark.timeout(300)
def test_an_old_token_is_refused_by_every_worker_before_a_restart_and_after_it(
    server: Receiver,
) -> None:
    workers: set[int] = set()
    ledgers = [Ledger(server, database) for database in ("sqlite", "postgresql")]
    for ledger in ledgers:
        assert statuses(ledger.send_each(5)) == [201] * WORKERS
        assert ledger.send(7).status == 201
        told = ledger.booked()
        assert (set(told), told[-1]) == ({5, 7}, 7)

        refused = ledger.send_each(5)
        assert statuses(refused) == [412] * WORKERS
        for answer in refused.values():
            with pytest.raises(StaleToken, match="has seen token 7, and this term has 5"):
                fence(5).http_result(answer.status, answer.body)
        assert ledger.booked() == told
        workers |= refused.keys()

        # Who may not lead cannot lock the leader out.
        assert ledger.send_with(*fence(2**63 - 1).http().items()) == 401
        assert ledger.send_with(*SECRET.items()) == 428
        assert ledger.send_with(*fields(8), (TOKEN, "8")) == 400
        assert ledger.send_with(*fields(8), (RESOURCE, NAME)) == 400
        assert ledger.send(7).status == 201

        # Leaders whose requests cross, and arrive in whatever order.
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ledger.send, [8, 12, 9, 10, 8, 11, 9, 12, 10, 11] * 4))
        assert {answer.status for answer in answers} <= {201, 412}
        now = ledger.booked()
        assert now == sorted(now)
        assert len(now) - len(told) - 1 == sum(answer.status == 201 for answer in answers)
        assert now[-1] == 12

    server.kill()
    server.start()
    for ledger in ledgers:
        now = ledger.booked()
        assert now[-1] == 12
        refused = ledger.send_each(11)
        assert statuses(refused) == [412] * WORKERS
        assert workers.isdisjoint(refused)
        assert ledger.booked() == now
        assert ledger.send(12).status == 201
        assert ledger.booked() == [*now, 12]


def test_a_write_that_was_let_through_is_not_overtaken(postgres: Postgres) -> None:
    """The old leader's request has passed the check in one worker, and waits before it writes."""
    empty(postgres)
    passed, go_on = threading.Event(), threading.Event()

    def book(fence: ReceivedFence | None) -> int:
        assert fence is not None
        with psycopg.connect(postgres.url()) as db:
            fence.sql(db)
            if fence.token == 7:
                passed.set()
                assert go_on.wait(LIMIT_S)
            db.execute("INSERT INTO entry (token) VALUES (%s)", (fence.token,))
        return 201

    def send(token: str) -> Callable[[], int]:
        return lambda: Service("wsgi", book).request(token).status

    with ThreadPoolExecutor(2) as workers:
        old = workers.submit(send("7"))
        assert passed.wait(LIMIT_S)
        new = workers.submit(send("9"))
        deadline_s = time.monotonic() + LIMIT_S
        while not (new.done() or postgres.waiting() or time.monotonic() > deadline_s):
            time.sleep(0.01)  # sleep: who waits for a lock of the server can only be asked
        go_on.set()
        assert (old.result(), new.result()) == (201, 201)
    written = [token for (token,) in postgres.execute("SELECT token FROM entry ORDER BY id")]
    assert written == [7, 9]
    assert send("7")() == 412
