"""The source `rabbitmq://…?queue=NAME`: a queue of RabbitMQ, consumed by one at a time.

    rabbitmq://USER:PASSWORD@HOST:5672/VHOST?queue=orders[&heartbeat_s=5][&id=header:NAME][&exclusive=no]
    rabbitmqs://…                   with TLS, on port 5671; &ca=PATH for an authority of one's own

The broker's certificate is always verified, and its name.

aio-pika is used, since it is kept and made for asyncio; pika has callbacks and nothing to await.

Two never consume
-----------------
The queue is consumed *exclusively*: the broker refuses a second consumer. A predecessor that lives,
paused or cut off, keeps it until the broker misses its heartbeats, three times `heartbeat_s`; a new
holder waits for that. Its default is chosen so that this is about as long as a holder that has gone
silent was trusted, and at least a second each.

A *quorum queue* accepts an exclusive consumer and does not mean it (RabbitMQ 3.10: a second one got
messages, too). So a second one is tried, on a channel of its own, and where it is accepted the
queue is refused. There the queue's own argument helps, x-single-active-consumer, set when it was
declared: `exclusive=no` relies on it, once the broker has said that the queue has it. The broker
says so only in refusing a declaration that differs, so one is made.

A *stream* is refused. It takes both and means neither, and whoever consumes it begins at what is
sent next: what came while nobody held it would be passed over. The broker does not speak of a kind
that is its default for the virtual host, so the declaration names the other one.

A queue that does not exist when a term begins is a mistake, and ends the work. One that is deleted
while it is consumed is waited for.

The order
---------
What was in hand when a connection ends comes again at the head of the queue, in its order, before
everything else. That is so only if *all* of it comes back at once: after a `nack` of one message,
or after the consumer alone was cancelled, later ones overtake. So there is never a nack, what fails
is tried again in hand, and whoever stops closes the connection. What comes again is at the head, so
there is nothing to regain by hand.

Which message it is
-------------------
RabbitMQ gives no number. An acknowledgement may be lost with the connection, and then the message
comes again; what knows it is the producer's `message_id`. `id=header:NAME` takes a header for it.
A message without one ends the work, with a text that says so; `id=none` takes them all as new ones,
and then a message may be handled twice after a crash.

Acknowledgements are for all up to a message: one for a batch. They are not confirmed, and need not
be. A delivery that is not acknowledged within the broker's `consumer_timeout` (30 minutes) closes
the channel: whatever is handled for that long should be split.

That time runs for all that is in hand, and not for the one that is handled. A quorum queue counts
its end as a delivery of each of them, and after `x-delivery-limit` of these it drops a message that
nobody has ever begun. So the next channel takes half of what was done in that time, until the term
ends: that many are done in half of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from incumbent.errors import ConfigError, IncumbentError, SourceUnavailable, causes
from incumbent.stores.api import StoreURL
from incumbent.workloads.sources.api import Item, Opening

if TYPE_CHECKING:
    from aio_pika.abc import (
        AbstractChannel,
        AbstractConnection,
        AbstractIncomingMessage,
        AbstractQueue,
    )

__all__ = ["RabbitQueue", "open"]

HELD = 2
"""How many messages the broker hands out before it has heard of the first, in times of `limit`.

