"""The lock of redis-py, `redis.lock.Lock`, and our record beside it.

    LOCK                  theirs: a string, the owner's token; PX is its time to live
    incumbent-lock:LOCK   ours: a hash with format, history, serial and record

A member of redis-py takes the key by SET NX PX, and extends or deletes it by a script that compares
its value. We do the same, with `incumbent:` and our term's nonce as the value: no token of redis-py
begins like that.

What confirms a renewal: a script on the primary that finds the record at its version and our nonce
in the key, and sets the key's expiry anew. One server does one thing at a time.

Who judges expiry: among our own, observers. A member of theirs knows nothing but the key, and that
lapses by the *server's wall clock*. We write a PX of the TTL: counted by a clock whose rate is off
by at most rho it lasts longer than W (`core.timing`), in which the term is trusted.

Rules
-----
1. A take sets the key only if it is not there, or has the nonce of the very term that the record
   names and that was waited out. So the server's clock shortens no wait of ours.
2. **What the server knew before it was started anew is not believed**, as in the native store
   (`scripts`): it may be an old copy. A record of another history counts as absent, which is waited
   out; renewals of it are refused.
3. **The number of a write goes on from the server's clock in microseconds** where it was lost, or
   where another history has begun. That of a take is the token. It stands apart from the key, which
   is deleted with each release.
4. **No term begins on a server that has got replicas**, unless they are accepted. The first one
   that joins ends all terms: with it another history begins.
5. Whatever can fail comes first: the hash is written before the key, and a script whose first write
   is refused has changed nothing.
6. **A bar is the value of the key**, `incumbent-barred:` with the number of the write and the
   record, and has no time to live. To redis-py it is a lock without a timeout, whose owner it is
   not: none of its calls removes that. So it is there for as long as the server keeps its data,
   while of the record beside it rule 2 says that it is not believed after a restart. To believe one
   that came back from an old dump costs a command that lifts it again.

How a standby wakes: our own writes publish; of theirs the server tells if it is configured so
(`notify-keyspace-events Kg$x`). Without it, and of an expiry, which it tells late, their lock is
looked at each second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from incumbent.errors import StoreError
from incumbent.stores.api import Finding
from incumbent.stores.beside import Conflict, Deed, Owner, State, wire
from incumbent.stores.redis import doctor
from incumbent.stores.redis.client import CLOSE_S, Address, Client, Line, Refusal
from incumbent.stores.redis.driver import refuse, replicated

__all__ = ["CHANGE", "READ", "RedisLocks"]

LOOK_S = 5.0
"""How often what nobody told is looked for, as in the native store."""
THEIRS_LOOK_S = 1.0
BESIDE = "incumbent-lock:"
OUR_VALUE = b"incumbent:"
OUR_BAR = b"incumbent-barred:"
_CONNECT_S = 5.0
_PAUSES_S = (0.1, 0.5, 1.0, 5.0)
_SHOWN = 16

_log = logging.getLogger("incumbent.stores.redis")

_PRELUDE = """
local lock, side = KEYS[1], KEYS[2]
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('INCUMBENT replica')
end
local history = string.match(info, 'master_replid:(%w+)')
if not history then
  return redis.error_reply('INCUMBENT nameless')
end
local meta = redis.call('HMGET', side, 'format', 'history', 'serial', 'record')
if meta[1] ~= '1' and (meta[1] or redis.call('HLEN', side) > 0) then
  return redis.error_reply('INCUMBENT format ' .. (meta[1] or ''))
end
local replicas = string.match(info, 'connected_slaves:(%d+)') or '0'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end
local known = tonumber(meta[3] or '')
local mark = history .. ' ' .. (known and text(known) or '')
local record = meta[2] == history and known and meta[4] or false
if meta[2] ~= history then mark = mark .. ' before' end
local serial = record and known or math.max(known or 0, now)
local kind = redis.call('TYPE', lock).ok
local value = kind == 'string' and redis.call('GET', lock) or false
"""

READ = (
    _PRELUDE
    + """
return {mark, text(serial), kind, value, record}
"""
)
"""Answer: the mark of what is known, its number, the type of the key, its value, and the record, if
it is believed."""

CHANGE = (
    _PRELUDE
    + """
local expected, deed, own, over, px = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if mark ~= expected then return {0} end
if deed == 'take' and replicas ~= '0' and ARGV[9] == '' then return {2, replicas} end
if deed == 'take' and kind ~= 'none' and value ~= over then return {0} end
if deed == 'keep' and value ~= own then return {0} end
if (deed == 'bar' or deed == 'unbar') and (kind == 'none' and '' or value) ~= over then
  return {0}
