"""Where the items come from: a server, the way of each replica to it, and one who fills it.

A server is an adapter of `tests.faults`, so that it is cut off and restarted as the stores are
there. What is new here is `put`: it returns when the server has answered for the items, and may be
called again with the same ones if it failed, without making an item twice. So a duplicate among the
effects is the consumer's, and not the producer's.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import aio_pika
import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from redis.exceptions import ResponseError

from incumbent.workloads.sources.postgresql import schema
from tests.faults.adapter import OneServer, Servers
from tests.faults.sql import Postgresql
from tests.servers.kafka import Kafka
from tests.servers.rabbitmq import RabbitMq
from tests.servers.redis import Redis
from tests.work.effects import QUEUE

__all__ = ["SOURCES", "Item", "Source", "with_options"]

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Item:
    """One item; its position is its place in its lane."""

    lane: str
    position: int
    poison: bool = False

    @property
    def name(self) -> str:
        return f"{self.lane}-{self.position:08d}"

    def body(self) -> bytes:
        """Return what the consumer gets."""
        said = {"item": self.name, "lane": self.lane, "position": self.position}
        return json.dumps({**said, "poison": self.poison}).encode()


def with_options(url: str, **options: str) -> str:
    """Return a URL with more options."""
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query), *options.items()])
    return parts._replace(query=query).geturl()


class Source(Protocol):
    """One kind of source.

    Attributes:
        ordered: whether the effects have to be in the order of the items.
        lanes: how many orders there are side by side.
        server: the adapter of the server; None if there is none to break.
    """

    ordered: bool
    lanes: int
    server: Servers | None

    def __init__(self, base_dir: Path, database: Postgresql, seats: int) -> None:
        """Prepare; `database` is that of the effects."""
        ...

    def start(self) -> None:
        """Start the server, and make what it needs."""
        ...

    def stop(self) -> None:
        """Take everything down."""
        ...

    def where(self, seat: int) -> str:
        """Return where the replica on this seat finds it."""
        ...

    def put(self, items: Sequence[Item]) -> None:
        """Add items in order, each once however often this is called; return when they are safe."""
        ...


class RowsTable:
    """A table in the database of the effects, whose rows stay, for a poller or a raw consumer."""

    ordered, lanes = True, 1

    def __init__(self, base_dir: Path, database: Postgresql, seats: int) -> None:
        self._database = database
        self.server: Servers | None = None

    def start(self) -> None:
        with psycopg.connect(self._database.url(0)) as connection:
            connection.execute(f"CREATE TABLE {QUEUE} (id bigint PRIMARY KEY, body text NOT NULL)")

    def stop(self) -> None:
        pass

    def where(self, seat: int) -> str:
        return self._database.url(0, seat, "cut")

    def put(self, items: Sequence[Item]) -> None:
        with psycopg.connect(self._database.url(0)) as connection:
            connection.cursor().executemany(
                f"INSERT INTO {QUEUE} VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [(item.position, item.body().decode()) for item in items],
            )


class PostgresqlQueue(RowsTable):
    """The product's queue in such a database; the table of rows says what is in it already."""

    def start(self) -> None:
        super().start()
        with psycopg.connect(self._database.url(0)) as connection:
            for statement in schema().split(";"):
                if statement.strip():
                    connection.execute(statement)

    def where(self, seat: int) -> str:
        return with_options(super().where(seat), queue=QUEUE)

    def put(self, items: Sequence[Item]) -> None:
        with psycopg.connect(self._database.url(0)) as connection:
            connection.cursor().executemany(
                f"WITH new AS (INSERT INTO {QUEUE} VALUES (%s, %s) ON CONFLICT DO NOTHING "
                "RETURNING body) INSERT INTO incumbent_queue (queue, item, body) "
                f"SELECT '{QUEUE}', %s, convert_to(body, 'UTF8') FROM new",
                [(item.position, item.body().decode(), item.name) for item in items],
            )
            connection.execute("SELECT pg_notify('incumbent_queue', %s)", (QUEUE,))


class _RedisServer(OneServer):
    """Redis that keeps what it was told, over each restart."""

    scheme = "redis"

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, redis.host, redis.port)


class RedisStream:
    """A stream. Its entries have the items' own numbers, so that none can be added twice."""

    ordered, lanes = True, 1

    def __init__(self, base_dir: Path, database: Postgresql, seats: int) -> None:
        self._redis = Redis(base_dir / "redis")
        self.server: Servers | None = _RedisServer(self._redis)

    def start(self) -> None:
        self._redis.start()

    def stop(self) -> None:
        assert self.server is not None
        self.server.stop()

    def where(self, seat: int) -> str:
        assert self.server is not None
        return with_options(self.server.url(0, seat, "cut"), stream=QUEUE)

    def put(self, items: Sequence[Item]) -> None:
        with self._redis.client() as client:
            pipeline = client.pipeline(transaction=False)
            for item in items:
                pipeline.xadd(QUEUE, {"body": item.body()}, id=f"{item.position + 1}-0")
            for answer in pipeline.execute(raise_on_error=False):
                known = isinstance(answer, ResponseError) and "equal or smaller" in str(answer)
                if isinstance(answer, Exception) and not known:
                    raise answer


