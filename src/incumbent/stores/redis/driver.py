"""One Redis server as a `KeyValue`: what is one atomic step there is a script (`scripts`).

What confirms a write: the script on the primary, which compares the world and the versions and
writes, as one step of a server that does one thing at a time. What several servers of a replicated
Redis say together is never asked, for it would confirm nothing: a replica is promoted without the
writes that had not reached it, `WAIT` returns after the write and undoes nothing, and an old
primary that was cut off goes on to answer.

Who judges expiry: observers. The server's own expiry follows its wall clock.

Rules
-----
1. **No write in another world before everything that is followed was reported as it is there.** So
   a holder whose record is gone is deposed before it could renew.
2. **Each renewal asks about what we wrote before**: if any of it was changed or deleted, even by a
   hand that published nothing, it is read and reported before the renewal counts. Renewals have a
   connection of their own, so one may be sent while a write has no answer yet, and cannot ask about
   it: then that write is looked at again before it counts. Else a record that was deleted before
   the renewal would have a holder who is trusted for longer than whoever waits out the absence.
3. **No world begins on a server that has got replicas**, unless they are accepted. The first one
   that joins ends the world that there is: with it the server begins another history.
4. **A write that was not answered is never repeated.** The one that asks for a script by its name
   and hears that there is none has certainly not run.
5. **What was read is as old as its own request.** Answers on several connections, and messages,
   overtake one another: a key is as it was at the counter that came with it, and that has to be as
   high as what was known when the request was sent, not when it was answered.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from incumbent.errors import OutcomeUnknown, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Finding
from incumbent.stores.kv.api import ABSENT, Conditions, Conflict, Entry, Sink, Writes
from incumbent.stores.redis import doctor
from incumbent.stores.redis.checkpoints import RedisCheckpoints
from incumbent.stores.redis.client import Address, Client
from incumbent.stores.redis.follower import Follower
from incumbent.stores.redis.scripts import CHANGE, READ
from incumbent.stores.redis.view import View

__all__ = ["RedisKeyValue", "Version", "refuse", "replicated"]

_ATTEMPTS = 5
_OPENING_PAUSES_S = (0.1, 0.4)
"""A connection may break once. Whether a world was begun need not be known to begin one."""
_MANY = 1000
LEAST_VERSION = (6, 0)

_log = logging.getLogger("incumbent.stores.redis")


class Version(NamedTuple):
    """Identifies a write: the world, and the number in it."""

    world: str
    number: str


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was read; for an absence, `numbers` has the counter of the very request that found it.

    A long list is read by several requests, between which others may write.
    """

    world: str
    counter: int
    entries: dict[str, Entry | None]
    numbers: dict[str, int]

    def revision(self, key: str) -> int:
        """Return the number of the write that left the key as it is."""
        entry = self.entries[key]
        return self.numbers[key] if entry is None else entry.revision


def refuse(facts: Mapping[str, str], name: str) -> None:
    """Refuse a server whose answers may be old, or that cannot do what the scripts need.

    Raises:
        StoreUnavailable: it is a replica.
        StoreUnusable: it is a Sentinel, or too old.
    """
    if "sentinel" in (facts.get("redis_mode"), facts.get("server_mode")):
        raise StoreUnusable(f"{name} is a Sentinel, which keeps no data: name the primary")
    if facts.get("role") != "master":
        raise StoreUnavailable(f"{name} is a replica, or none that we know: name the primary")
    version = tuple(map(int, facts.get("redis_version", "0").split(".")[:2]))
    if version < LEAST_VERSION:
        raise StoreUnusable(f"{name} is Redis {facts.get('redis_version')}; 6.0 is needed")


def replicated(name: str, why: str) -> StoreUnusable:
    """Return what is said of a server that another one may follow."""
    return StoreUnusable(
        f"{name} {why}. A replica that is promoted while the old primary still answers makes two "
        "leaders. Use a server without replicas; or add ?replicas=accept, which is for "
        "efficiency only, and fence"
    )


