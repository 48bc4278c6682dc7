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
- If others of the group have some of them, a person with a tool perhaps, those are claimed before.
An acknowledgement says nothing of who sent it, so it is sent only for what is committed.

What is committed
-----------------
Ids of entries grow, so the id is a position, which is committed with the effect. If the server lost
the group (no append-only file, FLUSHALL), it is made anew at that position. If it lost the last
acknowledgements, or somebody set the group back, entries at or before what is done are acknowledged
and not handled; the last done one of this term counts as well.

A server that lost entries may number others alike if its clock went back: the last number that it
knows when it is opened bounds what is passed over, and one that knows less than what is done is
opened anew. If it gave so low numbers before it was opened, what is old and what is new cannot be
told apart, and what was done may be millions. So they are passed over; but that the entry which was
done last is not there any more, and was not deleted by anybody, is seen, and then each is an error
in the log.

How much is read
----------------
An answer has a time, or a server that is gone would be waited for for ever. Large entries over a
slow way need more than that: whatever did not come in time is asked for again by halves, and one
alone with twice the time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from incumbent.clock import boottime
from incumbent.errors import ConfigError, SourceUnavailable
from incumbent.stores.api import StoreURL
from incumbent.workloads.redis import ANSWER_S, Line, Refused, Word
from incumbent.workloads.sources.api import Item, Opening

__all__ = ["CONSUMER", "RedisStream", "open"]

CONSUMER = "incumbent"
"""The name under which every holder reads."""