class RabbitMqQueue:
    """A durable queue. A repeated item has the same message id, by which a consumer knows it."""

    ordered, lanes = True, 1

    def __init__(self, base_dir: Path, database: Postgresql, seats: int) -> None:
        self._rabbitmq = RabbitMq(base_dir / "rabbitmq")
        self.server: Servers | None = _RabbitMqServer(self._rabbitmq)

    def start(self) -> None:
        self._rabbitmq.start()
        asyncio.run(self._put(()))

    def stop(self) -> None:
        assert self.server is not None
        self.server.stop()
        self._rabbitmq.stop()

    def where(self, seat: int) -> str:
        assert self.server is not None
        return with_options(self.server.url(0, seat, "cut"), queue=QUEUE)

    def put(self, items: Sequence[Item]) -> None:
        asyncio.run(self._put(items))

    async def _put(self, items: Sequence[Item]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            async with await aio_pika.connect(self._rabbitmq.url()) as connection:
                channel = await connection.channel()
                await channel.declare_queue(QUEUE, durable=True)
                sent = [
                    channel.default_exchange.publish(
                        aio_pika.Message(
                            item.body(),
                            message_id=item.name,
                            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        ),
                        routing_key=QUEUE,
                    )
                    for item in items
                ]
                await asyncio.gather(*sent)


class _RabbitMqServer(OneServer):
    scheme = "rabbitmq"

    def __init__(self, rabbitmq: RabbitMq) -> None:
        self._rabbitmq = rabbitmq
        super().__init__(rabbitmq, rabbitmq.host, rabbitmq.port)

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return self._rabbitmq.url(address=addresses[0]).replace("amqp:", "rabbitmq:", 1)


class KafkaTopic:
    """A topic with two partitions. One idempotent producer numbers what it sends."""

    ordered, lanes = True, 2

    def __init__(self, base_dir: Path, database: Postgresql, seats: int) -> None:
        self._kafka = Kafka(base_dir / "kafka", doors=seats)
        self.server: Servers | None = _KafkaServer(self._kafka)
        self._producer: Producer | None = None

    def start(self) -> None:
        self._kafka.start()
        admin = AdminClient({"bootstrap.servers": self._kafka.address, "log_level": 0})
        for made in admin.create_topics([NewTopic(QUEUE, self.lanes, 1)]).values():
            made.result(PATIENCE_S)
        self._producer = Producer(
            {
                "bootstrap.servers": self._kafka.address,
                "enable.idempotence": True,
                "linger.ms": 1,
                "log_level": 0,
            }
        )

    def stop(self) -> None:
        self._kafka.close()

    def where(self, seat: int) -> str:
        assert self.server is not None
        return self.server.url(0, seat, "cut")

    def put(self, items: Sequence[Item]) -> None:
        """Add items. The producer itself tries again, for minutes, under the same numbers."""
        assert self._producer is not None
        for item in items:
            self._producer.produce(QUEUE, item.body(), partition=int(item.lane.rpartition("-")[2]))
        left = self._producer.flush(10 * PATIENCE_S)
        if left:
            raise RuntimeError(f"Kafka has not answered for {left} records")


class _KafkaServer(OneServer):
    """The ways to Kafka are its doors."""

    scheme = "kafka"

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(kafka, kafka.host, kafka.port)
        self._proxies = {(0, seat): [door] for seat, door in enumerate(kafka.doors)}

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return f"kafka://{addresses[0]}/?topic={QUEUE}"


class DirectoryOfFiles:
    """A folder, into which files are moved under names in order."""

    ordered, lanes = True, 1

    def __init__(self, base_dir: Path, database: Postgresql, seats: int) -> None:
        self._folder = base_dir / "inbox"
        self.server: Servers | None = None

    def start(self) -> None:
        self._folder.mkdir(parents=True)

    def stop(self) -> None:
        pass

    def where(self, seat: int) -> str:
        return str(self._folder)

    def put(self, items: Sequence[Item]) -> None:
        for item in items:
            hidden = self._folder / f".{item.name}"
            hidden.write_bytes(item.body())
            os.rename(hidden, self._folder / f"{item.name}.json")


class Ticks:
    """Time itself; there is nothing to put, and the checker knows what is due."""

    ordered, lanes = True, 1

    def __init__(self, base_dir: Path, database: Postgresql, seats: int) -> None:
        self.server: Servers | None = None

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def where(self, seat: int) -> str:
        return "-"

    def put(self, items: Sequence[Item]) -> None:
        raise NotImplementedError


SOURCES: dict[str, dict[str, type[Source]]] = {
    "consumer": {
        "postgresql": PostgresqlQueue,
        "redis": RedisStream,
        "rabbitmq": RabbitMqQueue,
        "kafka": KafkaTopic,
    },
    "poller": {
        "directory": DirectoryOfFiles,
        "rows": RowsTable,
        "generic": RowsTable,
    },
    "periodic": {"every": Ticks, "cron": Ticks},
}
"""By kind of work."""
