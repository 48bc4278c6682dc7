"""Items that come again, under an id that was there, or under the number of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from incumbent import Consumer
from incumbent.fencing import Fence
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import MemorySource, Shelf
from incumbent.workloads.sources.postgresql import schema
from tests.servers.mariadb import MariaDb
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.faces import FACES, Face
from tests.workloads.queues import Queue, names


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def shop(queue: Queue) -> Iterator[Queue]:
    """The same, beside another schema that has tables of the same names."""
    execute = queue.server.execute
    execute("CREATE SCHEMA shop")
    execute("SET search_path = shop; " + schema())
    execute("INSERT INTO shop.incumbent_queue (queue, body) VALUES ('orders', 'precious')")
    yield queue
    execute("DROP SCHEMA shop CASCADE")


def test_what_a_producer_has_sent_twice_is_taken_out_twice(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """Else it would be done again, and out of order, once its id is forgotten."""
    queue.put("x")
    queue.put("x")
    queue.put(*names(5))
    settings = {"effects": queue.effects, "prefetch": 1, "remember": 2}
    face.start(consumer(face, queue.source, memory, queue.write, **settings))
    queue.until_empty()
    face.stop()
    assert queue.rows() == ["x", *names(5)]


def test_a_queue_in_another_schema_is_the_one_that_was_read(
    face: Face, memory: MemoryStore, shop: Queue
) -> None:
    shop.put(*names(3))
    effects = f"{shop.effects}?options=-csearch_path%3Dshop"

    def handle(item: Item, db: Any) -> Any:
        statement = "INSERT INTO public.effect (item, token) VALUES (%s, %s)"
        return db.execute(statement, [item.id, item.token])

    face.start(consumer(face, shop.source, memory, handle, effects=effects))
    shop.until_empty()
    face.stop()
    assert shop.rows() == names(3)
    assert shop.rows("SELECT body FROM shop.incumbent_queue") == [b"precious"]
    assert shop.rows("SELECT item FROM shop.incumbent_done ORDER BY number") == names(3)


def test_a_search_path_that_a_handler_sets_is_not_ours(
    face: Face, memory: MemoryStore, shop: Queue
) -> None:
    shop.put(*names(4))

    def handle(item: Item, db: Any) -> Any:
        if face.name == "sync":
            db.execute("SET search_path = shop, public")
            return shop.write(item, db)

        async def steps() -> None:
            await db.execute("SET search_path = shop, public")
            await shop.write(item, db)

        return steps()

    face.start(consumer(face, shop.source, memory, handle, effects=shop.effects))
    shop.until_empty()
    face.stop()
    assert shop.rows() == names(4)
    assert shop.rows("SELECT item FROM public.incumbent_done ORDER BY number") == names(4)


def test_a_row_that_was_taken_out_by_hand_is_passed_over_without_a_trace(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """Its id is not noted: the row may only have been given another number."""

    def handle(item: Item, db: Any) -> Any:
        if item.id == "i0":
            queue.server.execute("DELETE FROM incumbent_queue WHERE item = 'i1'")
            queue.server.execute(
                "UPDATE incumbent_queue SET tx = pg_current_xact_id() WHERE item = 'i2'"
            )
        return queue.write(item, db)

    queue.put(*names(4))
    face.start(consumer(face, queue.source, memory, handle, effects=queue.effects))
    queue.until_empty()
    face.stop()
    assert queue.rows() == ["i0", "i3", "i2"]
    assert queue.rows("SELECT item FROM incumbent_done ORDER BY number") == ["i0", "i3", "i2"]


def test_numbers_of_rows_may_come_again(
    face: Face, memory: MemoryStore, queue: Queue, tmp_path: Path
) -> None:
    effects = Effects(tmp_path / "e.db")
    bodies: list[str] = []

    def handle(item: Item, db: Any) -> None:
        bodies.append(item.text)
        effects.write(item, db)

    face.start(consumer(face, queue.source, memory, handle, effects=effects.url))
    for age in ("old", "new"):
        queue.server.execute("TRUNCATE incumbent_queue RESTART IDENTITY")
        for number in range(3):
            queue.server.execute(
                "INSERT INTO incumbent_queue (queue, body) VALUES ('orders', %s)",
                [f"{age} {number}".encode()],
            )
        queue.until_empty()
    face.stop()
    assert bodies == [f"{age} {number}" for age in ("old", "new") for number in range(3)]
    assert len(effects.rows()) == 6


def test_an_item_with_the_name_of_another_ones_number_is_another_item(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    queue.put("2")
    queue.server.execute("INSERT INTO incumbent_queue (queue, body) VALUES ('orders', 'b')")
    face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
    queue.until_empty()
    face.stop()
    assert len(queue.rows()) == 2


def test_a_dead_letter_with_the_number_of_another_one_is_kept_as_well(
    memory: MemoryStore, queue: Queue
) -> None:
    def fail(item: Item) -> None:
        raise ValueError(item.id)

    def bury(name: str) -> Face:
        queue.server.execute("TRUNCATE incumbent_queue RESTART IDENTITY")
        queue.put(name)
        face = Face("sync")
        face.start(consumer(face, queue.source, memory, fail, retries=0))
        return face

    for name in ("old", "precious"):
        face = bury(name)
        queue.until_empty()
        face.stop()
    dead = "SELECT item FROM incumbent_queue_dead ORDER BY tx"
    assert queue.rows(dead) == ["old", "precious"]
    # A table of an earlier form cannot keep it: then the row stays where it is.
    queue.server.execute("DELETE FROM incumbent_queue_dead WHERE item = 'old'")
    queue.server.execute(
        "ALTER TABLE incumbent_queue_dead DROP CONSTRAINT incumbent_queue_dead_pkey, "
        "ADD PRIMARY KEY (id)"
    )
    face = bury("third")
    face.join()
    assert "ADD PRIMARY KEY (tx, id)" in str(face.failure)
    assert queue.rows(dead) == ["precious"]
    assert queue.rows("SELECT item FROM incumbent_queue") == ["third"]


def test_a_table_of_another_form_is_said_with_its_name(memory: MemoryStore, queue: Queue) -> None:
    source = queue.source + "&table=effect"
    face = Face("sync")
    face.start(consumer(face, source, memory, lambda item: None))
    face.join()
    words = str(face.failure)
    assert "?queue=orders&table=effect: 'effect' is a table of another form" in words
    assert 'column "queue"' in words
    assert "CREATE TABLE IF NOT EXISTS effect (" in words


def test_fewer_ids_are_kept_only_when_all_that_may_come_again_has_come(
    face: Face, memory: MemoryStore, tmp_path: Path
) -> None:
    """The broker has not heard what was done under the former settings, and delivers it again."""
    effects = Effects(tmp_path / "e.db")
    shelf = Shelf([b"x"] * 60)
    again = Shelf([b"x"] * 60)
    settings = {"effects": effects.url}
    face.start(consumer(face, shelf, memory, effects.write, prefetch=60, remember=120, **settings))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    second = Face(face.name)
    fewer = {"prefetch": 5, "remember": 10, **settings}
    second.start(consumer(second, again, memory, effects.write, **fewer))
    until(lambda: not again.waiting, "all are told again")
    assert len(effects.rows()) == 60
    for _ in range(20):
        again.put(b"y")
    until(lambda: not again.waiting, "and others")
    second.stop()
    assert len(effects.rows()) == 80
    assert 10 <= effects.rows("SELECT COUNT(*) FROM incumbent_done")[0] <= 11


class Named(MemorySource):
    """A source whose items have the ids that their producer gave them: what they consist of."""

    def _take(self, limit: int, wanted: Callable[[str], bool]) -> list[Item]:
        items = super()._take(limit, wanted)
        for item in items:
            item.tag, item.id = item.id, item.text
        return items

    async def done(self, items: Sequence[Item]) -> None:
        """Tell by the shelf's own ids."""
        for item in items:
            item.id = item.tag
        await super().done(items)


