"""A topic of a real Kafka, in both faces: order, restarts, two readers, and what is missing."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from incumbent import ConfigError, StaleToken, testing
from incumbent.errors import SourceUnavailable
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.sources import open_source
from incumbent.workloads.sources.api import Item, Opening
from incumbent.workloads.sources.kafka import KafkaTopic
from tests.servers.kafka import Kafka
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.faces import FACES, LIMIT_S, Face

QUIET = {"log_level": 0}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects.db")


class Topic:
    """A topic of its own on a server, seen by producers and by those who look."""

    def __init__(self, server: Kafka, name: str, partitions: int = 1) -> None:
        self.server = server
        self.name = name
        self.admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        self.make(partitions)

    def make(self, partitions: int = 1) -> None:
        self.admin.create_topics([NewTopic(self.name, partitions, 1)])[self.name].result(LIMIT_S)
        self.known(partitions)

    def known(self, partitions: int) -> None:
        """Wait until each partition has its leader."""

        def led() -> bool:
            told = self.admin.list_topics(self.name, timeout=LIMIT_S).topics[self.name].partitions
            return len(told) == partitions and all(each.leader >= 0 for each in told.values())

        until(led, "the partitions are led")

    def source(self, address: str = "", more: str = "") -> str:
        return f"kafka://{address or self.server.address}/?topic={self.name}{more}"

    def put(self, *bodies: str, partition: int = 0, **more: Any) -> None:
        largest = {"message.max.bytes": 2_000_000}  # Other clients leave it to the topic.
        producer = Producer({"bootstrap.servers": self.server.address, **QUIET, **largest})
        for body in bodies:
            producer.produce(self.name, body.encode(), partition=partition, **more)
        assert producer.flush(LIMIT_S) == 0

    def put_in_transactions(self, *groups: Sequence[str], aborted: Sequence[str] = ()) -> None:
        producer = Producer(
            {"bootstrap.servers": self.server.address, "transactional.id": self.name, **QUIET}
        )
        producer.init_transactions(LIMIT_S)
        for group in (aborted, *groups):
            producer.begin_transaction()
            for body in group:
                producer.produce(self.name, body.encode(), partition=0)
            producer.flush(LIMIT_S)
            if group is aborted:
                producer.abort_transaction(LIMIT_S)
            else:
                producer.commit_transaction(LIMIT_S)

    def forget(self, before: int) -> None:
        """Delete the oldest records, as retention does."""
        asked = [TopicPartition(self.name, 0, before)]
        for each in self.admin.delete_records(asked).values():
            each.result(LIMIT_S)

    def all_of(self, name: str, count: int) -> list[tuple[bytes | None, dict[str, Any]]]:
        """Return value and headers of so many records of a topic."""
        reading = Consumer({"bootstrap.servers": self.server.address, "group.id": "tests", **QUIET})
        try:
            reading.assign([TopicPartition(name, 0, 0)])
            found = reading.consume(count, LIMIT_S)
            return [(each.value(), dict(each.headers() or {})) for each in found]
        finally:
            reading.close()


@pytest.fixture
def topic(kafka: Kafka, request: pytest.FixtureRequest) -> Topic:
    return Topic(kafka, f"orders-{abs(hash(request.node.nodeid))}")


def names(count: int, begin: int = 0) -> Sequence[str]:
    return [f"i{number}" for number in range(begin, begin + count)]


class Bodies(Effects):
    """Keeps the bodies, by which a record is known here."""

    def write(self, item: Item, db: Any) -> None:
        db.execute("INSERT INTO effect VALUES (?, ?)", (item.text, item.token))


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    return Bodies(tmp_path / "effects.db")


def handled(effects: Effects, count: int) -> None:
    until(lambda: len(effects.rows()) >= count, f"{count} are handled")


@pytest.mark.parametrize("batch", [1, 10])
def test_what_is_committed_is_read_and_done_in_order(
    face: Face, memory: MemoryStore, topic: Topic, bodies: Bodies, batch: int
) -> None:
    """Numbers are missing where transactions end, and where one was aborted."""
    topic.put_in_transactions(names(30), names(10, 30), aborted=["never", "ever"])
    settings = {"effects": bodies.url, "batch": batch}
    face.start(consumer(face, topic.source(), memory, bodies.write, **settings))
    handled(bodies, 40)
    face.stop()
    topic.put(*names(5, 40))
    second = Face(face.name)
    second.start(consumer(second, topic.source(), memory, bodies.write, **settings))
    handled(bodies, 45)
    second.stop()
    assert bodies.rows() == names(45)


def test_each_partition_is_in_order_and_the_position_is_that_of_all(
    memory: MemoryStore, kafka: Kafka, bodies: Bodies
) -> None:
    topic, face = Topic(kafka, "three", 3), Face("sync")
    count = 0
    for begin in (0, 20, 40):
        for partition in range(3):
            bodies_of = [f"{partition}-{number:03d}" for number in range(begin, begin + 20)]
            topic.put(*bodies_of, partition=partition)
        count += 60
        face = Face("sync")
        face.start(consumer(face, topic.source(), memory, bodies.write, effects=bodies.url))
        handled(bodies, count)
        face.stop()
    found = bodies.rows()
    assert len(found) == count
    for partition in range(3):
        mine = [body for body in found if body.startswith(f"{partition}-")]
        assert mine == sorted(set(mine))


def test_nothing_is_lost_or_doubled_over_a_restart_of_the_broker(
    face: Face, memory: MemoryStore, own_kafka: Kafka, bodies: Bodies
) -> None:
    topic = Topic(own_kafka, "orders")
    topic.put(*names(300))
    reached, go_on = threading.Event(), threading.Event()

    def handle(item: Item, db: Any) -> None:
        bodies.write(item, db)
        if item.text == "i100":
            reached.set()
            assert go_on.wait(LIMIT_S)

    face.start(consumer(face, topic.source(), memory, handle, effects=bodies.url))
    assert reached.wait(LIMIT_S)
    own_kafka.kill()
    go_on.set()
    own_kafka.start()
    topic.put(*names(100, 300))
    handled(bodies, 400)
    face.stop()
    assert bodies.rows() == names(400)


def test_a_reader_that_was_cut_off_is_not_waited_for_and_changes_nothing(
    memory: MemoryStore, own_kafka: Kafka, bodies: Bodies
) -> None:
    topic, near = Topic(own_kafka, "orders"), own_kafka.doors[0]
    topic.put(*names(100))

    def work(count: int) -> None:
        seat = Face("sync")
        made = consumer(seat, topic.source(), memory, bodies.write, effects=bodies.url)
        seat.start(made)
        handled(bodies, count)
        seat.stop()

    async def main() -> list[Item]:
        async with Opened(topic.source(near.address)) as old:
            held = await some(old, 100)
            near.cut()
            await asyncio.to_thread(work, 100)
            await asyncio.to_thread(topic.put, *names(10, 100))
            await asyncio.to_thread(work, 110)
            near.heal()
            return [*held, *await some(old, 10)]

    found = asyncio.run(main())
    assert [item.text for item in found] == names(110), "it reads on, and takes nothing away"
    first = testing.elected_term("orders", token=1)
    with closing(sqlite3.connect(bodies.path)) as db, pytest.raises(StaleToken):
        first.fence("orders").once(db, "another")
    assert bodies.rows() == names(110)


def test_what_fails_is_buried_in_its_turn_with_all_it_had(
    face: Face, memory: MemoryStore, topic: Topic, bodies: Bodies
) -> None:
    def handle(item: Item, db: Any) -> None:
        if item.text == "i1":
            assert item.headers == {"kind": "new", "kafka.key": "seven"}
            raise ValueError("cannot be read")
        bodies.write(item, db)

    topic.put("i0")
    topic.put("i1", key="seven", headers={"kind": b"new"})
    topic.put("i2")
    place = f"{topic.name}.elsewhere"
    settings = {"effects": bodies.url, "retries": 1, "dead_letter": place}
    face.start(consumer(face, topic.source(), memory, handle, **settings))
    handled(bodies, 2)
    face.stop()
    assert bodies.rows() == ["i0", "i2"]
    ((value, headers),) = topic.all_of(place, 1)
    assert value == b"i1"
    assert headers["kind"] == b"new"
    assert headers["x-incumbent-id"] == f"{topic.name}/0/1".encode()
    assert headers["x-incumbent-reason"] == b"ValueError: cannot be read"


@pytest.mark.parametrize("spare", [20_000, 600])
def test_one_that_is_nearly_too_large_is_buried_with_as_much_of_the_reason_as_goes(
    memory: MemoryStore, topic: Topic, spare: int
) -> None:
    """The topics take 1,048,588 bytes, and the client alone no more than 1,000,000."""
    face, seen = Face("sync"), list[str]()

    def handle(item: Item) -> None:
        seen.append(item.text[:5])
        if item.text.startswith("large"):
            raise ValueError("x" * 2_000_000)

    topic.put("large".ljust(1_048_588 - spare), "after")
    face.start(consumer(face, topic.source(), memory, handle, retries=0))
    until(lambda: "after" in seen, "the rest goes on")
    face.stop()
    assert seen == ["large", "after"]
    ((_, headers),) = topic.all_of(f"{topic.name}.dead", 1)
    assert len(headers["x-incumbent-reason"]) > (1000 if spare > 2000 else 90)


def test_without_effects_the_position_lies_beside_the_election(
    face: Face, memory: MemoryStore, topic: Topic
) -> None:
    topic.put(*names(20))
    found: list[str] = []
    for count in (20, 30):
        seat = Face(face.name)
        seat.start(consumer(seat, topic.source(), memory, lambda item: found.append(item.text)))
        until(lambda count=count: len(found) >= count, f"{count} are handled")  # type: ignore[misc]
        seat.stop()
        topic.put(*names(10, count))
    assert found == names(30)


def test_a_producers_own_id_is_known_again(
    memory: MemoryStore, topic: Topic, bodies: Bodies
) -> None:
    face = Face("sync")
    topic.put("first", "again", headers={"order": b"7"})
    topic.put("other", headers={"order": b"8"})
    source = topic.source(more="&id=header:order")
    face.start(consumer(face, source, memory, bodies.write, effects=bodies.url))
    handled(bodies, 2)
    topic.put("without")
    face.join()
    assert bodies.rows() == ["first", "other"]
    assert "has no header 'order'" in str(face.failure)


# -- the source by itself: what is missing, and what has changed -----------------------------------


class Opened:
    """The source of a URL, opened and closed as by a term."""

    def __init__(self, url: str, position: str = "") -> None:
        source = open_source(url)
        assert isinstance(source, KafkaTopic)
        self.source = source
        self._opening = Opening("orders", testing.elected_term(), position)

    async def __aenter__(self) -> KafkaTopic:
        try:
            await self.source.open(self._opening)
        except BaseException:
            await self.source.close()
            raise
        return self.source

    async def __aexit__(self, *exception: object) -> None:
        await self.source.close()


async def some(source: KafkaTopic, count: int) -> list[Item]:
    found: list[Item] = []
    async with asyncio.timeout(LIMIT_S):
        while len(found) < count:
            found += await source.next(count - len(found))
    return found


def read(url: str, count: int, position: str = "") -> list[Item]:
    async def main() -> list[Item]:
        async with Opened(url, position) as source:
            return await some(source, count)

    return asyncio.run(main())


def test_what_retention_took_is_said_and_skipped_only_if_asked(topic: Topic) -> None:
    topic.put(*names(10))
    position = read(topic.source(), 3)[-1].position
    topic.forget(7)
    with pytest.raises(ConfigError, match=r"records from 3 to 6 were deleted .*retention\.ms"):
        read(topic.source(), 1, position)
    (item,) = read(topic.source(more="&gone=skip"), 1, position)
    assert item.text == "i7"
    assert read(topic.source(), 1)[0].text == "i7", "a new work begins at the oldest one"


def test_marks_of_transactions_that_retention_took_are_said_to_be_possible(topic: Topic) -> None:
    """They are numbered, too, and when they are gone nobody knows what they were."""
    topic.put_in_transactions(["a"])
    position = read(topic.source(), 1)[-1].position
    topic.forget(2)
    topic.put("b")
    with pytest.raises(ConfigError, match=r"from 1 to 1 .* no more than marks .*gone=skip"):
        read(topic.source(), 1, position)
    (item,) = read(topic.source(more="&gone=skip"), 1, position)
    assert item.text == "b"


def test_what_is_taken_while_it_is_read_is_said(topic: Topic) -> None:
    topic.put(*names(5))

    async def main() -> None:
        async with Opened(topic.source()) as source:
            await some(source, 5)
            # Behind the reader's back: it is told to go on at a number that is gone.
            topic.put(*names(5, 5))
            topic.forget(9)
            await source._connected().assign(topic.name, {0: 5})
            await some(source, 1)

    with pytest.raises(ConfigError, match="what is next is not there"):
        asyncio.run(main())


def test_what_was_compacted_away_is_said(topic: Topic) -> None:
    """Here the last record that was done is the mark at the end of a transaction."""
    topic.put_in_transactions(["a"], ["b"])
    told = json.loads(read(topic.source(), 2)[-1].position)
    assert told["next"]["0"][0] == 3
    told["next"]["0"][0] = 4
    topic.put("c")
    with pytest.raises(ConfigError, match=r"record 3 .* is not there any more"):
        read(topic.source(), 1, json.dumps(told))
    (item,) = read(topic.source(more="&gone=skip"), 1, json.dumps(told))
    assert item.text == "c"


def test_a_topic_that_was_made_anew_is_another_one(topic: Topic) -> None:
    topic.put(*names(5))
    position = read(topic.source(), 3)[-1].position
    topic.admin.delete_topics([topic.name])[topic.name].result(LIMIT_S)
    until(lambda: topic.name not in topic.admin.list_topics(timeout=LIMIT_S).topics, "it is gone")
    topic.make()
    topic.put(*(f"new{number}" for number in range(9)))
    with pytest.raises(ConfigError, match="deleted and made anew"):
        read(topic.source(), 1, position)
    assert read(topic.source(), 1)[0].text == "new0"


def test_a_log_that_has_lost_its_end_is_refused_even_when_it_has_grown_again(
    own_kafka: Kafka,
) -> None:
    topic = Topic(own_kafka, "orders")
    topic.put(*names(10))
    position = read(topic.source(), 10)[-1].position
    own_kafka.kill()
    shutil.rmtree(own_kafka.log_of(topic.name, 0))
    own_kafka.start()
    topic.known(1)
    with pytest.raises(ConfigError, match="ends at 0, and 10 is next"):
        read(topic.source(), 1, position)
    topic.put(*(f"new{number}" for number in range(20)))
    with pytest.raises(ConfigError, match=r"record 9 .* is not the one that was done"):
        read(topic.source(), 1, position)


def test_partitions_that_are_added_are_read_from_their_beginning(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.workloads.sources.kafka.LOOK_EVERY_S", 0)
    topic.put(*names(5))

    async def main() -> str:
        async with Opened(topic.source()) as source:
            position = (await some(source, 5))[-1].position
            more = [NewPartitions(topic.name, 3)]
            topic.admin.create_partitions(more)[topic.name].result(LIMIT_S)
            topic.known(3)
            with pytest.raises(SourceUnavailable, match="the topic was changed"):
                await some(source, 1)
            return position

    position = asyncio.run(main())
    topic.put("new", partition=2)
    (item,) = read(topic.source(), 1, position)
    assert item.text == "new"
    assert set(json.loads(item.position)["next"]) == {"0", "1", "2"}


def test_one_partition_alone(kafka: Kafka) -> None:
    topic = Topic(kafka, "two", 2)
    topic.put("zero", partition=0)
    topic.put("one", "one more", partition=1)
    found = read(topic.source(more="&partition=1"), 2)
    assert [item.text for item in found] == ["one", "one more"]
    with pytest.raises(ConfigError, match="has 2 partitions, 0 to 1"):
        read(topic.source(more="&partition=2"), 1)


def test_silence_is_trouble_when_no_broker_is_there(
    own_kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.workloads.sources.kafka.LOOK_EVERY_S", 1000)
    topic = Topic(own_kafka, "orders")
    topic.put("i0")

    async def main() -> None:
        async with Opened(topic.source()) as source:
            await some(source, 1)
            own_kafka.kill()
            with pytest.raises(SourceUnavailable, match="down"):
                await some(source, 1)

    asyncio.run(main())
    with pytest.raises(SourceUnavailable):
        read(topic.source(), 1)


# -- what cannot work -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka:///?topic=t", "which broker"),
        ("kafka://h/", "which topic"),
        ("kafka://h/?topic=a%20b", "letters, digits"),
        ("kafka://h/?topic=t&partition=x", "a number from 0"),
        ("kafka://h/?topic=t&id=key", "use header:NAME"),
        ("kafka://h/?topic=t&gone=yes", "use error or skip"),
        ("kafka://h/?topic=t&sasl=PLAIN", "USER:PASSWORD"),
        ("kafka://u:p@h/?topic=t&sasl=GSSAPI", "use PLAIN"),
        ("kafka://h/?topic=t&ca=x", "write kafkas"),
        ("kafka://h/?topic=t&colour=red", "does not know the option 'colour'"),
    ],
)
def test_a_url_is_judged_before_anything_is_sent(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_source(url)


def test_a_url_becomes_the_settings_of_the_client() -> None:
    source = open_source("kafkas://u:p%40@a,b:1234/?topic=t&sasl=SCRAM-SHA-256&ca=/ca.pem")
    assert isinstance(source, KafkaTopic)
    assert source.name == "kafkas://a:9092,b:1234/?topic=t"
    assert source._settings == {
        "bootstrap.servers": "a:9092,b:1234",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "u",
        "sasl.password": "p@",
        "ssl.ca.location": "/ca.pem",
    }


def test_what_will_not_pass_ends_the_work_and_says_what_to_change(topic: Topic) -> None:
    with pytest.raises(ConfigError, match="there is no such topic"):
        read(topic.source().replace(topic.name, "nosuch"), 1)
    with pytest.raises(ConfigError, match="is not one of a Kafka topic"):
        read(topic.source(), 1, "1700-0")


def test_a_record_without_a_value_is_an_item_that_says_so(topic: Topic) -> None:
    producer = Producer({"bootstrap.servers": topic.server.address, **QUIET})
    producer.produce(topic.name, None, key="seven", partition=0)
    producer.flush(LIMIT_S)
    (item,) = read(topic.source(), 1)
    assert (item.body, item.headers) == (b"", {"kafka.key": "seven", "kafka.tombstone": "true"})
    assert item.id == f"{topic.name}/0/0"
