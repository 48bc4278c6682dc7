"""What a handler meets by its own doing is no matter of the server's: its attempts are counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from incumbent.stores.memory import MemoryStore
from incumbent.workloads.consumer import sealed
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import Shelf
from tests.servers.postgresql import Postgres
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.faces import FACES, Face

PATIENCE = 2


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "PATIENCE", PATIENCE)


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    tables = "DROP TABLE IF EXISTS incumbent_progress, incumbent_done, incumbent_dead"
    postgres.execute(tables)
    yield postgres
    postgres.execute(tables)


def raises(code: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'by its own rule' USING ERRCODE = '{code}'; END $$"


def close(db: Any) -> Any:
    return db.close()


CAUSES: dict[str, Callable[[Any], Any]] = {
    "internal": lambda db: db.execute(raises("XX000")),
    "conflict": lambda db: db.execute(raises("40001")),
    "closed": close,
}


@pytest.mark.parametrize("cause", CAUSES)
def test_what_postgresql_says_of_one_item_alone_is_the_items_in_the_end(
    face: Face, memory: MemoryStore, server: Postgres, cause: str
) -> None:
    def handle(item: Item, db: Any) -> Any:
        seen.append((item.id, item.attempt))
        return CAUSES[cause](db) if item.id == "1" else None

    seen: list[tuple[str, int]] = []
    shelf = Shelf([b"poison", b"after"])
    face.start(consumer(face, shelf, memory, handle, effects=server.url(), retries=1))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert seen == [("1", 1)] * (PATIENCE + 1) + [("1", 2), ("2", 1)]
    assert server.execute("SELECT item FROM incumbent_dead") == [("1",)]


def test_a_handler_that_stands_in_its_own_way_in_sqlite(
    face: Face, memory: MemoryStore, tmp_path: Path
) -> None:
    effects = Effects(tmp_path / "e.db")

    def handle(item: Item, db: Any) -> None:
        seen.append((item.id, item.attempt))
        if item.id == "1":
            with closing(sqlite3.connect(effects.path, timeout=0)) as own:
                own.execute("INSERT INTO effect VALUES ('own', 0)")

    seen: list[tuple[str, int]] = []
    shelf = Shelf([b"poison", b"after"])
    face.start(consumer(face, shelf, memory, handle, effects=effects.url, retries=0))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert seen == [("1", 1)] * (PATIENCE + 1) + [("2", 1)]
    assert effects.rows("SELECT item FROM incumbent_dead") == ["1"]
