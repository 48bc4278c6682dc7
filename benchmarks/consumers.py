"""What a consumer costs: items per second, beside the same client's loop that is written by hand.

The loop by hand does the same transaction for each item: it raises the count under the token, which
it compares, writes the position (of a source that has one) and the id, takes the row (of the queue
table), has the effect, and commits. In both psycopg blocks, a cursor is kept for all but the
effect, and the effect is one `execute` of the connection. `bare` leaves token, position and id out:
what exactness across failover costs.

Ours and theirs take turns, a batch each, and the time of a batch is from its first effect to its
last one, by the database's clock; all items of a batch are there before its first effect. What is
compared is each batch of ours with the one of theirs that came after it, and the median of these
ratios is told: a batch that was disturbed is one of many.

Who consumes and PostgreSQL take turns as well, item by item, so they are kept on one processor, and
the broker on another. Left alone, the kernel puts them on one or on two, and stays with it for a
long time, which makes up to a factor of two, for either side.

The gap is in `benchmarks.consuming.gaps`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

import incumbent
from benchmarks.bench import Bench
from benchmarks.consuming.brokers import BROKERS, Broker, Taken
from benchmarks.consuming.gaps import gaps
from benchmarks.report import Report, Target, distribution, percentile
from incumbent import testing
from incumbent.fencing.progress import tables
from tests.servers.postgresql import Postgres

NAME = "consumers"
TITLE = "items per second of a consumer, and the gap of its handover"

BATCH = 400
LIMIT = 1.25
"""Theirs by ours: ours is at least 0.8 times as fast."""
BUSY = 1.5
_LIMIT_S = 60.0
_TABLES = """\
CREATE TABLE effect (n BIGSERIAL, work TEXT, item TEXT, token BIGINT,
                     at TIMESTAMPTZ DEFAULT clock_timestamp(), done_ns BIGINT);
