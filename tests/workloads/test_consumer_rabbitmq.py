"""A queue of a real RabbitMQ, in both faces: order, restarts, predecessors, dead letters."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aio_pika
import pytest

from incumbent import ConfigError, testing
from incumbent.errors import SourceUnavailable
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.sources import open_source
from incumbent.workloads.sources.api import Item, Opening
from incumbent.workloads.sources.rabbitmq import _DIFFERS, RabbitQueue, _adopt, _untrusted
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMq
from tests.servers.tls import certify_server
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.faces import FACES, LIMIT_S, Face

T = TypeVar("T")
MISNAMED = "0.0.0.0"  # bind: nothing listens here; a client of Linux gets to loopback by it
"""The way to this host's loopback address by a name that no certificate has."""
SINGLE = {"x-queue-type": "quorum", "x-single-active-consumer": True}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects.db")


@pytest.fixture
def hasty_rabbitmq(tmp_path: Path) -> Iterator[RabbitMq]:
    """A server of the test's own, which waits for an acknowledgement for a second."""
    server = RabbitMq(tmp_path / "rabbitmq")
    (tmp_path / "rabbitmq" / "advanced.config").write_text(
        "[{rabbit, [{consumer_timeout, 1000}, {channel_tick_interval, 200}]}]."
    )
    with server:
        yield server


class Queue:
    """A queue of its own on a server, seen by producers and by those who look."""

    def __init__(self, server: RabbitMq, name: str, **arguments: Any) -> None:
        self.server = server
        self.name = name
        self._arguments = arguments

        async def declare(channel: aio_pika.abc.AbstractChannel) -> None:
            for each in (name, f"{name}.dead", "elsewhere"):
                await channel.queue_delete(each)
            await channel.declare_queue(name, durable=True, arguments=arguments or None)

        self._with(declare)

    def source(self, address: str = "", more: str = "") -> str:
        url = self.server.url(address=address).replace("amqp:", "rabbitmq:", 1)
        return f"{url}?queue={self.name}&heartbeat_s=1{more}"

    def put(self, *ids: str, **properties: Any) -> None:
        async def publish(channel: aio_pika.abc.AbstractChannel) -> None:
            for each in ids:
                message = aio_pika.Message(
                    f"body {each}".encode(),
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    **{"message_id": each, **properties},
                )
                await channel.default_exchange.publish(message, routing_key=self.name)

        self._with(publish)

    def left(self, name: str = "") -> list[tuple[str | None, Any]]:
        """Return id and reason of what is in a queue, taking it."""

        async def take(channel: aio_pika.abc.AbstractChannel) -> list[tuple[str | None, Any]]:
            queue = await channel.get_queue(name or self.name)
            found = []
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                found.append((message.message_id, message.headers.get("x-incumbent-reason")))
            return found

        return self._with(take)

    def delete(self) -> None:
        async def delete(channel: aio_pika.abc.AbstractChannel) -> None:
            await channel.queue_delete(self.name)

        self._with(delete)

    def _with(self, what: Callable[[aio_pika.abc.AbstractChannel], Awaitable[T]]) -> T:
        async def main() -> T:
            async with await aio_pika.connect(self.server.url(), timeout=LIMIT_S) as connection:
                return await what(await connection.channel())

        return asyncio.run(main())


@pytest.fixture
def queue(rabbitmq: RabbitMq) -> Queue:
    return Queue(rabbitmq, "orders")


def names(count: int, begin: int = 0) -> Sequence[str]:
    return [f"i{number}" for number in range(begin, begin + count)]


def handled(effects: Effects, count: int) -> None:
    until(lambda: len(effects.rows()) >= count, f"{count} are handled")


@pytest.mark.parametrize("batch", [1, 10])
def test_effect_and_id_go_together_and_then_it_is_acknowledged(
    face: Face, memory: MemoryStore, queue: Queue, effects: Effects, batch: int
) -> None:
    queue.put(*names(50))
    settings = {"effects": effects.url, "batch": batch}
    face.start(consumer(face, queue.source(), memory, effects.write, **settings))
    handled(effects, 50)
    queue.put(*names(5, 50))
    handled(effects, 55)
    face.stop()
    assert effects.rows() == names(55)
    assert queue.left() == []


def test_what_fails_holds_up_the_rest_and_is_buried_in_its_turn(
    face: Face, memory: MemoryStore, queue: Queue, effects: Effects
) -> None:
    tries: list[int] = []

    def handle(item: Item, db: Any) -> None:
        if item.id == "i1":
            tries.append(item.attempt)
            raise ValueError("cannot be read")
        effects.write(item, db)

    queue.put(*names(4))
    settings = {"effects": effects.url, "retries": 2, "dead_letter": "elsewhere"}
    face.start(consumer(face, queue.source(), memory, handle, **settings))
    handled(effects, 3)
    face.stop()
    assert effects.rows() == ["i0", "i2", "i3"]
    assert tries == [1, 2, 3]
    ((identity, reason),) = queue.left("elsewhere")
    assert identity == "i1"
    assert "cannot be read" in reason
    assert queue.left() == []


