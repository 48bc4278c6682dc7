"""One description per broker: its server, how items come in, and how a loop by hand takes them.

The loop by hand uses the client library that ours uses, takes as many items at a time as ours does,
and acknowledges as often. The servers are those of the tests, with the durability that they have
there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import psycopg
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from incumbent.workloads.sources.postgresql import schema
from tests.servers.kafka import Kafka
from tests.servers.postgresql import Postgres
from tests.servers.rabbitmq import RabbitMq
from tests.servers.redis import Redis

__all__ = ["BROKERS", "FETCH", "Broker", "Taken"]

FETCH = 100
"""As many items are taken at a time: what ours does, if nothing else is said."""

_BODY = b"body"
_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Taken:
    """An item in the hands of a loop by hand.

    Attributes:
        id: as ours would know it.
        position: what is written as the checkpoint; "" if this source has none.
        row: its number in the table of the queue, to be deleted with the effect; else None.
        tag: the client's own.
    """

    id: str
    position: str = ""
    row: int | None = None
    tag: Any = None


class Broker:
    """A broker, running. `work` names a queue, stream or topic."""

    name = ""

    def __init__(self, folder: Path, postgres: Postgres, stack: ExitStack) -> None:
        """Start the server, which ends with `stack`; `postgres` has the effects."""

    def source(self, work: str) -> str:
        """Return the URL of the source for ours."""
        raise NotImplementedError

    def make(self, work: str) -> None:
        """Make the queue, stream or topic, and connect to it."""

    def put(self, work: str, first: int, count: int) -> None:
        """Produce items, numbered from `first` on; return when the server has them."""
        raise NotImplementedError

    def take(self, work: str) -> Sequence[Taken]:
        """Take up to `FETCH` items, by hand; there may be none yet."""
        raise NotImplementedError

    def acknowledge(self, work: str, taken: Sequence[Taken]) -> None:
        """Tell the broker that these are done, by hand."""

    def another(self) -> Broker:
        """Return what another thread may produce with."""
        return self


class Queue(Broker):
    """A table beside the effects. There is nothing to be told: the row goes with the effect."""

    name = "postgresql"

    def __init__(self, folder: Path, postgres: Postgres, stack: ExitStack) -> None:
        self._folder, self._postgres, self._stack = folder, postgres, stack
        postgres.execute(schema())
        self._db = stack.enter_context(psycopg.connect(postgres.url(), autocommit=True))

    def source(self, work: str) -> str:
        """Return the URL."""
        return f"{self._postgres.url()}?queue={work}"

    def put(self, work: str, first: int, count: int) -> None:
        """Insert."""
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO incumbent_queue (queue, item, body) "
                "SELECT %s, n::text, %s FROM generate_series(%s::int, %s::int) n",
                [work, _BODY, first, first + count - 1],
            )
            self._db.execute("SELECT pg_notify('incumbent_queue', '')")

    def take(self, work: str) -> Sequence[Taken]:
        """Read the head."""
        found = self._db.execute(
            "SELECT id, item FROM incumbent_queue WHERE queue = %s ORDER BY tx, id LIMIT %s",
            [work, FETCH],
        )
        return [Taken(item, row=number) for number, item in found]

    def another(self) -> Broker:
        """Return one with a connection of its own."""
        return Queue(self._folder, self._postgres, self._stack)


class Stream(Broker):
    """A stream of Redis."""

    name = "redis"

    def __init__(self, folder: Path, postgres: Postgres, stack: ExitStack) -> None:
        self._server = stack.enter_context(Redis(folder / self.name))
        self._client = stack.enter_context(closing(self._server.client()))

    def source(self, work: str) -> str:
        """Return the URL."""
        return self._server.url(f"stream={work}&id=n")

    def make(self, work: str) -> None:
        """Make the stream, and a group on it."""
        self._client.xgroup_create(work, "theirs", "0", mkstream=True)

    def put(self, work: str, first: int, count: int) -> None:
        """Add entries."""
        pipeline = self._client.pipeline(transaction=False)
        for number in range(first, first + count):
            pipeline.xadd(work, {"n": str(number), "body": _BODY})
        pipeline.execute()

    def take(self, work: str) -> Sequence[Taken]:
        """Read by the group."""
        answer: Any = self._client.xreadgroup("theirs", "theirs", {work: ">"}, count=FETCH)
        return [
            Taken(fields[b"n"].decode(), number.decode(), tag=number)
            for _, entries in answer
            for number, fields in entries
        ]

    def acknowledge(self, work: str, taken: Sequence[Taken]) -> None:
        """Acknowledge them at once."""
        self._client.xack(work, "theirs", *(item.tag for item in taken))


class Rabbit(Broker):
    """A durable queue of RabbitMQ, with persistent messages.

    Its client is one of asyncio; by hand, a transaction is short enough to be done on the loop.
    """

    name = "rabbitmq"

    def __init__(
        self, folder: Path, postgres: Postgres, stack: ExitStack, server: RabbitMq | None = None
    ) -> None:
        if server is None:
            server = RabbitMq(folder / self.name)
            stack.callback(server.remove_data)
            stack.enter_context(server)
        self._folder, self._postgres = folder, postgres
        self._server, self._stack = server, stack
        # No `asyncio.Runner`: each of its runs has a signal handler printed, with all messages.
        self._loop = stack.enter_context(closing(asyncio.new_event_loop()))
        self._arrived: dict[str, deque[AbstractIncomingMessage]] = {}
        self._bell = asyncio.Event()
        # Between two rounds the loop stands still, and nobody answers a heartbeat.
        self._connection = self._loop.run_until_complete(
            aio_pika.connect(f"{server.url()}?heartbeat=0")
        )
        stack.callback(lambda: self._loop.run_until_complete(self._connection.close()))
        self._sending: AbstractChannel = self._loop.run_until_complete(self._opened(0))

    async def _opened(self, held: int) -> AbstractChannel:
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=held)
        return channel

    def source(self, work: str) -> str:
        """Return the URL."""
        return f"{self._server.url().replace('amqp:', 'rabbitmq:', 1)}?queue={work}"

    def make(self, work: str) -> None:
        """Declare the queue."""
        self._loop.run_until_complete(self._sending.declare_queue(work, durable=True))

    def put(self, work: str, first: int, count: int) -> None:
        """Publish, and wait for the confirmations."""
        self._loop.run_until_complete(self._publish(work, first, count))

    async def _publish(self, work: str, first: int, count: int) -> None:
        kind = aio_pika.DeliveryMode.PERSISTENT
        await asyncio.gather(
            *(
                self._sending.default_exchange.publish(
                    aio_pika.Message(_BODY, message_id=str(number), delivery_mode=kind),
                    routing_key=work,
                )
                for number in range(first, first + count)
            )
        )

    def take(self, work: str) -> Sequence[Taken]:
        """Return what was delivered."""
        return self._loop.run_until_complete(self._take(work))

    async def _take(self, work: str) -> list[Taken]:
        if work not in self._arrived:
            self._arrived[work] = deque()
            channel = await self._opened(2 * FETCH)
            queue = await channel.get_queue(work)
            await queue.consume(lambda message: self._deliver(work, message))
        arrived = self._arrived[work]
        if not arrived:
            self._bell.clear()
            await asyncio.wait_for(self._bell.wait(), _LIMIT_S)
        taken: list[Taken] = []
        while arrived and len(taken) < FETCH:
            message = arrived.popleft()
            taken.append(Taken(message.message_id or "", tag=message))
        return taken

    async def _deliver(self, work: str, message: AbstractIncomingMessage) -> None:
        self._arrived[work].append(message)
        self._bell.set()

    def acknowledge(self, work: str, taken: Sequence[Taken]) -> None:
        """Acknowledge up to the last one."""
        self._loop.run_until_complete(taken[-1].tag.ack(multiple=True))

    def another(self) -> Broker:
        """Return one with a loop of its own."""
        return Rabbit(self._folder, self._postgres, self._stack, self._server)


class Topic(Broker):
    """A topic of Kafka with one partition; where the work is, is written with the effect."""

    name = "kafka"

    def __init__(self, folder: Path, postgres: Postgres, stack: ExitStack) -> None:
        self._server = stack.enter_context(Kafka(folder / self.name))
        where = {"bootstrap.servers": self._server.address, "log_level": 0}
        self._where: dict[str, Any] = dict(where)
        self._producer = Producer({**where, "enable.idempotence": True, "linger.ms": 0})
        self._consumers: dict[str, Consumer] = {}
        stack.callback(self._close)

    def _close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()

    def source(self, work: str) -> str:
        """Return the URL."""
        return f"kafka://{self._server.address}/?topic={work}"

    def make(self, work: str) -> None:
        """Make the topic."""
        admin = AdminClient(self._where)
        admin.create_topics([NewTopic(work, 1, 1)])[work].result(_LIMIT_S)

    def put(self, work: str, first: int, count: int) -> None:
        """Produce, and wait until the broker has them."""
        for _ in range(count):
            self._producer.produce(work, _BODY)
        if self._producer.flush(_LIMIT_S):
            raise RuntimeError("Kafka does not answer")

    def take(self, work: str) -> Sequence[Taken]:
        """Wait for a record, and take what has come with it."""
        if work not in self._consumers:
            settings = {"group.id": "theirs", "enable.auto.commit": False}
            consumer = self._consumers[work] = Consumer({**self._where, **settings})
            consumer.assign([TopicPartition(work, 0, 0)])
        consumer = self._consumers[work]
        first = consumer.poll(_LIMIT_S)
        if first is None:
            return []
        taken = []
        for message in (first, *consumer.consume(FETCH - 1, 0)):
            if (error := message.error()) is not None:
                raise RuntimeError(error.str())
            offset = message.offset()
            taken.append(Taken(f"{work}/0/{offset}", str(offset)))
        return taken


BROKERS: tuple[type[Broker], ...] = (Queue, Stream, Rabbit, Topic)