end
redis.call('HSET', side, 'format', '1', 'history', history, 'serial', ARGV[6], 'record', ARGV[7])
if deed == 'take' then redis.call('SET', lock, own, 'PX', px) end
if deed == 'keep' then redis.call('PEXPIRE', lock, px) end
if deed == 'free' and value == own then redis.call('DEL', lock) end
if deed == 'bar' then redis.call('SET', lock, own) end
if deed == 'unbar' and value == own then redis.call('DEL', lock) end
redis.call('PUBLISH', ARGV[8], ARGV[6])
kind = redis.call('TYPE', lock).ok
return {1, kind, kind == 'string' and redis.call('GET', lock) or false}
"""
)
"""Arguments: the mark that is expected; the deed; our value, or that of a bar; the value that the
key may have: of the term that is taken over or barred, or what was read where a bar is replaced, or
""; the time to live in milliseconds; the number and the record to write; the channel; whether
replicas are accepted, or "".

Answer: 0 if something is not as expected; 2 and the number of replicas, if a take may not be made
there; or 1, and the type and the value of the key."""


class RedisLocks:
    """A driver of the locks of one server.

    Args:
        address: of the server.
        replicas: whether a server with replicas is accepted.
    """

    def __init__(self, address: Address, *, replicas: bool) -> None:
        self._address = address
        self._replicas = replicas
        self._client = Client(address, self._check)
        self._ear = _Ear(self._client, address.database)

    def _check(self, facts: Mapping[str, str]) -> None:
        refuse(facts, self._address.name)
        if not self._replicas and (why := doctor.replicated(facts)):
            raise replicated(self._address.name, why)

    async def open(self, *, create: bool) -> None:
        """Connect; there is nothing to create."""
        self._client = Client(self._address, self._check)
        self._ear = _Ear(self._client, self._address.database)
        await self._client.connect()

    async def close(self) -> None:
        """Give back the connections."""
        await self._ear.close()
        await self._client.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._client.connect()

    # -- one lock ---------------------------------------------------------------------------------

    async def read(self, lock: str, *, urgent: bool = False) -> State:
        """Return key and record as they are."""
        mark, number, kind, value, record = await self._client.run(
            READ, lock, beside=BESIDE + lock, writes=False, urgent=urgent
        )
        return _state(mark, int(number), kind, value, record)

    async def swap(
        self, lock: str, over: State, record: wire.Object, deed: Deed, *, urgent: bool = False
    ) -> State:
        """Write the record and do the deed."""
        # A bar may have outlived the counter.
        number = max(over.number, over.token or 0) + 1
        if deed is Deed.TAKE:
            record = {**record, "token": number}
        value = wire.encode(record)
        answer = await self._client.run(
            CHANGE,
            lock,
            str(over.mark),
            deed.value,
            _to_write(over, record, deed, number),
            _expected(over),
            round(record.get("ttl_s", 0) * 1000),
            str(number),
            value,
            _channel(self._address.database, lock),
            "accepted" if self._replicas else "",
            beside=BESIDE + lock,
            writes=True,
            urgent=urgent,
        )
        if answer[0] == 2:
            raise replicated(self._address.name, f"has got {answer[1].decode()} replicas")
        if answer[0] != 1:
            raise Conflict(f"{lock!r} is not as expected")
        history = str(over.mark).split()[0]
        _, kind, found = answer
        return _state(f"{history} {number}".encode(), number, kind, found, value)

    async def changed(self, lock: str, state: State) -> None:
        """Return when something was published about the lock, or it is to be looked at."""
        limit_s = THEIRS_LOOK_S if state.owner is Owner.THEIRS else LOOK_S
        await self._ear.hear(lock, limit_s)

    def descriptors(self, term: str) -> Sequence[int]:
        """Return none."""
        return ()

    # -- for people -------------------------------------------------------------------------------

    async def elections(self, beginning: str, end: str) -> list[str]:
        """Return the elections of whose locks there are records."""
        found: list[str] = []
        pattern = f"{BESIDE}{_literally(beginning)}*{_literally(end)}"
        cursor = b"0"
        while True:
            cursor, keys = await self._client.ask(
                "SCAN", cursor, "MATCH", pattern, "COUNT", 1000, "TYPE", "hash"
            )
            for key in keys:
                state = await self.read(key.decode().removeprefix(BESIDE))
                record = state.record if state.bar is None else state.bar
                if isinstance(record, dict):
                    found.append(record["election"])
            if cursor == b"0":
                return sorted(set(found))

    async def examine(self) -> list[Finding]:
        """Look at the server, and at whether it tells of their locks."""
        findings = await doctor.examine(self._client, f"{BESIDE}{self._address.database}:")
        return [*findings, await self._tells()]

    async def _tells(self) -> Finding:
        check = "news of their locks"
        try:
            _, flags = await self._client.ask("CONFIG", "GET", "notify-keyspace-events")
        except (StoreError, ValueError) as error:
            return Finding(check, None, f"cannot be told: {error}")
        told = flags.decode()
        if "K" in told and ("A" in told or set("gx$") <= set(told)):
            return Finding(check, True, f"the server tells: notify-keyspace-events {told}")
        text = f"the server does not tell: each is looked at every {THEIRS_LOOK_S:g} s"
        return Finding(check, None, text, "CONFIG SET notify-keyspace-events Kg$x")


class _Ear:
    """Hears what is published about locks, on a connection of its own; nothing rests on it."""

    def __init__(self, client: Client, database: int) -> None:
        self._client = client
        self._database = database
        self._heard: dict[str, asyncio.Event] = {}
        self._line: Line | None = None
        self._task: asyncio.Task[None] | None = None
        self._complaint = ""

    async def hear(self, lock: str, limit_s: float) -> None:
        """Return when there is news of the lock since this was called last, or after the limit."""
        event = self._heard.get(lock)
        if event is None:
            # What happens before the subscription stands is missed, so the first look is a poll.
            event = self._heard[lock] = asyncio.Event()
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._run())
            elif self._line is not None:
                await self._subscribe(self._line, [lock])
        try:
            async with asyncio.timeout(limit_s):
                await event.wait()
        except TimeoutError:
            return
        event.clear()

    async def close(self) -> None:
        """Hear no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _subscribe(self, line: Line, locks: list[str]) -> None:
        channels = [
            channel
            for lock in locks
            for channel in (_channel(self._database, lock), _keyspace(self._database, lock))
        ]
        if channels:
            await line.send("SUBSCRIBE", *channels)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._attend()
            except Refusal as refusal:
                text = str(self._client.meaning(refusal))
                if text != self._complaint:
                    _log.warning("changes are noticed late: %s", text)
                self._complaint = text
            except (StoreError, TimeoutError) as error:
                _log.debug("following is interrupted: %s", error)
            except Exception:
                _log.exception("following goes on after a bug")
            failures += 1
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S)) - 1])

    async def _attend(self) -> None:
        line = self._client.line()
        try:
            async with asyncio.timeout(_CONNECT_S):
                await line.connect()
            self._line = line  # Who is new from here on subscribes by itself.
            await self._subscribe(line, list(self._heard))
            while True:
                answer = await line.receive(LOOK_S)
                if isinstance(answer, list):
                    self._told(answer[1].decode())
        finally:
            self._line = None
            await line.close(wait_s=CLOSE_S)

    def _told(self, channel: str) -> None:
        """Wake whoever waits, also at the beginning of a subscription: before it, all is missed."""
        for start in (_channel(self._database, ""), _keyspace(self._database, "")):
            if channel.startswith(start) and channel[len(start) :] in self._heard:
                self._heard[channel[len(start) :]].set()