class RedisKeyValue:
    """A driver of one server.

    Args:
        address: of the server.
        key: the hash in which everything stands.
        replicas: whether a server with replicas, or a node of a cluster, is accepted.
    """

    def __init__(self, address: Address, key: str, *, replicas: bool) -> None:
        self._address = address
        self._key = key
        self._channel = f"{key}/{address.database}:"
        self._replicas = replicas
        self._create = True
        self._world = ""
        self._high = 0
        self._joined = 0
        self._warned = False
        self._questions = 0
        self._view = View()
        self._client = Client(address, self._check)
        self._follower = self._new_follower()
        self.checkpoints = RedisCheckpoints(lambda: self._client, key)

    def _new_follower(self) -> Follower:
        return Follower(self._client, self._channel, self._view, self._look, self._told)

    async def open(self, *, create: bool) -> None:
        """Connect, and begin a world if there is none."""
        self._create = create
        self._joined, self._warned = 0, False
        self._client = Client(self._address, self._check)
        self._follower = self._new_follower()
        for pause_s in (*_OPENING_PAUSES_S, None):
            try:
                if create:
                    await self._change({}, {}, ())
                await self._observe(())
                return
            except (StoreUnavailable, OutcomeUnknown):
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Give back both connections."""
        await self._follower.close()
        await self._client.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._client.connect()

    def _check(self, facts: Mapping[str, str]) -> None:
        """Refuse a server that cannot keep the promise."""
        refuse(facts, self._address.name)
        if not self._replicas and (why := doctor.replicated(facts)):
            raise self._replicated(why)

    def _replicated(self, why: str) -> StoreUnusable:
        return replicated(self._address.name, why)

    # -- reading ----------------------------------------------------------------------------------

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Return the key as it is."""
        reading = await self._observe((key,), urgent=urgent)
        return reading.entries[key], reading.revision(key)

    async def entries(self, folder: str) -> list[Entry]:
        """Return all keys of a folder."""
        while True:
            answer = await self._client.run(READ, self._key, writes=False)
            if (await self._observe(())).world == answer[0].decode():
                break
        names, values = answer[3::2], answer[4::2]
        world = answer[0].decode()
        found = {name.decode(): value for name, value in zip(names, values, strict=True)}
        inside = {key: value for key, value in found.items() if key.startswith(f"{folder}/")}
        counter = int(answer[1])
        return [_entry(world, counter, key, value) for key, value in inside.items()]

    async def _fetch(self, keys: Sequence[str], *, urgent: bool) -> _Reading:
        """Read keys; the world is the one of the last of them."""
        world, counter = "", 0
        values: dict[str, bytes | None] = {}
        numbers: dict[str, int] = {}
        parts = [keys[start : start + _MANY] for start in range(0, len(keys), _MANY)]
        for part in parts or [["format"]]:
            answer = await self._client.run(READ, self._key, *part, writes=False, urgent=urgent)
            if world != answer[0].decode():
                values.clear()
            world, counter = answer[0].decode(), int(answer[1])
            self._count_replicas(int(answer[2]))
            values |= dict(zip(part, answer[3:], strict=False))
            numbers |= dict.fromkeys(part, counter)
        found = {
            key: None if (value := values.get(key)) is None else _entry(world, counter, key, value)
            for key in keys
        }
        return _Reading(world, counter, found, numbers)

    async def _observe(self, keys: Sequence[str], *, urgent: bool = False) -> _Reading:
        """Read keys. In another world, first report everything that is followed as it is there."""
        known = self._high
        reading = await self._fetch(keys, urgent=urgent)
        for _ in range(_ATTEMPTS):
            if reading.world == self._world:
                if reading.counter >= known or not self._create:
                    self._high = max(self._high, reading.counter)
                    return reading
                # It has lost its memory: ends this world.
                await self._send_change({}, {}, (), urgent=urgent)
            known = self._high
            whole = await self._fetch(list({*keys, *self._view.keys()}), urgent=urgent)
            if whole.world == reading.world != self._world:
                self._world, self._high = whole.world, whole.counter
                self._view.start_over(whole.entries, whole.counter)
            reading = whole
        raise self._forgetful()

    def _forgetful(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._address.name} loses its memory again and again")

    # -- writing ----------------------------------------------------------------------------------

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Write if all conditions are met."""
        version = await self._change(conditions, writes, (), urgent=urgent)
        number = int(version.number)
        return {key: Entry(key, value, version, number) for key, value in writes.items()}

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete a key at a version."""
        await self._change({key: version}, {}, (key,))

    async def _change(
        self,
        conditions: Conditions,
        writes: Writes,
        removals: Collection[str],
        *,
        urgent: bool = False,
    ) -> Version:
        """Compare and write; return the version of what was written."""
        for _ in range(_ATTEMPTS):
            world = self._world
            numbers: dict[str, str] = {}
            for key, wanted in conditions.items():
                if wanted is ABSENT:
                    numbers[key] = ""
                elif isinstance(wanted, Version) and wanted.world == world:
                    numbers[key] = wanted.number
                else:
                    raise Conflict(f"{key!r}: the server has lost its memory since {wanted!r}")
            word, version, moved = await self._send_change(numbers, writes, removals, urgent=urgent)
            if word == "world":
                await self._observe((), urgent=urgent)
                continue
            if word == "done":
                for key in writes:
                    self._view.wrote(key, int(version.number))
            if moved:
                await self._look_at_moved(moved, done=word == "done", urgent=urgent)
            if word == "conflict":
                raise Conflict(f"not all of {sorted(conditions)} are as expected")
            return version
        raise self._forgetful()

    async def _send_change(
        self,
        numbers: Mapping[str, str],
        writes: Writes,
        removals: Collection[str],
        *,
        urgent: bool,
    ) -> tuple[str, Version, list[str]]:
        ours: dict[str, int] = {}
        if any(key.startswith("sessions/") for key in writes) and len(writes) == 1:
            ours = {key: number for key, number in self._view.ours().items() if key not in writes}
            self._questions += 1
        questions, expected = self._questions, self._world
        if not expected and self._joined and not self._replicas:
            raise self._replicated(_joined(self._joined))
        word, world, counter, replicas, *moved = await self._client.run(
            CHANGE,
            self._key,
            expected,
            secrets.token_hex(8) if self._create else "",
            self._high,
            self._channel,
            *_pairs({key: str(number) for key, number in ours.items()}),
            *_pairs(numbers),
            *_pairs(writes),
            *_pairs(dict.fromkeys(removals, "")),
            writes=True,
            urgent=urgent,
        )
        self._count_replicas(int(replicas))
        version = Version(world.decode(), counter.decode())
        if word != b"world":
            if self._world != expected:
                raise OutcomeUnknown(f"{self._address.name}: answered in a world that is over")
            # Another one was begun by this very write: there is nothing older in it but bars, and
            # whoever would write over one that was not reported is refused.
            self._world, self._high = version.world, max(self._high, int(counter))
        again = writes if word == b"done" and self._questions != questions else ()
        return word.decode(), version, [*again, *(key.decode() for key in moved)]

    async def _look_at_moved(self, keys: Collection[str], *, done: bool, urgent: bool) -> None:
        try:
            await self._look(keys, False, urgent=urgent)
        except StoreError as error:
            if done:
                raise OutcomeUnknown(
                    f"written, but what else was changed is unknown: {error}"
                ) from error
            raise

    # -- following --------------------------------------------------------------------------------

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        self._view.add(key, sink)
        self._follower.change(key)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more."""
        self._view.remove(key, sink)
        if key not in self._view:
            self._follower.change(key)

    async def _look(self, keys: Collection[str], anew: bool, *, urgent: bool = False) -> bool:
        """Read and report; see `follower.Look`."""
        async with asyncio.timeout(_LOOK_LIMIT_S):
            reading = await self._observe(list(keys), urgent=urgent)
        news = [
            self._view.read(key, entry, reading.revision(key), anew=anew)
            for key, entry in reading.entries.items()
        ]
        return any(news)

    def _told(self, key: str, message: bytes) -> bool:
        """Take in a message; see `follower.Told`."""
        world, number, *value = message.split(b" ", 2)
        if world.decode() != self._world:
            return False
        serial = int(number)
        self._high = max(self._high, serial)
        version = Version(self._world, number.decode())
        self._view.told(key, Entry(key, value[0], version, serial) if value else None, serial)
        return True

    # -- for people -------------------------------------------------------------------------------

    def _count_replicas(self, count: int) -> None:
        self._joined = count
        if count and not self._replicas and not self._warned:
            self._warned = True
            _log.warning("%s; no term begins there any more", self._replicated(_joined(count)))

    async def examine(self) -> list[Finding]:
        """Look at the server and our rights."""
        return await doctor.examine(self._client, self._channel)


_LOOK_LIMIT_S = 2.0


def _joined(count: int) -> str:
    return f"has got {count} replica{'s' * (count > 1)}"


def _pairs(words: Mapping[str, str] | Mapping[str, bytes]) -> list[str | bytes | int]:
    found: list[str | bytes | int] = [len(words)]
    for key, value in words.items():
        found += (key, value)
    return found


def _entry(world: str, counter: int, key: str, raw: bytes) -> Entry:
    number, space, value = raw.partition(b" ")
    if not (space and number.isdigit()):
        return Entry(key, raw, Version(world, "?"), counter)
    return Entry(key, value, Version(world, number.decode()), int(number))
