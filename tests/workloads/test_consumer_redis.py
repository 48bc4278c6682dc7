"""Streams of a real Redis, in both faces: order, restarts, what others took, what was lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client

from incumbent import ConfigError
from incumbent.stores.memory import MemoryStore
from incumbent.workloads import redis as lines
from incumbent.workloads.sources import redis as sources
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.redis import CONSUMER
from tests.servers.redis import Redis
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.faces import FACES, LIMIT_S, Face


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects.db")


DATABASES = cycle(range(1, 16))


class Stream:
    """A stream, and whoever produces and looks."""

    def __init__(self, server: Redis, client: Any) -> None:
        self.server = server
        self.client = client
        self.database: int = client.connection_pool.connection_kwargs["db"]
        self.url = server.url("stream=orders&id=n", database=self.database)

    def another(self) -> Any:
        """Return a client of one's own."""
        return self.server.client(db=self.database)

    def put(self, *names: str) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.xadd("orders", {"n": name, "body": f"body {name}"})
        pipeline.execute()

    def until_done(self, last: str) -> None:
        """Wait until everything is acknowledged, and the last one was handed out."""

        def done() -> bool:
            groups: Any = self.client.xinfo_groups("orders")
            ((number, _),) = self.client.xrevrange("orders", count=1)
            if groups[0]["last-delivered-id"] != number:
                return False
            # Asked before, it would say that nothing is in hand, and so would the other one later.
            pending: Any = self.client.xpending("orders", "orders")
            return bool(pending["pending"] == 0)

        until(lambda: self.client.xinfo_groups("orders"), "there is a group")
        until(done, f"{last} is acknowledged")


@pytest.fixture
def stream(redis_server: Redis) -> Iterator[Stream]:
    with closing(redis_server.client(db=next(DATABASES))) as client:
        client.flushdb()
        yield Stream(redis_server, client)


@contextmanager
def slow_way(server: Redis, *, bytes_a_second: int) -> Iterator[str]:
    """Lead to a server whose answers come slowly."""

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, slow: bool) -> None:
        with suppress(OSError):
            while piece := await source.read(20_000):
                if slow:
                    await asyncio.sleep(len(piece) / bytes_a_second)  # sleep: it is the rate
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(server.host, server.port)
        try:
            await asyncio.gather(pipe(reader, back, False), pipe(there, writer, True))
        finally:
            for each in (back, writer):
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    async def serve() -> None:
        ended.set_result(asyncio.Event())
        async with await asyncio.start_server(lead, "127.0.0.1", 0) as listening:
            begun.set_result((asyncio.get_running_loop(), listening.sockets[0].getsockname()[1]))
            await ended.result().wait()

    begun: Future[tuple[asyncio.AbstractEventLoop, int]] = Future()
    ended: Future[asyncio.Event] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, port = begun.result(LIMIT_S)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(ended.result().set)
        thread.join(LIMIT_S)


def names(count: int, begin: int = 0) -> list[str]:
    return [f"i{number}" for number in range(begin, begin + count)]


def test_in_order_and_acknowledged(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects
) -> None:
    stream.put(*names(250))
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    until(lambda: len(effects.rows()) == 250, "all are done")
    stream.put(*names(5, 250))
    until(lambda: len(effects.rows()) == 255, "the new ones are done")
    stream.until_done("i254")
    face.stop()
    assert effects.rows() == names(255)
    (last,) = stream.client.xrevrange("orders", count=1)
    assert effects.rows("SELECT checkpoint FROM incumbent_progress WHERE work = 'orders'") == [
        last[0].decode()
    ]


def test_what_a_predecessor_had_in_hand_comes_first(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects
) -> None:
    """Some of it under our name, and some under another one of the same group."""
    stream.put(*names(5))
    stream.client.xgroup_create("orders", "orders", "0")
    stream.client.xreadgroup("orders", CONSUMER, {"orders": ">"}, count=2)
    stream.client.xreadgroup("orders", "another", {"orders": ">"}, count=2)
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i4")
    face.stop()
    assert effects.rows() == names(5)


