"""One client of Kafka, in one thread, for one term.

confluent-kafka is used. It is kept by its makers, typed, and brings librdkafka in its wheel.
aiokafka would be asyncio's own, but closing its consumer while the broker is away cancels the
caller and leaves the connection open. What blocks is done in a thread, in the order in which it was
asked: so whatever is going on is over before the client is closed, and a client that was given up
cannot be taken for the next one.

The client connects by itself, again and again, and silence says nothing. So it is asked for its
errors, and when no broker can be reached that is trouble.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from incumbent.errors import ConfigError, IncumbentError, SourceUnavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer
    from confluent_kafka.admin import AdminClient

    Headers = list[tuple[str, str | bytes | None]]

__all__ = ["Line", "TooLarge", "Topic"]

T = TypeVar("T")
ANSWER_S = 5.0
CLOSE_S = 2.0
POLL_S = 0.1
"""How long one wait for records lasts; the end of a term may have to wait for it."""

_READING = {
    "enable.auto.commit": False,
    # Any other value leaps to the beginning or to the end, and says nothing.
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "allow.auto.create.topics": False,
    # The client would be said to have left a group in which it is not, behind a slow handler.
    "max.poll.interval.ms": 86_400_000,
    "fetch.error.backoff.ms": 100,
    "queued.min.messages": 1000,
    "queued.max.messages.kbytes": 16_384,
}
_WRITING = {
    "enable.idempotence": True,
    "message.timeout.ms": 5000,
    "linger.ms": 0,
    # Else the client refuses what the topic takes: the brokers say how large is too large.
    "message.max.bytes": 1_000_000_000,
}
_ALWAYS = {
    "log_level": 0,
    "socket.timeout.ms": 10_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 1000,
}

_log = logging.getLogger("incumbent")


class TooLarge(ConfigError):
    """The brokers refuse a record for its size."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What the brokers say of a topic.

    Attributes:
        identity: another one for a topic that was deleted and made anew under its name.
        partitions: how many there are.
    """

    identity: str
    partitions: int


class Line:
    """A client. Its methods are not called side by side."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self._name = name
        self._settings = {**_ALWAYS, **settings, "error_cb": self._told}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="incumbent-kafka")
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._admin: AdminClient | None = None
        self._trouble: KafkaError | None = None

    async def topic(self, name: str) -> Topic | None:
        """Return what a topic is; None if there is none."""
        return await self._asked(lambda: self._described(name))

    async def make(self, name: str) -> None:
        """Make a topic as the brokers' defaults have it, if there is none."""
        await self._asked(lambda: self._made(name))

    async def bounds(self, name: str, partition: int) -> tuple[int, int]:
        """Return the number of the oldest record that is kept, and that of the next new one."""
        from confluent_kafka import TopicPartition

        def ask() -> tuple[int, int]:
            asked = TopicPartition(name, partition)
            found = self._reading().get_watermark_offsets(asked, timeout=ANSWER_S)
            if found is None:
                raise SourceUnavailable(f"partition {partition} has not answered")
            return found

        return await self._asked(ask)

    async def assign(self, name: str, offsets: Mapping[int, int]) -> None:
        """Read these partitions, each from this number on."""
        from confluent_kafka import TopicPartition

        wanted = [TopicPartition(name, partition, offset) for partition, offset in offsets.items()]
        await self._asked(lambda: self._reading().assign(wanted))

    async def read(self, limit: int) -> Sequence[Message]:
        """Wait a little for records, and return up to `limit`."""
        return await self._asked(lambda: self._polled(limit))

    async def send(
        self, name: str, value: bytes | None, key: bytes | None, headers: Headers
    ) -> None:
        """Add a record, and return when all replicas in sync have it.

        Raises:
            TooLarge: it is; another one may go.
        """
        await self._asked(lambda: self._sent(name, value, key, headers))

    async def close(self) -> None:
        """Close the client, when what is going on is over; that is waited for, but not for long."""
        closing = asyncio.wrap_future(self._thread.submit(self._end))
        self._thread.shutdown(wait=False)
        await asyncio.wait([closing], timeout=CLOSE_S)

    # -- in the thread ----------------------------------------------------------------------------

    def _end(self) -> None:
        with suppress(Exception):
            if self._producer is not None:
                self._producer.purge()
                self._producer.flush(0)
        with suppress(Exception):
            if self._consumer is not None:
                self._consumer.close()
        self._consumer = self._producer = self._admin = None

    def _reading(self) -> Consumer:
        from confluent_kafka import Consumer

        if self._consumer is None:
            # A group has to be named, and is never joined: no rebalance, no session to wait for.
            self._consumer = Consumer({**self._settings, **_READING, "group.id": "incumbent"})
        return self._consumer

    def _asking(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        if self._admin is None:
            self._admin = AdminClient(dict(self._settings))
        return self._admin

    def _described(self, name: str) -> Topic | None:
        from confluent_kafka import KafkaError, KafkaException, TopicCollection

        try:
            asked = self._asking().describe_topics(
                TopicCollection([name]), request_timeout=ANSWER_S
            )
            found = asked[name].result(ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise
        return Topic(str(found.topic_id), len(found.partitions))

    def _made(self, name: str) -> None:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.cimpl import NewTopic

        if self._described(name) is not None:
            return
        try:
            made = self._asking().create_topics([NewTopic(name, -1, -1)], request_timeout=ANSWER_S)
            made[name].result(ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _polled(self, limit: int) -> Sequence[Message]:
        consumer = self._reading()
        first = consumer.poll(POLL_S)
        if first is None:
            if self._trouble is not None:
                raise self._meant(self._trouble)
            return []
        self._trouble = None
        # `consume` waits until it has as many as it was asked for: so only for what is there.
        return [first, *(consumer.consume(limit - 1, 0) if limit > 1 else [])]

    def _sent(self, name: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        from confluent_kafka import Producer

        if self._producer is None:
            self._producer = Producer({**self._settings, **_WRITING})
        answers: list[KafkaError | None] = []

        def heard(error: KafkaError | None, message: Message) -> None:
            answers.append(error)

        self._producer.produce(name, value, key, headers=headers, on_delivery=heard)
        self._producer.flush(2 * ANSWER_S)
        if not answers:
            raise SourceUnavailable("nobody has confirmed a dead letter")
        if answers[0] is not None:
            raise self._meant(answers[0])

    def _told(self, error: KafkaError) -> None:
        """Keep what the client says: that it reaches nobody, or will never be let in."""
        if _is(error, "_ALL_BROKERS_DOWN", "_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED"):
            self._trouble = error

    # -- what it means ----------------------------------------------------------------------------

    async def _asked(self, func: Callable[[], T]) -> T:
        from confluent_kafka import KafkaException

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, func)
        except KafkaException as error:
            told = self._trouble if _is(error.args[0], "_TIMED_OUT", "_TRANSPORT") else None
            raise self._meant(told or error.args[0]) from error
        except TimeoutError as error:
            raise self._meant(self._trouble) from error

    def _meant(self, error: KafkaError | None) -> IncumbentError:
        """Return what an error is: whether to wait for its end, or what to change."""
        if error is None:
            return SourceUnavailable("no broker has answered")
        text = " ".join(error.str().split())
        for code, change in _CHANGES.items():
            if _is(error, code):
                kind = TooLarge if code == "MSG_SIZE_TOO_LARGE" else ConfigError
                return kind(f"{self._name}: {change} ({text})")
        return SourceUnavailable(text)

    def refused(self, error: KafkaError) -> IncumbentError:
        """Return what an error means that came in the place of a record."""
        return self._meant(error)


_CHANGES = {
    "_AUTHENTICATION": "the brokers refuse this user",
    "SASL_AUTHENTICATION_FAILED": "the brokers refuse this user",
    "TOPIC_AUTHORIZATION_FAILED": "the right to read, describe or write a topic is missing",
    "CLUSTER_AUTHORIZATION_FAILED": "a right is missing",
    "POLICY_VIOLATION": "the brokers refuse to make the topic of dead letters; make it by hand",
    "MSG_SIZE_TOO_LARGE": "a dead letter is too large: raise max.message.bytes of its topic",
    "TOPIC_EXCEPTION": "that cannot be the name of a topic",
    "_INVALID_ARG": "the client refuses a setting",
}


def _is(error: KafkaError, *names: str) -> bool:
    from confluent_kafka import KafkaError

    return any(error.code() == getattr(KafkaError, name) for name in names)