INSERT INTO incumbent_progress VALUES ('same', 1, '', 0);
"""
_EFFECT = "INSERT INTO effect (work, item, token) VALUES (%s, %s, %s)"


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    rounds = bench.many(30, 3)
    with ExitStack() as stack:
        with _kept_to(min):
            postgres = stack.enter_context(Postgres())
        for statement in (*tables("postgresql"), _TABLES):
            postgres.execute(statement)
        for kind in BROKERS:
            bench.progress(f"consumers: starting {kind.name}")
            with ExitStack() as of_broker:
                with _kept_to(max):
                    broker = kind(bench.dir, postgres, of_broker)
                with _kept_to(min):
                    _compare(bench, report, broker, postgres, rounds)
                gaps(bench, report, broker, postgres)
    report.notes.append(
        f"the load of the machine was {os.getloadavg()[1]:.1f} in the last five minutes"
    )
    return report


@contextmanager
def _kept_to(choose: Callable[[set[int]], int]) -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, to one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {choose(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _compare(bench: Bench, report: Report, broker: Broker, postgres: Postgres, rounds: int) -> None:
    rates: dict[str, list[float]] = {"ours": [], "same": [], "bare": []}
    for work in rates:
        broker.make(work)
    with ExitStack() as stack:
        db = stack.enter_context(psycopg.connect(postgres.url()))
        db.execute("UPDATE incumbent_progress SET items = 0, checkpoint = '' WHERE work = 'same'")
        db.execute("DELETE FROM incumbent_progress WHERE work <> 'same'")
        db.execute("DELETE FROM incumbent_done")
        db.commit()
        batch = stack.enter_context(_consuming(broker, postgres))
        for number in range(-1, rounds):  # The first one warms everything.
            bench.progress(f"consumers: {broker.name}, {max(0, number)} of {rounds}", at_once=False)
            for work, values in rates.items():
                put = _putting(broker, work, (number + 1) * BATCH)
                if work == "ours":
                    batch(put)
                else:
                    put()
                    _by_hand(broker, db, work)
                rate = _rate(db, work)
                if number >= 0:
                    values.append(rate)
    against = {
        work: percentile([a / b for a, b in zip(rates["ours"], values, strict=True)], 0.5)
        for work, values in rates.items()
    }
    for work, who in (("ours", "incumbent"), ("same", "by hand"), ("bare", "by hand, no id")):
        said = "" if work == "ours" else f"ours is {against[work]:.2f} ×"
        what = f"items of {broker.name}"
        report.rows.append(distribution(what, who, "1/s", rates[work], said))
    text = f"{broker.name}: the same transaction by hand, by ours"
    report.targets.append(Target(text, 1 / against["same"], LIMIT, "×"))


def _putting(broker: Broker, work: str, first: int) -> Callable[[], None]:
    return lambda: broker.put(work, first, BATCH)


def _by_hand(broker: Broker, db: psycopg.Connection[Any], work: str) -> None:
    transact = _exact if work == "same" else _bare
    cursor = db.cursor()
    left = BATCH
    while left:
        taken = broker.take(work)
        for item in taken:
            transact(cursor, item)
            db.execute(_EFFECT, [work, item.id, 1])
            db.commit()
        if taken:
            broker.acknowledge(work, taken)
        left -= len(taken)


def _exact(cursor: psycopg.Cursor[Any], item: Taken) -> None:
    cursor.execute(
        "UPDATE incumbent_progress SET items = items + 1, checkpoint = %s "
        "WHERE work = 'same' AND token <= %s",
        [item.position, 1],
    )
    if cursor.rowcount != 1:
        raise RuntimeError("a later token was there")
    cursor.execute(
        "INSERT INTO incumbent_done (work, item, number) "
        "SELECT 'same', %s, items FROM incumbent_progress WHERE work = 'same'",
        [item.id],
    )
    _bare(cursor, item)


def _bare(cursor: psycopg.Cursor[Any], item: Taken) -> None:
    if item.row is not None:
        cursor.execute("DELETE FROM incumbent_queue WHERE id = %s", [item.row])


@contextmanager
def _consuming(
    broker: Broker, postgres: Postgres
) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Have a consumer at work; what is given puts a batch, lets it be done, and waits for that."""
    count = 0
    there, done = threading.Event(), threading.Event()
    consumer = incumbent.Consumer(
        "ours",
        broker.source("ours"),
        effects=postgres.url(),
        store=testing.memory_store(),
        deadman=False,
    )

    @consumer.handler
    def handle(item: incumbent.Item, db: Any) -> None:
        nonlocal count
        if count % BATCH == 0:
            there.wait(_LIMIT_S)
        db.execute(_EFFECT, ["ours", item.id, item.token])
        count += 1
        if count % BATCH == 0:
            there.clear()
            done.set()

    def batch(put: Callable[[], None]) -> None:
        put()
        there.set()
        if not done.wait(_LIMIT_S):
            raise RuntimeError(f"{broker.name}: the consumer does not get on")
        done.clear()
        # The last commit follows its handler; nothing tells of it but the database.
        with psycopg.connect(postgres.url(), autocommit=True) as look:
            query = "SELECT count(*) FROM effect WHERE work = 'ours'"
            while look.execute(query).fetchone() != (BATCH,):
                time.sleep(0.002)

    with consumer:
        yield batch


def _rate(db: psycopg.Connection[Any], work: str) -> float:
    """Return the items per second of the last batch, and forget it."""
    query = "SELECT count(*), extract(epoch FROM max(at) - min(at)) FROM effect WHERE work = %s"
    count, took_s = db.execute(query, [work]).fetchone() or (0, 0.0)
    db.execute("DELETE FROM effect WHERE work = %s", [work])
    db.commit()
    if count != BATCH:
        raise RuntimeError(f"{work} has done {count} of {BATCH} items")
    return (BATCH - 1) / float(took_s)
