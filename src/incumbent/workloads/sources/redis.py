"""The source `redis://…?stream=NAME`: a stream of one Redis or Valkey server, and a group on it.

    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]?stream=orders[&group=NAME][&id=FIELD]
    rediss://…                     with TLS; &ssl_ca_certs=PATH

The group is called like the election unless `group` says otherwise, and begins at the oldest entry.
An entry's field `body` is the body of the item, and the others are its headers; without such a
field the body is all fields, as JSON. The id of the item is that of the entry, or the field that
`id` names, which also recognises what a producer has sent twice. redis-py is used, as in the store.

What is in hand
---------------
Entries that were handed out and not acknowledged are pending, under the name of a consumer. All
replicas use one name, so a predecessor's pending entries are simply one's own: they are read first,
in their order, before anything new. Those that others of the group have are claimed before that.

A predecessor that is paused may wake up and take entries once more: under the same name, so nobody
else would be given them before the next takeover, and what comes after them would be done first. So
- nobody *waits* by a read of the group: that is done by a plain XREAD, which hands out nothing;
- each read of the group is one transaction with XPENDING, which says how many entries are pending.
  If there are more than were read here, somebody has taken some: then the pending ones are read,
  from where we were, which returns those and ours, in order.
An acknowledgement says nothing of who sent it, so it is sent only for what is committed.

What is committed
-----------------
Ids of entries grow, so the id is a position, which is committed with the effect. If the server lost
the group (no append-only file, FLUSHALL), it is made anew at that position. If it lost the last
acknowledgements, entries at or before the position are acknowledged and not handled. A server that
lost entries may number others alike if its clock went back: the last number that it knows when it
is opened bounds what is passed over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from incumbent.errors import ConfigError
from incumbent.stores.api import StoreURL
from incumbent.workloads.redis import Line, Refused
from incumbent.workloads.sources.api import Item, Opening

__all__ = ["CONSUMER", "RedisStream", "open"]

CONSUMER = "incumbent"
"""The name under which every holder reads."""

_OPTIONS = ("stream", "group", "id", "ssl_ca_certs")
_BLOCK_S = 1.0
_ZERO = "0-0"
_LAST = "last-generated-id"

_log = logging.getLogger("incumbent")

Number = tuple[int, int]
Entry = tuple[bytes, list[bytes] | None]


class RedisStream:
    """A stream and a group. See the head of this module."""

    positions = True
    remembers = True

    def __init__(self, line: Line, stream: str, group: str, id_field: str) -> None:
        self.name = f"{line.name}?stream={stream}"
        self._line = line
        self._stream = stream
        self._asked_group = group
        self._group = group
        self._id_field = id_field
        self._floor: Number = (0, 0)
        self._after = _ZERO
        self._woken = _ZERO
        self._left = False

    async def open(self, opening: Opening) -> None:
        """Connect, see that there is a group, and claim what others of it have in hand."""
        self._group = self._asked_group or opening.work
        self._after, self._left = _ZERO, True
        await self._line.connect()
        try:
            await self._found_group(opening.position)
            await self._look()
            await self._claim()
        except Refused as error:
            raise ConfigError(f"{self.name}: {error}") from None

    async def _found_group(self, position: str) -> None:
        """Make the group if it is not there: at what is done; at the beginning if nothing is.

        A stream whose last number is below what was committed is another one, of the same name:
        what is in it may be new. Its ids tell.
        """
        last = _number(_ZERO)
        try:
            last = _number(_fields(await self._line.ask("XINFO", "STREAM", self._stream))[_LAST])
        except Refused as error:
            if "no such key" not in str(error):
                raise
        known = _number(position or _ZERO)
        begin = position if position and known <= last else "0"
        self._floor = min(known, last)
        try:
            await self._line.ask("XGROUP", "CREATE", self._stream, self._group, begin, "MKSTREAM")
        except Refused as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._floor = _number(begin)
            if position:
                _log.warning("%s: the group %r was lost; made anew", self.name, self._group)

    async def _look(self) -> None:
        """See how far the group is, and whether the stream was trimmed before it was read."""
        stream = _fields(await self._line.ask("XINFO", "STREAM", self._stream))
        groups = [_fields(group) for group in await self._line.ask("XINFO", "GROUPS", self._stream)]
        mine = next(group for group in groups if group["name"] == self._group.encode())
        self._woken = _text(mine["last-delivered-id"])
        read, added = mine.get("entries-read"), stream.get("entries-added")
        if read is not None and added is not None:
            missing = added - stream["length"] - read
            if missing > 0:
                _log.error(
                    "%s: %d entries were deleted before they were handed to anybody: do not trim "
                    "(MAXLEN, XTRIM, XDEL) what is not done",
                    self.name,
                    missing,
                )

    async def _claim(self) -> None:
        """Take what is pending for others of the group, whoever they were."""
        cursor = b"0-0"
        while True:
            words = (self._stream, self._group, CONSUMER, 0, cursor, "COUNT", 1000, "JUSTID")
            cursor, _, *deleted = await self._line.ask("XAUTOCLAIM", *words)
            for number in deleted[0] if deleted else ():  # Redis 6 does not tell.
                self._tell_deleted(_text(number))
            if cursor == b"0-0":
                return

    async def regain(self, limit: int) -> Sequence[Item]:
        """Return what is pending."""
        while self._left:
            if items := await self._pending(limit):
                return items
        return []

    async def _pending(self, limit: int) -> list[Item]:
        """Return the pending ones after the last that was returned; see whether more are left."""
        entries = _entries(await self._line.ask(*self._reading(limit, self._after)))
        self._left = len(entries) == limit
        return await self._items(entries)

    def _reading(self, limit: int, begin: str) -> tuple[str | int, ...]:
        words = ("XREADGROUP", "GROUP", self._group, CONSUMER, "COUNT", limit)
        return (*words, "STREAMS", self._stream, begin)

    async def next(self, limit: int) -> Sequence[Item]:
        """Return new entries, or wait until there are some."""
        if self._left:
            return await self._pending(limit)
        answer, summary = await self._line.at_once(
            self._reading(limit, ">"), ("XPENDING", self._stream, self._group)
        )
        entries = _entries(answer)
        if int(summary[0]) > len(entries):
            _log.warning("%s: a former holder took entries; they are regained", self.name)
            return await self._pending(limit)
        if entries:
            return await self._items(entries)
        # What is handed out to nobody is seen here, and then read by the group.
        words = ("COUNT", 1, "BLOCK", int(_BLOCK_S * 1000), "STREAMS", self._stream, self._woken)
        if seen := _entries(await self._line.ask("XREAD", *words, wait_s=_BLOCK_S)):
            self._woken = _text(seen[-1][0])
        return []

    async def _items(self, entries: list[Entry]) -> list[Item]:
        """Return entries as items; acknowledge those that are done, and those that are deleted."""
        items, over = [], []
        for number, fields in entries:
            text = _text(number)
            self._after = text
            if not fields:
                self._tell_deleted(text)
                over.append(text)
            elif _number(text) <= self._floor:
                over.append(text)
            else:
                items.append(self._item(text, fields))
        if _number(self._after) > _number(self._woken):
            self._woken = self._after
        if over:
            await self._line.ask("XACK", self._stream, self._group, *over)
        return items

    def _tell_deleted(self, number: str) -> None:
        _log.error("%s: the entry %s was deleted before it was done", self.name, number)

    def _item(self, number: str, found: list[bytes]) -> Item:
        fields = _fields(found)
        words = {key: _text(value) for key, value in fields.items()}
        body = fields.get("body")
        headers = {key: value for key, value in words.items() if key != "body" or body is None}
        return Item(
            words.get(self._id_field, "") or number,
            json.dumps(words).encode() if body is None else body,
            headers=headers,
            position=number,
            tag=number,
        )

    async def done(self, items: Sequence[Item]) -> None:
        """Acknowledge."""
        await self._line.ask("XACK", self._stream, self._group, *(item.tag for item in items))

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Add a copy to the stream of the dead ones: `STREAM:dead`, or `place`."""
        fields: dict[str, str | bytes] = {**item.headers, "body": item.body}
        fields |= {"incumbent-id": item.id, "incumbent-reason": reason}
        words = [word for pair in fields.items() for word in pair]
        await self._line.ask("XADD", place or f"{self._stream}:dead", "*", *words)

    async def close(self) -> None:
        """Disconnect."""
        await self._line.close()


def open(url: StoreURL) -> RedisStream:
    """Return the source of `redis://…?stream=NAME`.

    Raises:
        ConfigError: an option is missing, or cannot be.
    """
    options = url.take_options(*_OPTIONS)
    if not options.get("stream"):
        raise ConfigError(f"{url.scheme}://: which stream? Add ?stream=NAME")
    line = Line(url, options.get("ssl_ca_certs"))
    return RedisStream(line, options["stream"], options.get("group", ""), options.get("id", ""))


def _entries(answer: Any) -> list[Entry]:
    return [(entry[0], entry[1]) for entry in answer[0][1]] if answer else []


def _fields(words: list[Any]) -> dict[str, Any]:
    return {_text(key): value for key, value in zip(words[::2], words[1::2], strict=True)}


def _number(text: str | bytes) -> Number:
    milliseconds, _, count = _text(text).partition("-")
    return int(milliseconds), int(count or 0)


def _text(word: str | bytes) -> str:
    return word if isinstance(word, str) else word.decode("utf-8", "backslashreplace")
