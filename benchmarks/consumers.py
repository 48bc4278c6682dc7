"""What a consumer costs: items per second, beside the same client's loop that is written by hand.

The loop by hand (psycopg, and redis-py for the stream) does the same transaction for each item: it
raises a token, writes the id, takes the row (of the queue table), has the effect, and commits; the
stream is acknowledged after as many items as ours acknowledges at a time. `bare` leaves token and
id out: what exactness across failover costs. Ours and theirs take turns, a batch each, and the
time of a batch is from its first effect to its last commit, by the database's clock; so a batch
that was disturbed is one of many, and medians are compared.

The gap of a handover is from the last effect of a term to the first one of the next, while items
come all the time; so is the number of those that came in it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import redis

import incumbent
from benchmarks.bench import Bench
from benchmarks.report import Report, Target, distribution, percentile
from incumbent import testing
from incumbent.fencing.progress import tables
from incumbent.workloads.sources.postgresql import schema
from tests.servers.postgresql import Postgres
from tests.servers.redis import Redis

NAME = "consumers"
TITLE = "items per second of a consumer, and the gap of its handover"

BATCH = 400
LIMIT = 1.25
"""Theirs by ours: ours is at least 0.8 times as fast."""
_LIMIT_S = 60.0
_TABLES = """\
CREATE TABLE effect (n BIGSERIAL, work TEXT, item TEXT, token BIGINT,
                     at TIMESTAMPTZ DEFAULT clock_timestamp());