A broker that is cut off hears of none of them, and gives them all again. So these have to be no
more than those whose ids are known."""
CONNECT_S = 5.0
_AGAIN_S = 0.1
_TRIES = 10
_ARGUMENTS = 50
"""How often a queue may differ from what was declared: more than there are arguments."""
_OPTIONS = ("queue", "heartbeat_s", "id", "exclusive", "ca")
_SINGLE = "x-single-active-consumer"
_KIND = "x-queue-type"
_LATE = "delivery acknowledgement on channel"
"""What the broker says when `consumer_timeout` has closed a channel."""
_DIFFERS = re.compile(
    r"inequivalent arg '(?P<name>[^']+)'.* but current is "
    r"(?:none|the value '(?P<value>[^']*)' of type '(?P<kind>[^']*)'|'?(?P<plain>[^' ]+)'?)"
)
_HEADER = re.compile(r"header:(?P<name>.{1,200})")

_log = logging.getLogger("incumbent")


class RabbitQueue:
    """A queue of RabbitMQ. See the head of this module."""

    positions = False
    remembers = True

    def __init__(
        self,
        url: StoreURL,
        queue: str,
        heartbeat_s: int | None,
        identity: str,
        exclusive: bool,
        context: ssl.SSLContext | None = None,
    ) -> None:
        scheme = "amqps" if url.scheme in ("rabbitmqs", "amqps") else "amqp"
        host = url.host or "127.0.0.1"
        port = url.port or (5671 if scheme == "amqps" else 5672)
        vhost = url.path.removeprefix("/") or "/"
        self.name = f"{url.scheme}://{host}:{port}/{quote(vhost, safe='')}?queue={queue}"
        user = quote(url.username or "guest", safe="")
        password = quote(url.password if url.password is not None else "guest", safe="")
        self._address = f"{scheme}://{user}:{password}@{host}:{port}/{quote(vhost, safe='')}"
        self._queue = queue
        self._heartbeat_s = heartbeat_s
        self._identity = identity
        self._exclusive = exclusive
        self._context = context
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._arrived: deque[AbstractIncomingMessage] = deque()
        self._bell = asyncio.Event()
        self._broken = ""
        self._dead: set[str] = set()
        self._consumed = False
        self._most = 65_535
        self._heard = 0

    # -- coming and going -------------------------------------------------------------------------

    async def open(self, opening: Opening) -> None:
        """Connect, and consume, when the predecessor is gone."""
        import aio_pika
        from yarl import URL

        # What the client logs of a connection that has ended is said by us.
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)
        logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
        heartbeat_s = self._heartbeat_s or max(1, round(opening.term.remaining() / 3))
        self._arrived.clear()
        held = self._held(HELD * opening.limit)
        self._bell, self._broken = asyncio.Event(), ""
        try:
            # Not by `aio_pika.connect`, which leaves one that failed to whoever collects garbage.
            self._connection = aio_pika.Connection(
                URL(f"{self._address}?{urlencode({'heartbeat': heartbeat_s})}"),
                ssl_context=self._context,
                client_properties={"connection_name": f"incumbent/{opening.work}"},
            )
            await self._connection.connect(timeout=CONNECT_S)
            self._connection.close_callbacks.add(self._lost)
            await self._consume(held)
            self._consumed = True
        except Exception as error:
            raise self._meant(error) from error

    def _held(self, wanted: int) -> int:
        """Return how many messages to take at a time; fewer after they took too long."""
        held = min(wanted, self._most)
        if _LATE in self._broken:
            held = self._most = max(1, min(held, self._heard) // 2)
            _log.warning(
                "%s: what was in hand took longer than the broker's consumer_timeout, and a quorum "
                "queue drops what it has delivered too often: at most %d are taken at a time now. "
                "Raise consumer_timeout, or lower prefetch",
                self.name,
                held,
            )
        self._heard = 0
        return held

    async def _consume(self, held: int) -> None:
        for _ in range(_TRIES):
            if await self._consumes(held):
                return
            await asyncio.sleep(_AGAIN_S)
        raise SourceUnavailable(
            "somebody else consumes the queue exclusively: a predecessor whose heartbeats the "
            "broker still waits for, or another program"
        )

    async def _consumes(self, held: int) -> bool:
        """Consume on a new channel; a refusal closes it."""
        import aiormq

        if self._connection is None:
            raise SourceUnavailable("there is no connection")
        channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.set_qos(prefetch_count=held)
        queue = await channel.get_queue(self._queue, ensure=True)
        try:
            await queue.consume(self._take, exclusive=self._exclusive)
        except aiormq.exceptions.ChannelAccessRefused as error:
            if "exclusive" in str(error):
                return False
            raise
        channel.close_callbacks.add(self._lost)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(self._cancelled)
        self._channel = channel
        if self._exclusive:
            await self._refuse_shared()
        else:
            await self._refuse_active()
        return True

    async def _refuse_shared(self) -> None:
        """Refuse a queue that lets a second one consume beside us."""
        import aiormq

        channel, queue = await self._another()
        try:
            await queue.consume(_leave, exclusive=True)
        except aiormq.exceptions.ChannelAccessRefused:
            return
        await channel.close()
        raise ConfigError(
            f"{self.name}: this kind of queue lets several consume it exclusively. Declare a "
            f"quorum queue with {_SINGLE}, and add &exclusive=no; a stream cannot be consumed"
        )

    async def _refuse_active(self) -> None:
        """Refuse a queue that gives its messages to several consumers at a time."""
        import aiormq

        arguments: dict[str, Any] = {_SINGLE: True, _KIND: "classic"}
        flags = {"durable": True, "auto_delete": False}
        for _ in range(_ARGUMENTS):
            channel, _queue = await self._another()
            try:
                await channel.declare_queue(
                    self._queue,
                    durable=flags["durable"],
                    auto_delete=flags["auto_delete"],
                    arguments=arguments,
                )
            except aiormq.exceptions.ChannelPreconditionFailed as error:
                told = _DIFFERS.search(_words(error))
                if told is None or told["name"] == _SINGLE or not _adopt(told, arguments, flags):
                    break
                if arguments.get(_KIND) == "stream":
                    raise ConfigError(
                        f"{self.name}: a stream gives its messages to all who consume it, and what "
                        "is sent while nobody does to none: use a quorum queue"
                    ) from None
            else:
                await channel.close()
                return
        raise ConfigError(
            f"{self.name}: the queue was not declared with {_SINGLE}, so exclusive=no would let "
            "two consume it: leave that out, or declare the queue anew"
        )

    async def _another(self) -> tuple[AbstractChannel, AbstractQueue]:
        """Return a channel that nothing depends on; what is refused on it closes it."""
        if self._connection is None:
            raise SourceUnavailable("there is no connection")
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=1)
        return channel, await channel.get_queue(self._queue, ensure=True)

    async def close(self) -> None:
        """Close the connection: what is in hand goes back at once, and in order."""
        connection, self._connection, self._channel = self._connection, None, None
        self._dead.clear()
        if connection is not None:
            try:
                async with asyncio.timeout(CONNECT_S):
                    await connection.close()
            except Exception:
                _log.debug("closing %s failed", self.name, exc_info=True)

    # -- on the client's callbacks ----------------------------------------------------------------

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._arrived.append(message)
        self._bell.set()

    def _lost(self, *told: Any) -> None:
        error = next((each for each in reversed(told) if isinstance(each, BaseException)), None)
        self._broken = self._broken or _words(error) or "the connection has ended"
        self._bell.set()

    def _cancelled(self, told: Any) -> None:
        """Be told that the broker gives no more: the queue was deleted, or has moved."""
        self._lost(SourceUnavailable("the broker has ended the consumption"))

    # -- as a source ------------------------------------------------------------------------------

    async def regain(self, limit: int) -> Sequence[Item]:
        """Return nothing: what a predecessor had in hand comes first by itself."""
        return []

    async def next(self, limit: int) -> Sequence[Item]:
        """Wait for messages."""
        if not self._arrived:
            self._bell.clear()
            if not self._broken:
                await self._bell.wait()
        if self._broken:
            # Whatever is in hand was given back with the channel, and comes again.
            raise SourceUnavailable(self._broken)
        items: list[Item] = []
        while self._arrived and len(items) < limit:
            items.append(self._item(self._arrived[0]))
            self._arrived.popleft()
        return items

    def _item(self, message: AbstractIncomingMessage) -> Item:
        headers = {name: _text(value) for name, value in message.headers.items()}
        named = _HEADER.fullmatch(self._identity)
        if self._identity == "none":
            identity = f"delivery-{uuid4()}"
        elif named:
            identity = headers.get(named["name"], "")
        else:
            identity = message.message_id or ""
        if not identity:
            wanted = f"no header {named['name']!r}" if named else "no message_id"
            raise ConfigError(
                f"{self.name}: a message has {wanted}, so it could not be known again: have "
                "producers set it, or add &id=header:NAME, or &id=none, by which a message may be "
                f"handled twice. It begins with {message.body[:40]!r}"
            )
        return Item(identity, message.body, headers=headers, tag=message)

    async def done(self, items: Sequence[Item]) -> None:
        """Acknowledge everything up to the last of these."""
        message: AbstractIncomingMessage = items[-1].tag
        try:
            await message.ack(multiple=True)
            self._heard += len(items)
        except Exception as error:
            raise self._meant(error) from error

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Publish a copy to the queue `place`, which is made if it is missing, and wait for it."""
        from aio_pika import DeliveryMode, Message

        message: AbstractIncomingMessage = item.tag
        place = place or f"{self._queue}.dead"
        copy = Message(
            message.body,
            headers={**_writable(message.headers), "x-incumbent-reason": reason},
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            correlation_id=message.correlation_id,
            message_id=item.id,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        try:
            if self._channel is None:
                raise SourceUnavailable("there is no connection")
            if place not in self._dead:
                await self._make(place)
                self._dead.add(place)
            await self._channel.default_exchange.publish(copy, routing_key=place, mandatory=True)
        except Exception as error:
            raise self._meant(error) from error

    async def _make(self, place: str) -> None:
        """Declare a queue of dead letters, if there is none of that name, whatever its kind."""
        import aiormq

        if self._connection is None:
            raise SourceUnavailable("there is no connection")
        channel = await self._connection.channel()
        try:
            await channel.get_queue(place, ensure=True)
        except aiormq.exceptions.ChannelNotFoundEntity:
            channel = await self._connection.channel()
            await channel.declare_queue(place, durable=True)
        await channel.close()

    def _meant(self, error: Exception) -> IncumbentError:
        """Return what an error of the client means: whether a new connection may mend it."""
        import aiormq

        told = aiormq.exceptions
        text = _words(error)
        if isinstance(error, IncumbentError):
            return error
        if untrusted := _untrusted(error):
            return ConfigError(f"{self.name}: {untrusted}")
        if isinstance(error, told.ChannelNotFoundEntity) and self._consumed:
            # Whoever changes what a queue is has to delete it, and declares it at once, or soon.
            return SourceUnavailable(
                f"the queue {self._queue!r} was deleted; it is consumed when it is declared anew"
            )
        if isinstance(error, told.ChannelNotFoundEntity):
            return ConfigError(f"{self.name}: there is no such queue; declare it, durable: {text}")
        if isinstance(error, (told.ProbableAuthenticationError, told.AuthenticationError)):
            return ConfigError(f"{self.name}: the broker refuses this user: {text}")
        if isinstance(error, told.ChannelAccessRefused):
            return ConfigError(f"{self.name}: a right is missing: {text}")
        if isinstance(error, told.ConnectionNotAllowed):
            return ConfigError(f"{self.name}: the broker refuses the connection: {text}")
        if isinstance(error, told.PublishError):
            return ConfigError(f"{self.name}: the dead letter could not be delivered: {text}")
        return SourceUnavailable(text)


async def _leave(message: AbstractIncomingMessage) -> None:
    """Touch nothing: it goes back when the channel is closed."""


def _adopt(told: re.Match[str], arguments: dict[str, Any], flags: dict[str, bool]) -> bool:
    """Take over what the broker says of the queue; tell whether that was understood."""
    name, value, kind = told["name"], told["value"], told["kind"]
    if name in flags:
        flags[name] = not flags[name]
    elif told["plain"]:
        arguments[name] = told["plain"]
    elif value is None:
        arguments.pop(name, None)
    elif kind == "longstr":
        arguments[name] = value
    elif kind == "bool":
        arguments[name] = value == "true"
    elif re.fullmatch(r"-?\d+", value):
        arguments[name] = int(value)
    else:
        return False
    return True


def _writable(value: Any) -> Any:
    """Return what was read as the client can write it: bytes and large numbers it only reads."""
    from pamqp.encode import encode_table_value

    if isinstance(value, dict):
        return {name: _writable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_writable(each) for each in value]
    if isinstance(value, bytes):
        return bytearray(value)
    try:
        encode_table_value(value)
    except Exception:
        return str(value)
    return value


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _words(error: BaseException | None) -> str:
    return "" if error is None else " ".join(str(error).split()) or type(error).__name__


def _untrusted(error: BaseException | None) -> str:
    """Return why there can be no TLS with this broker; "" if that is not what is wrong."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the broker's certificate is not trusted: {cause.verify_message}; name the file "
                "of the authority that has signed it by ca=, and the broker by a name in it"
            )
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return "the broker does not speak TLS on this port: name another, or use rabbitmq://"
    return ""


def _context(scheme: str, authority: str | None) -> ssl.SSLContext | None:
    """Return how the broker is verified; None without TLS.

    Raises:
        ConfigError: the file of the authority cannot be used, or is of no use.
    """
    if scheme not in ("rabbitmqs", "amqps"):
        if authority is not None:
            raise ConfigError("ca= is for TLS: write rabbitmqs://")
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # What is no certificate is an SSLError, which is one, too.
        why = error.strerror if not isinstance(error, ssl.SSLError) else "there is none in it"
        raise ConfigError(f"ca={authority!r} is no file of certificates: {why}") from None


def open(url: StoreURL) -> RabbitQueue:
    """Return the source of `rabbitmq://…?queue=NAME`.

    Raises:
        ConfigError: an option is missing, or cannot be.
        MissingExtra: aio-pika is not installed.
    """
    import aio_pika  # noqa: F401  to be told now

    options = url.take_options(*_OPTIONS)
    queue = options.get("queue", "")
    if not queue:
        raise ConfigError(f"{url.scheme}://: which queue? Add ?queue=NAME")
    heartbeat = options.get("heartbeat_s")
    if heartbeat is not None and not (heartbeat.isdigit() and 0 < int(heartbeat) <= 600):
        raise ConfigError(f"heartbeat_s={heartbeat!r}: use a whole number of seconds, 1 to 600")
    identity = options.get("id", "message_id")
    if identity not in ("message_id", "none") and not _HEADER.fullmatch(identity):
        raise ConfigError(f"id={identity!r}: use message_id, header:NAME, or none")
    exclusive = options.get("exclusive", "yes")
    if exclusive not in ("yes", "no"):
        raise ConfigError(f"exclusive={exclusive!r}: use yes or no")
    heartbeat_s = int(heartbeat) if heartbeat is not None else None
    context = _context(url.scheme, options.get("ca"))
    return RabbitQueue(url, queue, heartbeat_s, identity, exclusive == "yes", context)