def test_nothing_is_lost_or_doubled_over_a_restart_of_the_broker(
    face: Face, memory: MemoryStore, own_rabbitmq: RabbitMq, effects: Effects
) -> None:
    queue = Queue(own_rabbitmq, "orders")
    queue.put(*names(200))
    reached, go_on = threading.Event(), threading.Event()

    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)
        if item.id == "i100":
            reached.set()
            assert go_on.wait(LIMIT_S)

    face.start(consumer(face, queue.source(), memory, handle, effects=effects.url))
    assert reached.wait(LIMIT_S)
    own_rabbitmq.kill()
    go_on.set()
    own_rabbitmq.start()
    # What was acknowledged before may come again, too, and is known. This one comes after it all.
    queue.put("last")
    handled(effects, 201)
    face.stop()
    assert effects.rows() == [*names(200), "last"]
    assert queue.left() == []


def test_a_predecessor_that_was_cut_off_is_waited_for(
    memory: MemoryStore, queue: Queue, effects: Effects
) -> None:
    """It has twenty in hand, which come before the eighty behind them, and the queue to itself."""
    queue.put(*names(100))
    with Proxy(queue.server.host, queue.server.port) as proxy:
        source, first = RabbitQueueOf(queue.source(proxy.address)), Face("sync")

        async def take() -> RabbitQueue:
            await source.open()
            await source.queue.next(10)
            return source.queue

        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        asyncio.run_coroutine_threadsafe(take(), loop).result(LIMIT_S)
        proxy.cut()
        first.start(consumer(first, queue.source(), memory, effects.write, effects=effects.url))
        handled(effects, 100)
        first.stop()
        proxy.heal()
        asyncio.run_coroutine_threadsafe(source.queue.close(), loop).result(LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_S)
        loop.close()
    assert effects.rows() == names(100)


class RabbitQueueOf:
    """The source of a URL, opened as by a term."""

    def __init__(self, url: str) -> None:
        made = open_source(url)
        assert isinstance(made, RabbitQueue)
        self.queue = made

    async def open(self) -> None:
        await self.queue.open(Opening("orders", testing.elected_term(), limit=10))


def refusal(source: str, memory: MemoryStore, effects: Effects) -> str:
    """Return what ends a consumer of this source."""
    face = Face("sync")
    face.start(consumer(face, source, memory, effects.write, effects=effects.url))
    face.join()
    assert isinstance(face.failure, ConfigError)
    return str(face.failure)


# -- queues that cannot be consumed by one alone --------------------------------------------------


def test_a_quorum_queue_is_refused_without_a_single_active_consumer(
    memory: MemoryStore, rabbitmq: RabbitMq, effects: Effects
) -> None:
    queue = Queue(rabbitmq, "quorum", **{"x-queue-type": "quorum"})
    for more, says in (("", "add &exclusive=no"), ("&exclusive=no", "would let two consume")):
        assert says in refusal(queue.source(more=more), memory, effects)


@pytest.mark.parametrize("more", ["", "&exclusive=no"])
def test_a_stream_is_refused(
    memory: MemoryStore, rabbitmq: RabbitMq, effects: Effects, more: str
) -> None:
    """It lets two consume, and passes over what is sent while nobody does."""
    queue = Queue(rabbitmq, "stream", **{"x-queue-type": "stream", "x-max-age": "1h"})
    assert "a stream" in refusal(queue.source(more=more), memory, effects)


MORE: list[dict[str, Any]] = [
    {},
    {"x-max-length": 5000, "x-overflow": "reject-publish"},
    {
        "x-max-length": 5000,
        "x-max-length-bytes": 5_000_000,
        "x-overflow": "reject-publish",
        "x-delivery-limit": 5,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-expires": 3_600_000,
        "x-message-ttl": 3_600_000,
        "x-max-in-memory-length": 100,
        "x-max-in-memory-bytes": 100_000,
        "x-quorum-initial-group-size": 1,
        "x-queue-leader-locator": "balanced",
    },
]


@pytest.mark.parametrize("more", MORE)
def test_one_with_a_single_active_consumer_is_consumed(
    memory: MemoryStore, rabbitmq: RabbitMq, effects: Effects, more: dict[str, Any]
) -> None:
    face = Face("sync")
    queue = Queue(rabbitmq, "quorum", **SINGLE, **more)
    queue.put(*names(20))
    source = queue.source(more="&exclusive=no")
    face.start(consumer(face, source, memory, effects.write, effects=effects.url))
    handled(effects, 20)
    face.stop()
    assert effects.rows() == names(20)