"""
_EFFECT = "INSERT INTO effect (work, item, token) VALUES (%s, %s, %s)"


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    rounds = bench.many(25, 3)
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        server = stack.enter_context(Redis(bench.dir / "redis"))
        client = stack.enter_context(closing(server.client()))
        for statement in (*tables("postgresql"), schema(), _TABLES):
            postgres.execute(statement)
        _compare(report, "postgresql", rounds, Queue(postgres))
        _compare(report, "redis", rounds, Stream(postgres, server, client))
        _handovers(report, bench, postgres, bench.many(10, 2))
    return report


class Queue:
    """A queue table, beside the effects."""

    def __init__(self, postgres: Postgres) -> None:
        self.effects = postgres.url()
        self.source = f"{self.effects}?queue=ours"
        self._db = psycopg.connect(self.effects)

    def put(self, work: str, first: int) -> None:
        """Produce a batch."""
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO incumbent_queue (queue, item, body) "
                "SELECT %s, 'i' || n, 'body' FROM generate_series(%s::int, %s::int) n",
                [work, first, first + BATCH - 1],
            )
            self._db.execute("SELECT pg_notify('incumbent_queue', '')")

    def theirs(self, db: psycopg.Connection[Any], work: str) -> None:
        """Consume a batch by hand."""
        left = BATCH
        while left:
            found = db.execute(
                "SELECT id, item FROM incumbent_queue WHERE queue = %s ORDER BY tx, id LIMIT 100",
                [work],
            ).fetchall()
            db.commit()
            for number, item in found:
                _transact(db, work, item, ("DELETE FROM incumbent_queue WHERE id = %s", [number]))
            left -= len(found)

    def close(self) -> None:
        """Disconnect."""
        self._db.close()


class Stream:
    """A stream; the effects lie in PostgreSQL."""

    def __init__(self, postgres: Postgres, server: Redis, client: redis.Redis) -> None:
        self.effects = postgres.url()
        self.source = server.url("stream=ours&id=n")
        self._client = client
        for work in ("same", "bare"):
            client.xgroup_create(work, "theirs", "0", mkstream=True)

    def put(self, work: str, first: int) -> None:
        """Produce a batch."""
        pipeline = self._client.pipeline(transaction=False)
        for number in range(first, first + BATCH):
            pipeline.xadd(work, {"n": f"s{number}", "body": "body"})
        pipeline.execute()

    def theirs(self, db: psycopg.Connection[Any], work: str) -> None:
        """Consume a batch by hand."""
        left = BATCH
        while left:
            answer: Any = self._client.xreadgroup("theirs", "c", {work: ">"}, count=100)
            ((_, found),) = answer
            for _, fields in found:
                _transact(db, work, fields[b"n"].decode(), None)
            self._client.xack(work, "theirs", *(number for number, _ in found))
            left -= len(found)

    def close(self) -> None:
        """There is nothing of its own."""


def _transact(db: Any, work: str, item: str, taking: tuple[str, list[Any]] | None) -> None:
    if work == "same":
        db.execute("UPDATE incumbent_progress SET items = items + 1 WHERE work = 'same'")
        db.execute(
            "INSERT INTO incumbent_done (work, item, number) "
            "SELECT 'same', %s, items FROM incumbent_progress WHERE work = 'same'",
            [item],
        )
    if taking is not None:
        db.execute(*taking)
    db.execute(_EFFECT, [work, item, 1])
    db.commit()


def _compare(report: Report, broker: str, rounds: int, place: Queue | Stream) -> None:
    rates: dict[str, list[float]] = {"ours": [], "same": [], "bare": []}
    with ExitStack() as stack:
        stack.callback(place.close)
        db = stack.enter_context(psycopg.connect(place.effects))
        with db.transaction():
            db.execute("DELETE FROM incumbent_progress")
            db.execute("DELETE FROM incumbent_done")
            db.execute("INSERT INTO incumbent_progress VALUES ('same', 1, '', 0)")
        batch = stack.enter_context(_consuming(place))
        for number in range(-1, rounds):  # The first one warms everything.
            for work, values in rates.items():
                first = (number + 1) * BATCH
                place.put(work, first)
                if work == "ours":
                    batch()
                else:
                    place.theirs(db, work)
                rate = _rate(db, work)
                if number >= 0:
                    values.append(rate)
    for work, who in (("ours", "incumbent"), ("same", "by hand"), ("bare", "by hand, no id")):
        against = f"{percentile(rates['ours'], 0.5) / percentile(rates[work], 0.5):.2f} ×"
        said = "" if work == "ours" else f"ours is {against}"
        report.rows.append(distribution(f"items of {broker}", who, "1/s", rates[work], said))
    ratio = percentile(rates["same"], 0.5) / percentile(rates["ours"], 0.5)
    text = f"{broker}: the same transaction by hand, by ours"
    report.targets.append(Target(text, ratio, LIMIT, "×"))


@contextmanager
def _consuming(place: Queue | Stream) -> Iterator[Callable[[], None]]:
    """Have a consumer at work; what is given waits until it has done a batch."""
    count, done = 0, threading.Event()
    consumer = incumbent.Consumer(
        "ours", place.source, effects=place.effects, store=testing.memory_store(), deadman=False
    )

    @consumer.handler
    def handle(item: incumbent.Item, db: Any) -> None:
        nonlocal count
        db.execute(_EFFECT, ["ours", item.id, item.token])
        count += 1
        if count % BATCH == 0:
            done.set()

    def batch() -> None:
        if not done.wait(_LIMIT_S):
            raise RuntimeError("the consumer does not get on")
        done.clear()
        # The last commit follows its handler; nothing tells of it but the database.
        with psycopg.connect(place.effects, autocommit=True) as look:
            query = "SELECT count(*) FROM effect WHERE work = 'ours'"
            while look.execute(query).fetchone() != (BATCH,):
                time.sleep(0.002)

    with consumer:
        yield batch


def _rate(db: psycopg.Connection[Any], work: str) -> float:
    """Return the items per second of the last batch, and forget it."""
    query = "SELECT extract(epoch FROM max(at) - min(at)) FROM effect WHERE work = %s"
    (took_s,) = db.execute(query, [work]).fetchone() or (0.0,)
    db.execute("DELETE FROM effect WHERE work = %s", [work])
    db.commit()
    return (BATCH - 1) / float(took_s)


def _handovers(report: Report, bench: Bench, postgres: Postgres, rounds: int) -> None:
    """Hand over between two consumers of this process while items come."""
    gaps_ms: list[float] = []
    waiting: list[float] = []
    with ExitStack() as stack:
        db = stack.enter_context(psycopg.connect(postgres.url(), autocommit=True))
        db.execute("DELETE FROM effect")
        stop = threading.Event()
        thread = threading.Thread(target=_produce, args=(postgres.url(), stop))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        url = f"sqlite://{Path(bench.dir) / 'consumers.db'}"
        consumers = [stack.enter_context(_one(postgres, url)) for _ in range(2)]
        token = 0
        for number in range(rounds + 1):
            token = _until_later(db, token)
            if number < rounds:
                next(each for each in consumers if each.election.leads).election.step_down()
        found = db.execute(
            "SELECT token, min(at), max(at), count(*) FROM effect WHERE work = 'gap' "
            "GROUP BY token ORDER BY token"
        ).fetchall()
        for (_, _, before, _), (_, after, _, _) in pairwise(found):
            gaps_ms.append((after - before).total_seconds() * 1e3)
            waiting.append(gaps_ms[-1] / 1e3 * _RATE)
    report.rows.append(distribution("gap of a handover", "incumbent", "ms", gaps_ms))
    report.rows.append(
        distribution(f"items that came in it, of {_RATE}/s", "incumbent", "items", waiting)
    )


_RATE = 200


def _produce(url: str, stop: threading.Event) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        while not stop.wait(1 / _RATE):
            db.execute("INSERT INTO incumbent_queue (queue, body) VALUES ('gap', '')")
            db.execute("SELECT pg_notify('incumbent_queue', '')")


def _one(postgres: Postgres, store: str) -> incumbent.Consumer:
    effects = postgres.url()
    consumer = incumbent.Consumer(
        "gap", f"{effects}?queue=gap", effects=effects, store=store, deadman=False, ttl_s=5
    )

    @consumer.handler
    def handle(item: incumbent.Item, db: Any) -> None:
        db.execute(_EFFECT, ["gap", item.id, item.token])

    return consumer


def _until_later(db: psycopg.Connection[Any], token: int) -> int:
    """Wait until a later term has had effects for a while; return its token."""
    deadline_s = time.monotonic() + _LIMIT_S
    query = "SELECT max(token) FROM effect WHERE work = 'gap' AND token > %s HAVING count(*) > 20"
    while (found := db.execute(query, [token]).fetchone()) is None:
        if time.monotonic() > deadline_s:
            raise RuntimeError("nobody follows")
        time.sleep(0.01)
    return int(found[0])