def _channel(database: int, lock: str) -> str:
    return f"{BESIDE}{database}:{lock}"


def _keyspace(database: int, lock: str) -> str:
    return f"__keyspace@{database}__:{lock}"


def _literally(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in text)


def _state(
    mark: bytes, number: int, kind: bytes, value: bytes | None, record: bytes | None
) -> State:
    parsed = None if record is None else wire.parse(record)
    token = parsed["token"] if isinstance(parsed, dict) else None
    bar = None if record is None else wire.parse_bar(record)
    owner, who, wait_s = Owner.FREE, "", 0.0
    if kind not in (b"string", b"none"):
        owner, who = Owner.STRANGE, f"the key is a {kind.decode()}, and no lock of redis-py"
    elif value is not None and value.startswith(OUR_BAR):
        bar, owner = wire.parse_bar(value.partition(b" ")[2]), Owner.BARRED
        if bar is None:
            owner, who = Owner.STRANGE, "a bar that this version of incumbent does not know"
    elif value is not None:
        owner = Owner.THEIRS
        who = _shown(value)
        wait_s = THEIRS_LOOK_S
        if isinstance(parsed, dict) and value == OUR_VALUE + parsed["term"].encode():
            owner, who, wait_s = Owner.OURS, "", 0.0
    history = mark.decode().split()[0]
    return State(
        owner=owner,
        number=number,
        who=who,
        record=parsed,
        version=None if parsed is None else (history, number),
        mark=mark.decode(),
        token=token if bar is None else bar["token"],
        wait_s=wait_s,
        lock=value,
        bar=bar,
    )


def _to_write(over: State, record: wire.Object, deed: Deed, number: int) -> bytes:
    """Return the value that a swap writes, keeps or removes."""
    if deed is Deed.BAR:
        return OUR_BAR + b"%d %b" % (number, wire.encode(record))
    if deed is Deed.UNBAR:
        return bytes(over.lock) if over.owner is Owner.BARRED else b""
    return OUR_VALUE + str(record["term"]).encode()


def _expected(over: State) -> bytes:
    """Return the value in whose place another one may be put."""
    if over.bar is not None:
        return over.lock or b""
    term = over.record["term"] if isinstance(over.record, dict) else ""
    return OUR_VALUE + term.encode() if term else b""


def _shown(value: bytes) -> str:
    """Return who holds, for people: the token itself would let others release the lock."""
    text = value.decode("utf-8", "replace")
    if value.startswith(OUR_VALUE):
        return f"{text.removeprefix(OUR_VALUE.decode())} of incumbent, whose record is gone"
    return f"redis-py {text[:_SHOWN]}…" if len(text) > _SHOWN else f"redis-py {text}"