def test_a_classic_queue_with_a_single_active_consumer_is_consumed(
    memory: MemoryStore, rabbitmq: RabbitMq, effects: Effects
) -> None:
    face = Face("sync")
    queue = Queue(rabbitmq, "classic", **{"x-single-active-consumer": True})
    queue.put(*names(3))
    source = queue.source(more="&exclusive=no")
    face.start(consumer(face, source, memory, effects.write, effects=effects.url))
    handled(effects, 3)
    face.stop()


def test_a_delivery_limit_of_minus_one_is_understood() -> None:
    """RabbitMQ 4 knows it, and says so; earlier ones refuse to declare it."""
    told = _DIFFERS.search(
        "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': "
        "received none but current is the value '-1' of type 'signedint'"
    )
    assert told is not None
    arguments: dict[str, Any] = {}
    assert _adopt(told, arguments, {})
    assert arguments == {"x-delivery-limit": -1}


def test_what_waits_in_hand_for_too_long_is_not_dropped(
    memory: MemoryStore, hasty_rabbitmq: RabbitMq, effects: Effects
) -> None:
    """The broker's time runs for all in hand, and its queue counts each end of it."""

    def handle(item: Item, db: Any) -> None:
        time.sleep(0.05)  # sleep: what is in hand takes longer together than the broker waits
        effects.write(item, db)

    queue = Queue(hasty_rabbitmq, "slow", **SINGLE, **{"x-delivery-limit": 2})
    queue.put(*names(80))
    face = Face("sync")
    source = queue.source(more="&exclusive=no")
    settings = {"effects": effects.url, "prefetch": 40}
    face.start(consumer(face, source, memory, handle, **settings))
    until(lambda: not queue_depth(queue) and "i79" in effects.rows(), "all is done")
    face.stop()
    assert effects.rows() == names(80)