_OPTIONS = ("stream", "group", "id", "ssl_ca_certs")
_BLOCK_S = 1.0
_AGAIN_S = 0.1
_LONGEST_ANSWER_S = 300.0
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
        self._doubtful = ""
        self._told_others = self._told_again = False
        self._most = 0
        self._slow_s = 0.0

    async def open(self, opening: Opening) -> None:
        """Connect, see that there is a group, and claim what others of it have in hand."""
        self._group = self._asked_group or opening.work
        self._after, self._left = _ZERO, True
        self._doubtful, self._told_others, self._told_again = "", False, False
        await self._line.connect()
        try:
            # Two entries come with it, so it is asked for once.
            stream = await self._stream_told()
            await self._found_group(opening.position, stream)
            await self._look(stream)
            await self._claim()
        except Refused as error:
            raise ConfigError(f"{self.name}: {error}") from None

    async def _found_group(self, position: str, stream: Mapping[str, Any]) -> None:
        """Make the group if it is not there: at what is done; at the beginning if nothing is.

        A stream whose last number is below what was committed is another one, of the same name:
        what is in it may be new. Its ids tell.
        """
        last = _number(stream.get(_LAST, _ZERO))
        known = _number(position or _ZERO)
        begin = position if position and known <= last else "0"
        self._floor = min(known, last)
        if last < known:
            _log.error(
                "%s: %s was done, and the last number of the stream is %s: the server lost "
                "entries, or it is another stream of the same name. An id that was done is not "
                "done again; if producers number entries anew, give the work another name, or add "
                "&id=FIELD",
                self.name,
                position,
                _written(last),
            )
        elif not position and last == _number(_ZERO):
            _log.warning(
                "%s: nothing was ever added to a stream of this name; it is waited for. Is that "
                "its name?",
                self.name,
            )
        else:
            await self._doubt(position, stream)
        try:
            await self._ask("XGROUP", "CREATE", self._stream, self._group, begin, "MKSTREAM")
        except Refused as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._floor = _number(begin)
            if position:
                _log.warning("%s: the group %r was lost; made anew", self.name, self._group)

    async def _stream_told(self) -> dict[str, Any]:
        """Return what the server says of the stream; nothing if there is none."""
        try:
            return _fields(await self._ask("XINFO", "STREAM", self._stream))
        except Refused as error:
            if "no such key" not in str(error):
                raise
        return {}

    async def _doubt(self, position: str, stream: Mapping[str, Any]) -> None:
        """Keep the position in mind if its entry was lost: neither deleted nor trimmed away."""
        if not position:
            return
        first, deleted = stream.get("first-entry"), stream.get("max-deleted-entry-id")
        if deleted is None or not first:
            return  # Redis 6 does not tell; or there is nothing to be passed over.
        known = _number(position)
        if _number(first[0]) >= known or _number(deleted) >= known:
            return
        try:
            if not await self._ask("XRANGE", self._stream, position, position):
                self._doubtful = position
        except (Refused, ConfigError):
            _log.debug("%s: whether %s is there may not be asked", self.name, position)

    async def _look(self, stream: Mapping[str, Any]) -> None:
        """See how far the group is, and whether the stream was trimmed before it was read."""
        groups = [_fields(group) for group in await self._ask("XINFO", "GROUPS", self._stream)]
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
            cursor, _, *deleted = await self._ask("XAUTOCLAIM", *words)
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
        ((answer,), count) = await self._asked(limit, self._after)
        entries = _entries(answer)
        self._left = len(entries) == count
        return await self._items(entries)

    async def _asked(self, limit: int, begin: str, *more: tuple[str, ...]) -> tuple[list[Any], int]:
        """Read by the group, as much as comes in time; return the answers, and for how many."""
        count = min(limit, self._most or limit)
        words = ("XREADGROUP", "GROUP", self._group, CONSUMER, "COUNT", count)
        read = (*words, "STREAMS", self._stream, begin)
        asked_at_s = boottime()
        with self._timed(count):
            answers = await self._line.at_once(read, *more, wait_s=self._slow_s)
        if len(_entries(answers[0])) == count and boottime() - asked_at_s < ANSWER_S / 4:
            self._most, self._slow_s = min(2 * self._most, limit), self._slow_s / 2
        return answers, count

    async def _ask(self, *words: Word, wait_s: float = 0.0) -> Any:
        """Ask for what does not get less by halves: one entry at most, or two in XINFO."""
        with self._timed(1):
            return await self._line.ask(*words, wait_s=wait_s + self._slow_s)

    @contextmanager
    def _timed(self, count: int) -> Iterator[None]:
        """Ask for less, or wait for longer, if this is not answered in time."""
        try:
            yield
        except SourceUnavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                if count == 1:
                    self._slow_s = min(2 * self._slow_s + ANSWER_S, _LONGEST_ANSWER_S)
                else:
                    self._most = count // 2
            raise

    async def next(self, limit: int) -> Sequence[Item]:
        """Return new entries, or wait until there are some."""
        if self._left:
            return await self._pending(limit)
        (answer, summary), _ = await self._asked(
            limit, ">", ("XPENDING", self._stream, self._group)
        )
        entries = _entries(answer)
        if int(summary[0]) > len(entries):
            await self._take_over(summary[3])
            return await self._pending(limit)
        if entries:
            return await self._items(entries, new=True)
        # What is handed out to nobody is seen here, and then read by the group.
        words = ("COUNT", 1, "BLOCK", int(_BLOCK_S * 1000), "STREAMS", self._stream, self._woken)
        if seen := _entries(await self._ask("XREAD", *words, wait_s=_BLOCK_S)):
            self._woken = _text(seen[-1][0])
        return []

    async def _take_over(self, holders: Sequence[Sequence[bytes]]) -> None:
        """See that what others took since our last look is pending here, to be read in its place.

        All that was returned before is done, so what is pending is read from the beginning.
        """
        if others := [_text(name) for name, _ in holders if _text(name) != CONSUMER]:
            if not self._told_others:
                self._told_others = True
                _log.warning(
                    "%s: other consumers of the group %r take entries, %s: they are claimed. Give "
                    "whoever reads beside this work a group of their own",
                    self.name,
                    self._group,
                    ", ".join(others),
                )
            await asyncio.sleep(_AGAIN_S)
            await self._claim()
        else:
            _log.warning("%s: a former holder took entries; they are regained", self.name)
        self._after = _ZERO

    async def _items(self, entries: list[Entry], *, new: bool = False) -> list[Item]:
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
            await self._pass_over(over, new=new)
        return items

    async def _pass_over(self, numbers: list[str], *, new: bool) -> None:
        """Acknowledge what is gone or done; but see whether it is what it is taken for."""
        if low := [each for each in numbers if _number(each) <= self._floor]:
            if _number((await self._stream_told()).get(_LAST, _ZERO)) < self._floor:
                raise SourceUnavailable("the stream is another one, of the same name; opened anew")
            those = f"{low[0]} to {low[-1]}" if len(low) > 1 else low[0]
            if self._doubtful:
                _log.error(
                    "%s: %s passed over, and perhaps never done: no number of them is higher than "
                    "%s, which was done last, and which the server has lost. Add what is new again",
                    self.name,
                    those,
                    self._doubtful,
                )
            elif new and not self._told_again:
                self._told_again = True
                _log.warning(
                    "%s: the group was set back; %s (and more, perhaps) have no higher numbers "
                    "than what was done last, and are passed over",
                    self.name,
                    those,
                )
        await self._ask("XACK", self._stream, self._group, *numbers)

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
        self._floor = max(self._floor, _number(items[-1].position))
        await self._ask("XACK", self._stream, self._group, *(item.tag for item in items))

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Add a copy to the stream of the dead ones: `STREAM:dead`, or `place`."""
        fields: dict[str, str | bytes] = {**item.headers, "body": item.body}
        fields |= {"incumbent-id": item.id, "incumbent-reason": reason}
        words = [word for pair in fields.items() for word in pair]
        await self._ask("XADD", place or f"{self._stream}:dead", "*", *words)

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


def _written(number: Number) -> str:
    return f"{number[0]}-{number[1]}"


def _text(word: str | bytes) -> str:
    return word if isinstance(word, str) else word.decode("utf-8", "backslashreplace")