def test_what_a_former_holder_takes_late_is_regained_in_its_place(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects
) -> None:
    """It was paused in its read, and wakes up while the new one is at work."""
    stream.put(*names(3))

    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)
        if item.id == "i2":
            stream.put("i3")
            assert stream.client.xreadgroup("orders", CONSUMER, {"orders": ">"})
            stream.put("i4", "i5")

    face.start(consumer(face, stream.url, memory, handle, effects=effects.url))
    until(lambda: len(effects.rows()) >= 6, "all are done")
    stream.until_done("i5")
    stream.put("i6")
    stream.until_done("i6")
    assert stream.client.xreadgroup("orders", CONSUMER, {"orders": ">"}) == []
    stream.put("i7")
    until(lambda: len(effects.rows()) == 8, "the last one is done")
    face.stop()
    assert effects.rows() == names(8)


def test_what_is_taken_while_nothing_else_comes_is_regained(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects
) -> None:
    stream.put("i0")
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i0")
    with stream.client.pipeline(transaction=True) as pipeline:
        pipeline.xadd("orders", {"n": "i1", "body": ""})
        pipeline.xreadgroup("orders", CONSUMER, {"orders": ">"})
        pipeline.execute()
    until(lambda: effects.rows() == names(2), "it is regained")
    face.stop()


def test_the_server_is_killed_and_started_again(
    face: Face, memory: MemoryStore, own_redis: Redis, effects: Effects
) -> None:
    with closing(own_redis.client(db=0)) as client:
        stream = Stream(own_redis, client)
        stream.put(*names(300))
        killed: list[str] = []

        def handle(item: Item, db: Any) -> None:
            effects.write(item, db)
            if item.id in ("i30", "i150") and item.id not in killed:
                killed.append(item.id)
                own_redis.kill()
                own_redis.start()

        made = consumer(face, stream.url, memory, handle, effects=effects.url)
        face.start(made)
        until(lambda: len(effects.rows()) == 300, "all are done")
        stream.until_done("i299")
        face.stop()
    assert killed == ["i30", "i150"]
    assert effects.rows() == names(300)


def test_a_server_that_forgets_acknowledgements_gets_no_item_done_twice(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects
) -> None:
    """The group is made anew at what was committed; no id has to be remembered for that."""
    stream.put(*names(40))
    settings = {"effects": effects.url, "remember": 4, "prefetch": 2}
    face.start(consumer(face, stream.url, memory, effects.write, **settings))
    stream.until_done("i39")
    stream.client.xgroup_destroy("orders", "orders")
    stream.put("i40")
    until(lambda: len(effects.rows()) == 41, "it goes on")
    face.stop()
    stream.client.xgroup_destroy("orders", "orders")
    stream.client.xgroup_create("orders", "orders", "0")
    stream.put("i41")
    second = Face(face.name)
    second.start(consumer(second, stream.url, memory, effects.write, **settings))
    stream.until_done("i41")
    second.stop()
    assert effects.rows() == names(42)


def test_a_server_that_lost_entries_numbers_new_ones_as_it_likes(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects
) -> None:
    """The position is from before the loss: it must not pass over what came after it."""
    stream.client.xadd("orders", {"n": "i0"}, id="9-1")
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i0")
    face.stop()
    stream.client.delete("orders")
    stream.client.xadd("orders", {"n": "i1"}, id="1-1")
    second = Face(face.name)
    second.start(consumer(second, stream.url, memory, effects.write, effects=effects.url))
    until(lambda: stream.client.xinfo_groups("orders"), "it has begun")
    stream.client.xadd("orders", {"n": "i2"}, id="9-1")
    until(lambda: "i2" in effects.rows(), "it is not passed over")
    second.stop()


@pytest.mark.parametrize("how", ["set back", "made anew"])
def test_a_group_that_is_set_back_in_a_live_term_gets_no_item_done_twice(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects, how: str, caplog: Any
) -> None:
    """No id has to be remembered for that: what is done in this term bounds what is new."""
    stream.put(*names(20))
    settings = {"effects": effects.url, "remember": 2, "prefetch": 1}
    face.start(consumer(face, stream.url, memory, effects.write, **settings))
    stream.until_done("i19")
    if how == "made anew":
        with stream.client.pipeline(transaction=True) as pipeline:
            pipeline.xgroup_destroy("orders", "orders")
            pipeline.xgroup_create("orders", "orders", "0")
            pipeline.execute()
    else:
        stream.client.xgroup_setid("orders", "orders", "0")
    stream.put("i20")
    until(lambda: "i20" in effects.rows(), "it goes on")
    face.stop()
    assert effects.rows() == names(21)
    assert "the group was set back" in caplog.text


