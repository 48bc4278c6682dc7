"""The source `kafka://HOST:PORT/?topic=NAME`: all partitions of a topic, or one of them.

    kafka://HOST:PORT,HOST:PORT/?topic=orders[&partition=0][&id=header:NAME][&gone=skip]
    kafkas://USER:PASSWORD@HOST:PORT/?topic=orders[&sasl=SCRAM-SHA-512][&ca=FILE]

One consumer, and no group
--------------------------
The holder assigns the partitions to itself. There is no group, no rebalance and no session of it:
who is elected reads at once. A former holder that goes on reading does no harm, since reading takes
nothing away: where the work is, is written with its effects, under the token, and nowhere else.
Nothing has to be regained, either: what was in hand lies behind that position.

The order
---------
Kafka has an order within each partition, and none between them. They are handled one after the
other by one holder; how they alternate may be different after a takeover.

The position
------------
It is the next record of *each* partition, as JSON, so that one position says all (rule 5). Numbers
are not contiguous, since the ends of transactions and what was aborted take some. So no gap can be
seen by them, and they are only ever compared.

Nothing is passed over in silence. Each of these ends the work, with what is to be changed:

- records from the position on were deleted before they were handled (retention). The marks of
  transactions are numbered as records are, and no item stands for them: if retention takes the last
  ones, too, nobody can tell any more that nothing else was there;
- the log has lost its end, and perhaps grown again: numbers that were done stand for other records.
  So the record that was done last is read once more at each opening. It has to be there, and to
  have the epoch of its leader and the time that it had;
- the topic is not the one that was read, but a new one of the same name.

The first position of a new work is the oldest record that is kept, in each partition; with the
first item the others' are written, too, so that from then on nothing may be missing anywhere.
Partitions that are added later are read from number 0.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from incumbent.clock import boottime
from incumbent.errors import ConfigError, SourceUnavailable
from incumbent.stores.api import StoreURL
from incumbent.workloads.kafka import Line, TooLarge, Topic
from incumbent.workloads.sources.api import Item, Opening

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

__all__ = ["KafkaTopic", "open"]

LOOK_EVERY_S = 10.0
"""How often the topic is looked at: whether it has more partitions, and whether it is the same."""
_SHORT = 100
"""How many characters of a reason are written if the whole one makes a dead letter too large."""
_TRIES = 5
_AGAIN_S = 0.3
_OPTIONS = ("topic", "partition", "id", "gone", "sasl", "ca")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_HEADER = re.compile(r"header:(?P<name>.{1,200})")
_ANEW = "To begin anew, at the oldest record that is kept, give the work another name"

_log = logging.getLogger("incumbent")


class Place(NamedTuple):
    """Where the work is in a partition.

    Attributes:
        offset: of the record that is next.
        epoch, at_ms: of the leader and the time of the record before it, which was done last; -1 if
            none was.
    """

    offset: int
    epoch: int = -1
    at_ms: int = -1


class KafkaTopic:
    """A topic. See the head of this module."""

    positions = True
    remembers = False

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        topic: str,
        *,
        partition: int | None = None,
        id_header: str = "",
        skips: bool = False,
    ) -> None:
        self.name = name
        self._settings = settings
        self._topic = topic
        self._partition = partition
        self._id_header = id_header
        self._skips = skips
        self._line: Line | None = None
        self._is: Topic | None = None
        self._known = '""'
        self._next: dict[int, Place] = {}
        self._unproven: set[int] = set()
        self._refused: KafkaError | None = None
        self._look_at_s = 0.0

    async def open(self, opening: Opening) -> None:
        """Find the topic, and read on where the work is."""
        self._refused, self._unproven = None, set()
        self._line = Line(self.name, {**self._settings, "client.id": f"incumbent/{opening.work}"})
        self._is = await self._found()
        self._known = json.dumps(self._is.identity)
        known, places = self._read(opening.position)
        if known and known != self._is.identity:
            raise ConfigError(
                f"{self.name}: the topic was deleted and made anew (it has the id "
                f"{self._is.identity}, and {known} was read), so numbers that were done stand for "
                f"other records. {_ANEW}"
            )
        mine = range(self._is.partitions) if self._partition is None else (self._partition,)
        if self._partition is not None and self._partition >= self._is.partitions:
            raise ConfigError(
                f"{self.name}: the topic has {self._is.partitions} partitions, 0 to "
                f"{self._is.partitions - 1}"
            )
        for number in mine:
            places[number] = await self._placed(number, places.get(number), new=not known)
        self._next = places
        await self._line.assign(
            self._topic,
            {number: places[number].offset - (number in self._unproven) for number in mine},
        )
        self._look_at_s = boottime() + LOOK_EVERY_S

    async def _found(self) -> Topic:
        """Return the topic. A broker that has just begun may not have heard of it yet."""
        for _ in range(_TRIES):
            if (found := await self._connected().topic(self._topic)) is not None:
                return found
            await asyncio.sleep(_AGAIN_S)
        raise ConfigError(f"{self.name}: there is no such topic; make it, or correct topic=")

    async def _placed(self, number: int, place: Place | None, *, new: bool) -> Place:
        """Return where to begin in a partition, if nothing is missing there."""
        oldest, end = await self._connected().bounds(self._topic, number)
        wanted = place or Place(oldest if new else 0)
        for _ in range(_TRIES):
            if wanted.offset <= end:
                break
            # A leader that was elected just now may not know yet where the end is.
            await asyncio.sleep(_AGAIN_S)
            oldest, end = await self._connected().bounds(self._topic, number)
        if wanted.offset > end:
            raise ConfigError(
                f"{self.name}: partition {number} ends at {end}, and {wanted.offset} is next: the "
                f"log has lost what was done. {_ANEW}"
            )
        if wanted.offset >= oldest:
            if wanted.at_ms >= 0 and wanted.offset > oldest:
                self._unproven.add(number)
            return wanted
        lost = (
            f"{self.name}: partition {number}: the records from {wanted.offset} to {oldest - 1} "
            "were deleted before they were handled (where producers use transactions, these may "
            "have been no more than marks of them)"
        )
        if not self._skips:
            raise ConfigError(
                f"{lost}. Raise retention.ms and retention.bytes of the topic. To go on without "
                "them, add &gone=skip"
            )
        _log.error("%s; gone=skip goes on without them", lost)
        return Place(oldest)

    async def regain(self, limit: int) -> Sequence[Item]:
        """Return nothing: what a predecessor had in hand is read again from the position on."""
        return []

    async def next(self, limit: int) -> Sequence[Item]:
        """Wait a little for records."""
        if self._refused is not None:
            raise self._ended(self._refused)
        if boottime() >= self._look_at_s:
            await self._look()
        items = []
        for message in await self._connected().read(limit):
            if (error := message.error()) is None:
                if not (message.partition() in self._unproven and self._proves(message)):
                    items.append(self._item(message))
            elif _is_of_the_group(error):
                continue
            else:
                # What comes behind it is not taken: it would overtake.
                self._refused = error
                break
        if self._refused is not None and not items:
            raise self._ended(self._refused)
        return items

    async def _look(self) -> None:
        self._look_at_s = boottime() + LOOK_EVERY_S
        if await self._connected().topic(self._topic) != self._is:
            raise SourceUnavailable("the topic was changed; it is opened anew")

    def _proves(self, message: Message) -> bool:
        """Tell whether this is the record that was done last, and not one in its place."""
        partition, place = message.partition() or 0, self._next[message.partition() or 0]
        self._unproven.discard(partition)
        offset, last = message.offset() or 0, place.offset - 1
        if offset == last:
            if (_epoch(message), message.timestamp()[1]) == (place.epoch, place.at_ms):
                return True
            raise ConfigError(
                f"{self.name}: record {last} of partition {partition} is not the one that was "
                f"done: the log was cut off and has grown again. {_ANEW}"
            )
        if not self._skips:
            raise ConfigError(
                f"{self.name}: record {last} of partition {partition}, which was done last, is not "
                "there any more: the log was cut off, or the topic is compacted. To go on, add "
                "&gone=skip"
            )
        return False

    def _item(self, message: Message) -> Item:
        partition, offset = message.partition() or 0, message.offset() or 0
        headers = {name: _text(value) for name, value in _headers(message) if value is not None}
        if (key := message.key()) is not None:
            headers["kafka.key"] = _text(key)
        value = message.value()
        if value is None:
            headers["kafka.tombstone"] = "true"
        identity = f"{self._topic}/{partition}/{offset}"
        if self._id_header:
            identity = headers.get(self._id_header, "")
            if not identity:
                raise ConfigError(
                    f"{self.name}: record {offset} of partition {partition} has no header "
                    f"{self._id_header!r}: have producers set it, or leave id= out"
                )
        self._next[partition] = Place(offset + 1, _epoch(message), message.timestamp()[1])
        return Item(identity, value or b"", headers=headers, position=self._written(), tag=message)

    def _ended(self, error: KafkaError) -> Exception:
        """Return what an error in the place of a record means."""
        from confluent_kafka import KafkaError

        if error.code() != KafkaError._AUTO_OFFSET_RESET:
            return self._connected().refused(error)
        text = " ".join(error.str().split())
        if self._skips:
            return SourceUnavailable(text)
        return ConfigError(
            f"{self.name}: what is next is not there: records were deleted before they were "
            f"handled, or the log was cut off ({text}). Raise retention.ms and retention.bytes of "
            "the topic. To go on, add &gone=skip"
        )

    async def done(self, items: Sequence[Item]) -> None:
        """Do nothing: the position is committed, and no broker has to hear of it."""

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Write a copy to the topic `place`, which is made if it is missing, and wait for it."""
        message: Message = item.tag
        place = place or f"{self._topic}.dead"
        if not _NAME.fullmatch(place):
            raise ConfigError(f"dead_letter={place!r} cannot be the name of a topic")
        headers = [*_headers(message), ("x-incumbent-id", item.id.encode())]
        await self._connected().make(place)
        # The record itself may have been nearly as large as one can be.
        for size in (len(reason), _SHORT):
            why = reason[:size].encode(errors="replace")
            told = [*headers, ("x-incumbent-reason", why)]
            try:
                await self._connected().send(place, message.value(), message.key(), told)
            except TooLarge:
                if size <= _SHORT:
                    raise
            else:
                return

    async def close(self) -> None:
        """Close the client."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    # -- the position, as text --------------------------------------------------------------------

    def _written(self) -> str:
        """Return the position as JSON, which is written by hand because it is for each record."""
        places = ",".join(
            [
                f'"{at}":[{offset},{epoch},{at_ms}]'
                for at, (offset, epoch, at_ms) in self._next.items()
            ]
        )
        return f'{{"topic":{self._known},"next":{{{places}}}}}'

    def _read(self, position: str) -> tuple[str, dict[int, Place]]:
        if not position:
            return "", {}
        try:
            told = json.loads(position)
            places = {
                int(number): Place(int(offset), int(epoch), int(at_ms))
                for number, (offset, epoch, at_ms) in told["next"].items()
            }
            return str(told["topic"]), places
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ConfigError(
                f"{self.name}: the position of this work, {position[:80]!r}, is not one of a Kafka "
                "topic: another source was consumed under this name. Give the work another one"
            ) from None

    def _connected(self) -> Line:
        if self._line is None:
            raise SourceUnavailable("there is no connection")
        return self._line


def open(url: StoreURL) -> KafkaTopic:
    """Return the source of `kafka://HOST:PORT/?topic=NAME`.

    Raises:
        ConfigError: an option is missing, or cannot be.
        MissingExtra: confluent-kafka is not installed.
    """
    import confluent_kafka  # noqa: F401  to be told now

    options = url.take_options(*_OPTIONS)
    topic, partition = options.get("topic", ""), options.get("partition")
    servers = url.servers(9092)
    if not servers:
        raise ConfigError(f"{url.scheme}://: which broker? Write {url.scheme}://HOST:PORT/?topic=…")
    if not topic:
        raise ConfigError(f"{url.scheme}://: which topic? Add ?topic=NAME")
    if not _NAME.fullmatch(topic):
        raise ConfigError(f"topic={topic!r}: use up to 249 of letters, digits, '.', '_' and '-'")
    if partition is not None and not re.fullmatch(r"\d{1,9}", partition):
        raise ConfigError(f"partition={partition!r}: use a number from 0 on")
    named = _HEADER.fullmatch(options.get("id", ""))
    if "id" in options and not named:
        raise ConfigError(f"id={options['id']!r}: use header:NAME, or leave it out")
    if options.get("gone", "error") not in ("error", "skip"):
        raise ConfigError(f"gone={options['gone']!r}: use error or skip")
    addresses = ",".join(
        f"[{host}]:{at}" if ":" in host else f"{host}:{at}" for host, at in servers
    )
    return KafkaTopic(
        f"{url.scheme}://{addresses}/?topic={topic}",
        {"bootstrap.servers": addresses, **_security(url, options)},
        topic,
        partition=None if partition is None else int(partition),
        id_header=named["name"] if named else "",
        skips=options.get("gone") == "skip",
    )


def _security(url: StoreURL, options: Mapping[str, str]) -> dict[str, str]:
    """Return the client's settings for TLS and a user."""
    tls, user = url.scheme == "kafkas", url.username is not None
    if "sasl" in options and not user:
        raise ConfigError("sasl= is how a user is let in: write USER:PASSWORD@ before the host")
    if "ca" in options and not tls:
        raise ConfigError("ca= is for TLS: write kafkas://")
    kind = ("SASL_" if user else "") + ("SSL" if tls else "PLAINTEXT")
    settings = {"security.protocol": kind}
    if user:
        mechanism = options.get("sasl", "PLAIN")
        if mechanism not in _MECHANISMS:
            raise ConfigError(f"sasl={mechanism!r}: use {', '.join(_MECHANISMS)}")
        settings |= {"sasl.mechanism": mechanism, "sasl.username": url.username or ""}
        settings["sasl.password"] = url.password or ""
    if "ca" in options:
        settings["ssl.ca.location"] = options["ca"]
    return settings


def _is_of_the_group(error: KafkaError) -> bool:
    """Tell whether it is about the group, which has a name and is not used."""
    from confluent_kafka import KafkaError

    return bool(error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED)


def _headers(message: Message) -> list[tuple[str, str | bytes | None]]:
    told = message.headers() or []
    return list(told.items() if isinstance(told, dict) else told)


def _epoch(message: Message) -> int:
    epoch = message.leader_epoch()
    return -1 if epoch is None else epoch


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
