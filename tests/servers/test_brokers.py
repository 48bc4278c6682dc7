"""The brokers do what tests of consumers rely on: keep what they answered for, and be cut off."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aio_pika
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.servers import build, java
from tests.servers.kafka import Kafka
from tests.servers.rabbitmq import RabbitMq

WAIT_S = 30.0
SHORT_S = 0.5
TOPIC = "items"


def listening(pid: int) -> set[str]:
    """Return the addresses at which a process listens."""
    own = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                address = bytes.fromhex(words[1].partition(":")[0])
                # Words of four bytes, each in this machine's order.
                parts = [address[at : at + 4][::-1] for at in range(0, len(address), 4)]
                found.add(socket.inet_ntop(family, b"".join(parts)).removeprefix("::ffff:"))
    return found


async def published(server: RabbitMq, *bodies: bytes) -> None:
    async with await aio_pika.connect(server.url(), timeout=WAIT_S) as connection:
        channel = await connection.channel()
        await channel.declare_queue("items", durable=True)
        for body in bodies:
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key="items")


async def taken(server: RabbitMq, count: int) -> list[tuple[bytes, bool | None]]:
    """Return what is taken from the queue, without an acknowledgement."""
    async with await aio_pika.connect(server.url(), timeout=WAIT_S) as connection:
        queue = await (await connection.channel()).get_queue("items")
        messages = [await queue.get(timeout=WAIT_S) for _ in range(count)]
        return [(message.body, message.redelivered) for message in messages]


class TestRabbitMq:
    def test_what_it_confirmed_outlives_it_in_order(self, own_rabbitmq: RabbitMq) -> None:
        asyncio.run(published(own_rabbitmq, b"1", b"2", b"3"))
        assert asyncio.run(taken(own_rabbitmq, 2)) == [(b"1", False), (b"2", False)]
        assert listening(own_rabbitmq.pid) == {"127.0.0.1"}

        own_rabbitmq.kill()
        own_rabbitmq.start()

        again = asyncio.run(taken(own_rabbitmq, 3))
        assert [body for body, _ in again] == [b"1", b"2", b"3"]
        assert again[0][1], "what was in somebody's hands is marked"

    def test_nothing_of_it_is_installed(self) -> None:
        content = build.ensure("rabbitmq")
        assert content.is_relative_to(build.cache_dir())
        assert list(content.glob("usr/lib/rabbitmq/lib/*/plugins"))


def produced(server: Kafka) -> None:
    admin = AdminClient({"bootstrap.servers": server.address})
    for made in admin.create_topics([NewTopic(TOPIC, 1, 1)]).values():
        made.result(WAIT_S)
    producer = Producer({"bootstrap.servers": server.address, "transactional.id": "tests"})
    producer.init_transactions(WAIT_S)
    for group in (b"item-1", b"item-2"), (b"item-3",):
        producer.begin_transaction()
        for value in group:
            producer.produce(TOPIC, value, partition=0)
        producer.commit_transaction(WAIT_S)


@contextmanager
def reading(address: str) -> Iterator[Consumer]:
    settings: dict[str, str | bool | int] = {
        "bootstrap.servers": address,
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "log_level": 0,
    }
    consumer = Consumer(settings)
    try:
        yield consumer
    finally:
        consumer.close()


def read(consumer: Consumer, offset: int, count: int, timeout_s: float) -> list[tuple[int, bytes]]:
    """Return offsets and values of so many records, or of those that came in time."""
    consumer.assign([TopicPartition(TOPIC, 0, offset)])
    found = consumer.consume(count, timeout_s)
    return [(record.offset() or 0, bytes(record.value() or b"")) for record in found]


class TestKafka:
    WRITTEN = ((0, b"item-1"), (1, b"item-2"), (3, b"item-3"))
    """Each transaction ends with a record of the server's own, which takes a number."""

    def test_transactions_outlive_it_and_a_door_keeps_its_clients(self, own_kafka: Kafka) -> None:
        produced(own_kafka)
        assert listening(own_kafka.pid) == {"127.0.0.1"}
        one, other = own_kafka.doors
        one.record()
        with reading(one.address) as near, reading(other.address) as far:
            assert read(near, 0, 3, WAIT_S) == [*self.WRITTEN]
            assert b"item-3" in one.recorded()[1], "what was read came through the door"

            one.cut()
            assert read(far, 1, 2, WAIT_S) == [*self.WRITTEN[1:]]
            assert read(near, 1, 2, SHORT_S) == []
            one.heal()

            own_kafka.kill()
            own_kafka.start()
            assert read(far, 0, 3, WAIT_S) == [*self.WRITTEN]

    def test_an_unknown_server_is_an_error(self) -> None:
        with pytest.raises(build.BuildError, match=r"no server 'nonsense' of jars; known:.*kafka"):
            java.jars("nonsense")

    def test_a_missing_maven_is_an_error_that_says_so(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        java.jars.cache_clear()
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        with pytest.raises(build.BuildError, match=r"no `mvn` on PATH.*apt-get install maven"):
            java.jars("kafka")
        assert [entry.name for entry in (tmp_path / "kafka").iterdir()] == ["lock"]