def test_a_stream_that_is_another_one_in_a_live_term_is_not_passed_over(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects, caplog: Any
) -> None:
    for number in (7, 8, 9):
        stream.client.xadd("orders", {"n": f"i{number}"}, id=f"{number}-1")
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i9")
    with stream.client.pipeline(transaction=True) as pipeline:
        pipeline.delete("orders")
        pipeline.xgroup_create("orders", "orders", "0", mkstream=True)
        pipeline.xadd("orders", {"n": "i1"}, id="1-1")
        pipeline.execute()
    until(lambda: "9-1 was done, and the last number of the stream is 1-1" in caplog.text, "said")
    face.stop()


def test_what_cannot_be_told_from_what_is_done_is_an_error_in_the_log(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects, caplog: Any
) -> None:
    """A replica that lagged, its clock behind: it gave low numbers before it was opened."""
    for number in (900, 1000):
        stream.client.xadd("orders", {"n": f"i{number}"}, id=f"{number}-0")
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i1000")
    face.stop()
    stream.client.delete("orders")
    stream.client.xadd("orders", {"n": "i900"}, id="900-0")
    stream.client.xgroup_create("orders", "orders", "900-0")
    for number in (950, 1100):
        stream.client.xadd("orders", {"n": f"i{number}"}, id=f"{number}-0")
    second = Face(face.name)
    second.start(consumer(second, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i1100")
    second.stop()
    assert effects.rows() == ["i900", "i1000", "i1100"]
    assert "950-0 passed over, and perhaps never done" in caplog.text


def test_done_entries_that_were_deleted_are_no_loss(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects, caplog: Any
) -> None:
    stream.put(*names(5))
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i4")
    face.stop()
    ((last, _),) = stream.client.xrevrange("orders", count=1)
    stream.client.xdel("orders", last)
    stream.client.xgroup_setid("orders", "orders", "0")
    stream.put("i5")
    second = Face(face.name)
    second.start(consumer(second, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i5")
    second.stop()
    assert effects.rows() == names(6)
    assert "perhaps never done" not in caplog.text
    assert "the group was set back" in caplog.text


def test_what_a_foreign_consumer_takes_is_claimed_in_its_place_and_said_once(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects, caplog: Any
) -> None:
    stream.put("i0")
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i0")
    for number in (1, 3):
        with stream.client.pipeline(transaction=True) as pipeline:
            pipeline.xadd("orders", {"n": f"i{number}", "body": ""})
            pipeline.xreadgroup("orders", "debugger", {"orders": ">"})
            pipeline.xadd("orders", {"n": f"i{number + 1}", "body": ""})
            pipeline.execute()
        until(lambda: len(effects.rows()) >= number + 2, "it is claimed")  # noqa: B023
    face.stop()
    assert effects.rows() == names(5)
    assert caplog.text.count("take entries, debugger: they are claimed") == 1


def test_a_stream_that_is_not_there_is_said(
    face: Face, memory: MemoryStore, stream: Stream, caplog: Any
) -> None:
    face.start(consumer(face, stream.url, memory, lambda item: None))
    until(lambda: "nothing was ever added to a stream of this name" in caplog.text, "it is said")
    face.stop()
    assert "stream=orders" in caplog.text


def test_large_entries_over_a_slow_way_are_asked_for_by_less(
    memory: MemoryStore, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All eight take four tenths of a second, and the last one a quarter of a second alone."""
    for module in (lines, sources):
        monkeypatch.setattr(module, "ANSWER_S", 0.15)
    face, seen = Face("sync"), list[int]()
    for _ in range(8):
        stream.client.xadd("orders", {"body": b"x" * 100_000})
    with slow_way(stream.server, bytes_a_second=2_000_000) as address:
        url = stream.server.url("stream=orders", database=stream.database, address=address)
        handle: Any = lambda item: seen.append(len(item.body))  # noqa: E731
        face.start(consumer(face, url, memory, handle, prefetch=8))
        until(lambda: len(seen) == 8, "these are done")
        stream.client.xadd("orders", {"body": b"x" * 500_000})
        until(lambda: len(seen) == 9, "the large one is done")
        face.stop()
    assert seen == [*[100_000] * 8, 500_000]


def test_deleted_entries_are_not_passed_over_in_silence(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects, caplog: Any
) -> None:
    stream.put(*names(4))
    stream.client.xgroup_create("orders", "orders", "0", entries_read=0)
    ((_, entries),) = stream.client.xreadgroup("orders", CONSUMER, {"orders": ">"}, count=1)
    stream.client.xdel("orders", entries[0][0])
    stream.client.xtrim("orders", maxlen=2, approximate=False)
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("i3")
    face.stop()
    assert effects.rows() == ["i2", "i3"]
    assert "was deleted before it was done" in caplog.text
    assert "1 entries were deleted before they were handed to anybody" in caplog.text


def test_what_a_producer_sent_twice_is_done_once(
    face: Face, memory: MemoryStore, stream: Stream, effects: Effects
) -> None:
    stream.put("a", "b", "a", "c")
    face.start(consumer(face, stream.url, memory, effects.write, effects=effects.url))
    stream.until_done("c")
    face.stop()
    assert effects.rows() == ["a", "b", "c"]


def test_dead_letters_of_the_stream(face: Face, memory: MemoryStore, stream: Stream) -> None:
    seen: list[Any] = []

    def handle(item: Item) -> None:
        if item.headers["n"] == "i1":
            raise ValueError("poison")
        seen.append(item.text)

    stream.put(*names(3))
    face.start(consumer(face, stream.url, memory, handle, retries=1))
    stream.until_done("i2")
    face.stop()
    assert seen == ["body i0", "body i2"]
    ((_, fields),) = stream.client.xrange("orders:dead")
    assert fields[b"n"] == b"i1"
    assert fields[b"body"] == b"body i1"
    assert fields[b"incumbent-reason"] == b"ValueError: poison"


def test_effects_in_the_same_server_are_exact_by_one_transaction(
    face: Face, memory: MemoryStore, stream: Stream
) -> None:
    """Seal, effect and acknowledgement are one MULTI: what was not heard is not pending."""
    stream.put(*names(30))
    broken: list[str] = []

    def handle(item: Item) -> None:
        assert item.term is not None
        with closing(stream.another()) as client, client.pipeline() as pipeline:
            item.term.fence("orders").redis(pipeline)
            pipeline.rpush("count", item.id)
            pipeline.xack("orders", "orders", item.tag)
            pipeline.execute()
        if item.id == "i7" and not broken:
            broken.append(item.id)
            raise ConnectionError("the answer was lost")

    def once(item: Item) -> None:
        if not stream.client.xpending_range("orders", "orders", item.tag, item.tag, 1):
            return  # It was done, and nobody heard.
        handle(item)

    face.start(consumer(face, stream.url, memory, once, retries=1))
    stream.until_done("i29")
    face.stop()
    assert broken
    assert [word.decode() for word in stream.client.lrange("count", 0, -1)] == names(30)


def test_fields_without_a_body_are_the_body(
    face: Face, memory: MemoryStore, redis_server: Redis
) -> None:
    seen: list[Any] = []
    with closing(redis_server.client()) as client:
        client.delete("plain")
        number: Any = client.xadd("plain", {"a": "1", "b": "2"})
        url = redis_server.url("stream=plain&group=readers")
        face.start(consumer(face, url, memory, lambda item: seen.append((item.id, item.json()))))
        until(lambda: seen, "it is handled")
        face.stop()
        groups: Any = client.xinfo_groups("plain")
        assert groups[0]["name"] == b"readers"
    assert seen == [(number.decode(), {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h/0", "which stream"),
        ("redis://h/x?stream=a", "no number of a database"),
        ("redis://h/0?stream=a&block=1", "does not know the option 'block'"),
    ],
)
def test_urls_that_cannot_be_meant(memory: MemoryStore, url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        consumer(Face("sync"), url, memory, lambda item: None)


def test_what_is_no_stream_ends_the_run(face: Face, memory: MemoryStore, stream: Stream) -> None:
    stream.client.set("orders", "a word")
    face.start(consumer(face, stream.url, memory, lambda item: None))
    face.join()
    assert isinstance(face.failure, ConfigError)
    assert "WRONGTYPE" in str(face.failure)
    assert isinstance(stream.client, Client)