def bury_all(memory: MemoryStore, effects: Any, names: Sequence[str], reason: str) -> None:
    shelf = Shelf([name.encode() for name in names])
    made = Consumer(
        "orders",
        lambda: Named(shelf),
        effects=effects,
        store=memory,
        deadman=False,
        retries=0,
        prefetch=1,
        remember=2,
    )

    @made.handler
    def handle(item: Item, db: Any) -> None:
        if item.text.lower().startswith("order"):
            raise ValueError(f"{reason} {item.headers}")

    face = Face("sync")
    face.start(made)
    until(lambda: not shelf.waiting, "all are told")
    face.stop()


def test_an_id_may_be_a_dead_letter_twice(memory: MemoryStore, tmp_path: Path) -> None:
    effects = Effects(tmp_path / "e.db")
    bury_all(memory, effects.url, ["order", *(f"i{number}" for number in range(9)), "order"], "no")
    assert effects.rows("SELECT item FROM incumbent_dead") == ["order"]


def test_dead_letters_in_mysql_keep_reasons_and_ids_as_they_are(
    memory: MemoryStore, mariadb: MariaDb
) -> None:
    def connect() -> Any:
        return mariadb.connect(autocommit=False)

    def change(statement: str) -> Any:
        with connect() as db, db.cursor() as cursor:
            cursor.execute(statement)
            db.commit()
            return cursor.fetchall()

    tables = "incumbent_progress, incumbent_done, incumbent_dead"
    change(f"DROP TABLE IF EXISTS {tables}")
    ids = ["order-A", "order-a", *(f"i{number}" for number in range(9)), "order-A"]
    bury_all(memory, connect, ids, "ä" * 70_000)
    found = change("SELECT item, LENGTH(reason) > 3000 FROM incumbent_dead ORDER BY item")
    assert list(found) == [("order-A", 1), ("order-a", 1)]
    change(f"DROP TABLE {tables}")


def test_a_span_of_ids_is_told(tmp_path: Path) -> None:
    import sqlite3

    from incumbent.fencing.both import through
    from incumbent.fencing.progress import database, span, tables

    db = sqlite3.connect(tmp_path / "p.db")
    for statement in tables("sqlite"):
        db.execute(statement)
    assert through(span(database(db), "orders")) == 0
    for number in range(30):
        assert Fence("orders", 1, lambda: None).once(db, str(number), keep=10)
    assert 10 <= through(span(database(db), "orders")) <= 11
    db.close()