# -- what cannot work -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rabbitmq://h/", "which queue"),
        ("rabbitmq://h/?queue=q&heartbeat_s=0", "whole number of seconds"),
        ("rabbitmq://h/?queue=q&id=x", "use message_id"),
        ("rabbitmq://h/?queue=q&exclusive=1", "use yes or no"),
        ("rabbitmq://h/?queue=q&colour=red", "does not know the option 'colour'"),
    ],
)
def test_a_url_is_judged_before_anything_is_sent(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RabbitQueueOf(url)


def test_what_will_not_pass_ends_the_work_and_says_what_to_change(
    memory: MemoryStore, queue: Queue, effects: Effects
) -> None:
    def said(source: str) -> str:
        return refusal(source, memory, effects)

    assert "no such queue; declare it" in said(queue.source().replace("=orders", "=nosuch"))
    assert "refuses this user" in said(queue.source().replace("guest:guest", "guest:wrong"))
    # aio-pika gives each message an id of its own, so it is a header that is missing here.
    queue.put("unnamed")
    says = "has no header 'key', so it could not be known again"
    assert says in said(queue.source(more="&id=header:key"))
    assert effects.rows() == []


@pytest.mark.parametrize("more", ["&id=header:key", "&id=none"])
def test_another_name_for_a_message(
    memory: MemoryStore, queue: Queue, effects: Effects, more: str
) -> None:
    face = Face("sync")
    queue.put("a", "b", message_id=None, headers={"key": "same"})
    face.start(consumer(face, queue.source(more=more), memory, effects.write, effects=effects.url))
    count = 1 if "header" in more else 2
    handled(effects, count)
    until(lambda: not queue_depth(queue), "it is empty")
    face.stop()
    assert len(effects.rows()) == count


def queue_depth(queue: Queue) -> int:
    async def ask() -> int:
        async with await aio_pika.connect(queue.server.url(), timeout=LIMIT_S) as connection:
            channel = await connection.channel()
            found = await channel.declare_queue(queue.name, passive=True)
            return found.declaration_result.message_count or 0

    return asyncio.run(ask())


def test_a_queue_that_is_deleted_is_said_and_waited_for(
    face: Face, memory: MemoryStore, queue: Queue, effects: Effects, caplog: Any
) -> None:
    queue.put("i0")
    face.start(consumer(face, queue.source(), memory, effects.write, effects=effects.url))
    handled(effects, 1)
    queue.delete()
    until(lambda: "'orders' was deleted; it is consumed when" in caplog.text, "it is said")
    again = Queue(queue.server, "orders")
    again.put("i0", "i1")
    handled(effects, 2)
    face.stop()
    assert effects.rows() == ["i0", "i1"]


def test_a_failure_of_any_length_and_letters_is_buried(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """All headers of a message share one frame of 128 KiB."""
    seen: list[str] = []

    def handle(item: Item) -> None:
        seen.append(item.id)
        if item.id == "i0":
            raise ValueError("\udcff" + "x" * 200_000)

    queue.put(*names(2))
    face.start(consumer(face, queue.source(), memory, handle, retries=0))
    until(lambda: "i1" in seen, "the rest goes on")
    face.stop()
    assert seen == ["i0", "i1"]
    ((identity, reason),) = queue.left("orders.dead")
    assert identity == "i0"
    assert reason.startswith("ValueError: \\udcffxxx")


class Latin(str):
    """A word that is written as another client may write it."""

    __slots__ = ()

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return b"caf\xe9"


def test_one_with_headers_that_the_client_only_reads_is_buried(
    memory: MemoryStore, queue: Queue
) -> None:
    face, seen = Face("sync"), list[str]()

    def handle(item: Item) -> None:
        seen.append(item.id)
        if item.id == "i0":
            raise ValueError("poison")

    queue.put("i0", headers={"place": Latin(), "deep": [{"place": Latin()}], "count": 7})
    queue.put("i1")
    face.start(consumer(face, queue.source(), memory, handle, retries=0))
    until(lambda: "i1" in seen, "the rest goes on")
    face.stop()
    assert seen == ["i0", "i1"]
    assert queue.left("orders.dead") == [("i0", "ValueError: poison")]


def test_what_arrived_on_a_connection_that_ended_is_not_returned(
    queue: Queue,
) -> None:
    """All of it comes again: returned in between, it would be acknowledged on a dead channel."""
    queue.put(*names(10))

    async def main() -> list[str]:
        source = RabbitQueueOf(queue.source())
        await source.open()
        async with asyncio.timeout(LIMIT_S):
            await source.queue.next(1)
            connection = source.queue._connection
            assert connection is not None
            await connection.close()
            with pytest.raises(SourceUnavailable):
                await source.queue.next(1)
            await source.queue.close()
            await source.open()
            found: list[Item] = []
            while len(found) < 10:
                found += await source.queue.next(100)
        await source.queue.close()
        return [item.id for item in found]

    assert asyncio.run(main()) == names(10)


# -- TLS ------------------------------------------------------------------------------------------


def _by_tls(queue: Queue, more: str, *, port: int = 0, host: str = "127.0.0.1") -> str:
    address = f"{host}:{port or queue.server.tls_port}"
    return queue.source(address, more).replace("rabbitmq:", "rabbitmqs:", 1)


def test_by_tls_the_broker_is_known_by_its_authority(
    face: Face, memory: MemoryStore, effects: Effects, queue: Queue
) -> None:
    queue.put(*names(5))
    source = _by_tls(queue, f"&ca={queue.server.certificate.authority}")
    face.start(consumer(face, source, memory, effects.write, effects=effects.url))
    handled(effects, 5)
    face.stop()
    assert effects.rows() == names(5)


def test_a_broker_that_cannot_be_trusted_ends_the_work_and_says_why(
    memory: MemoryStore, effects: Effects, queue: Queue, tmp_path: Path
) -> None:
    """By another authority, by none, under another name; and where there is no TLS at all."""
    other = certify_server(tmp_path).authority
    ours = f"&ca={queue.server.certificate.authority}"
    for source, why in (
        (_by_tls(queue, f"&ca={other}"), "certificate is not trusted"),
        (_by_tls(queue, ""), "certificate is not trusted"),
        (_by_tls(queue, ours, host=MISNAMED), "trusted: IP address mismatch"),
        (_by_tls(queue, ours, port=queue.server.port), "does not speak TLS on this port"),
    ):
        one = Face("sync")
        one.start(consumer(one, source, memory, effects.write, effects=effects.url))
        one.join()
        assert isinstance(one.failure, ConfigError), source
        assert why in str(one.failure)
        assert "guest:" not in str(one.failure)
    assert effects.rows() == []


def test_what_is_no_authority_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for url, why in (
        ("rabbitmq://h/?queue=q&ca=/ca.crt", "ca= is for TLS: write rabbitmqs://"),
        (f"rabbitmqs://h/?queue=q&ca={tmp_path}/none", "No such file"),
        (f"amqps://h/?queue=q&ca={empty}", "there is none in it"),
    ):
        with pytest.raises(ConfigError, match=why):
            open_source(url)


def test_errors_that_go_in_circles_are_followed_once() -> None:
    """As those of the client do when a broker is not up yet."""
    first, second = OSError("reset"), ConnectionError("refused")
    first.__context__, second.__context__ = second, first
    assert _untrusted(first) == ""
