"""Functions of the wrong kind: their calls do nothing, so no file and no item may count as done."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import incumbent
from incumbent import ConfigError, aio
from incumbent.aio.consumer import Consumer as AioConsumer
from incumbent.stores.memory import MemoryStore
from incumbent.sync.consumer import Consumer
from incumbent.workloads.sources.memory import MemorySource, Shelf
from tests.workloads.faces import LIMIT_S, Face
from tests.workloads.polling.stepping import tree


def steps(*_: object) -> Iterator[int]:
    yield 1


async def stream(*_: object) -> AsyncIterator[int]:
    yield 1


async def later(*_: object) -> None: ...


class Waiting:
    async def __call__(self, *_: object) -> None: ...


class Noting:
    """Is called and awaited as an `async def` is, and inspect says that it is none."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[object, ...]] = SimpleQueue()

    async def __call__(self, *given: object) -> None:
        self.calls.put(given)


def hiding(func: Any) -> Any:
    """Return a function of which cannot be seen what its calls return."""

    def hidden(*given: Any) -> Any:
        return func(*given)

    return hidden


def made(face: str, kind: str, tmp_path: Path, store: MemoryStore, func: Any, shelf: Shelf) -> Any:
    """Return work of a kind, with something to do."""
    library: Any = incumbent if face == "sync" else aio
    settings: dict[str, Any] = {"store": store, "deadman": False}
    if kind == "poll":
        return library.Poller("p", func, every=0.02, **settings)
    if kind == "every":
        return library.every("50ms", name="p", **settings)(func)
    if kind == "Directory":
        (tmp_path / "inbox").mkdir(exist_ok=True)
        (tmp_path / "inbox" / "a").write_text("the text of a")
        return library.Directory(tmp_path / "inbox", func, name="p", settle=0, **settings)
    if kind == "Rows":
        with closing(sqlite3.connect(tmp_path / "rows.db")) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY)")
            db.execute("INSERT INTO events DEFAULT VALUES")
        return library.Rows(
            f"sqlite://{tmp_path}/rows.db", func, name="p", table="events", **settings
        )
    consumer: Any = Consumer if face == "sync" else AioConsumer
    work = consumer("p", lambda: MemorySource(shelf), **settings)
    work.handler(func)
    return work


KINDS = ("poll", "Directory", "Rows", "Consumer")


@pytest.mark.parametrize("kind", [*KINDS, "every"])
@pytest.mark.parametrize(
    ("face", "func"),
    [
        *[("sync", each) for each in (steps, stream, later, Waiting(), partial(Waiting(), 1))],
        *[("aio", each) for each in (steps, stream)],
    ],
)
def test_it_is_refused_at_once(
    kind: str, face: str, func: Any, tmp_path: Path, memory: MemoryStore
) -> None:
    with pytest.raises(TypeError, match=r"(generator|coroutine) function|asynchronous|needs a"):
        made(face, kind, tmp_path, memory, func, Shelf([b"a"]))


@pytest.mark.parametrize("kind", [*KINDS, "every"])
@pytest.mark.parametrize("wrap", [lambda func: func, partial], ids=["", "part"])
def test_an_object_that_is_awaited_is_a_coroutine_function(
    kind: str, wrap: Any, tmp_path: Path, memory: MemoryStore
) -> None:
    noting, runner = Noting(), Face("aio")
    runner.start(made("aio", kind, tmp_path, memory, wrap(noting), Shelf([b"a"])))
    assert noting.calls.get(timeout=LIMIT_S)
    runner.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("face", "func"),
    [
        ("sync", hiding(steps)),
        ("sync", hiding(stream)),
        ("sync", hiding(later)),
        ("aio", hiding(steps)),
        ("aio", hiding(print)),
    ],
)
def test_what_shows_only_in_the_call_ends_the_run_and_is_no_fault_of_the_item(
    kind: str, face: str, func: Any, tmp_path: Path, memory: MemoryStore
) -> None:
    shelf = Shelf([b"a"])
    if kind == "Consumer" and face == "aio":
        with pytest.raises(TypeError, match="needs a coroutine function"):
            made(face, kind, tmp_path, memory, func, shelf)
        return
    runner = Face(face)
    runner.start(made(face, kind, tmp_path, memory, func, shelf))
    runner.join()
    assert isinstance(runner.failure, TypeError), runner.failure
    assert isinstance(runner.failure, ConfigError), "so the background work does not begin anew"
    assert [len(shelf.waiting), shelf.dead] == [1, []]
    if kind == "Directory":
        (left,) = tree(tmp_path / "inbox")
        assert left.endswith("1-0/a"), "neither done nor failed, and no strike"
    if kind == "Rows":
        with closing(sqlite3.connect(tmp_path / "rows.db")) as db:
            assert not list(db.execute("SELECT item FROM incumbent_done"))
            assert not list(db.execute("SELECT item FROM incumbent_dead"))
