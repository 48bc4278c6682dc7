"""Elections over any `Locks`: our rules beside those of the other library.

How it holds. A term holds the other library's lock, as its members do, and the record beside it
names the term. Members of theirs see the lock and nothing else, and keep out as long as it is
not free by their rule. Among our own candidates the record counts: only what stood still for a
TTL under the eyes of the one who takes is taken over, by comparing and swapping that version.

Rules
-----
1. **What they hold is never taken.** It is shown as held by somebody without a term, and a take
   over it is refused. When it is worth a look again, the driver says (`State.wait_s`).
2. **A record that names a holder counts, whoever has the lock.** The lock may have lapsed by a
   clock that was stepped, or been deleted; the holder may be alive until its trust is over. So its
   record is waited out for its TTL even when the lock looks free, also after one of theirs had it.
3. **A renewal needs both**: record and lock. A holder whose lock was deleted, or is theirs by
   now, is refused, though no other of ours holds.
4. **A conflict is looked into before it is believed**: it may be our own write.
5. A release names the term, and frees the lock only if it is that term's.
6. **A bar stands in the lock and in the record.** In the lock it keeps members of theirs out, and
   is there when the record is not believed, after a restart of a server. In the record it keeps
   ours out though somebody has removed it from the lock: it is shown then that it does so no more
   for members of theirs, and it is put back only into a lock that nobody has taken. It is replaced
   and lifted at exactly what was read of both.

Whoever follows is told what was read after the driver said that something may have changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from incumbent.core.events import Seen
from incumbent.core.records import (
    Bar,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    barred,
)
from incumbent.errors import ConfigError, Refused, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Capabilities, Finding, Sink, StoreDefaults
from incumbent.stores.beside import wire
from incumbent.stores.beside.api import Conflict, Deed, Locks, Lost, Owner, State
from incumbent.stores.beside.wire import Object
from incumbent.stores.recipes import LockName

__all__ = ["OPENED", "LockStore"]

OPENED = "but the lock itself was changed, so members of the other library may have it"
"""What is said of a bar that keeps only candidates of ours out."""
_ATTEMPTS = 5
_LOOK_S = 15.0
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_log = logging.getLogger("incumbent.stores.beside")


class LockStore(StoreDefaults):
    """A store whose elections are locks of another library.

    Args:
        driver: of the locks.
        url: without secrets.
        capabilities: what is declared.
        template: how the lock of an election is called; see `recipes.LockName`.
    """

    def __init__(
        self, driver: Locks, url: str, capabilities: Capabilities, template: str = "{name}"
    ) -> None:
        self._driver = driver
        self.url = url
        self.capabilities = capabilities
        self._locks = LockName(template)
        self._template = template
        self._seen: dict[str, State] = {}
        self._sinks: dict[str, list[Sink]] = {}
        self._told: dict[str, Snapshot] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self, *, create: bool = True) -> None:
        """Connect."""
        await self._driver.open(create=create)

    async def close(self) -> None:
        """Give back every resource; nothing is released by this."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        self._sinks.clear()
        self._seen.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._driver.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._driver.connect()

    # -- the six verbs ----------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return _snapshot(name, await self._read(name))

    def _lock(self, name: str) -> str:
        """Return how the lock is called; that it is another election's ends no candidate."""
        try:
            return self._locks.of(name)
        except ConfigError as error:
            raise StoreUnusable(str(error)) from None

    async def _read(self, name: str, *, urgent: bool = False) -> State:
        state = self._seen[name] = await self._driver.read(self._lock(name), urgent=urgent)
        return state

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        state = await self._read(name)
        return _held(name, state) if _holds(state, claim.term) else _snapshot(name, state)

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if record and lock are still exactly `over`."""
        state = self._seen.get(name)
        if state is None or not _same(_snapshot(name, state), over):
            state = await self._read(name)
        now = _snapshot(name, state)
        # What was just read is swapped only if it is the very thing that was watched.
        if not _same(now, over) or state.owner in (Owner.THEIRS, Owner.STRANGE):
            raise Refused(await self._refusal(name, now, over))
        if now.holding is Holding.FOREIGN:
            raise Refused(now)
        record = wire.taken(name, claim)
        try:
            written = await self._swap(name, state, record, Deed.TAKE)
        except Conflict:
            state = await self._read(name)
            if _holds(state, claim.term):
                return _held(name, state)
            raise Refused(_snapshot(name, state)) from None
        return _held(name, written)

    async def _refusal(self, name: str, now: Snapshot, over: Snapshot) -> Snapshot:
        """Return the record as it is: what was remembered may be old by now."""
        return now if not _same(now, over) else await self.read(name)

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the term: its record, and that the lock is still its own."""
        name, known = lease.name, self._seen.get(lease.name)
        for _ in range(_ATTEMPTS):
            state, known = known, None
            if state is None or not _holds(state, lease.key):
                state = await self._read(name, urgent=True)
            if not _holds(state, lease.key):
                raise Refused(_snapshot(name, state))
            record = wire.renewed(_record(state), state.token)
            try:
                written = await self._swap(name, state, record, Deed.KEEP, urgent=True)
            except Lost:
                raise Refused(await self.read(name)) from None
            except Conflict:
                continue
            return lease.at(written.version)
        raise self._unquiet(name)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        snapshot, _ = await self._write_while(
            held.name,
            held.term,
            lambda record, token: wire.released(record, token, successor),
            Deed.FREE,
            self._seen.get(held.name),
        )
        return snapshot

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        snapshot, written = await self._write_while(
            name, request.term, lambda record, token: wire.asked(record, token, request), Deed.TOUCH
        )
        if not written:
            raise Refused(snapshot)
        return snapshot

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Put a bar in the place of our lock, or of another bar; refuse where none can stand."""
        if not self.capabilities.bars:
            return await super().bar(over, bar)
        if over.bar is not None:
            return await self._swap_bar(over, bar)
        snapshot, written = await self._write_while(
            over.name,
            over.term,
            lambda _, token: wire.barred(over.name, bar, token),
            Deed.BAR,
        )
        if not written and snapshot.bar != bar:
            raise Refused(snapshot)
        return snapshot

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Free the lock, if exactly this bar stands in it."""
        if not self.capabilities.bars:
            return await super().unbar(over)
        return await self._swap_bar(over, None)

    async def _swap_bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        """Replace exactly this bar; what was remembered of the server beside may be old."""
        name, known = over.name, self._seen.get(over.name)
        for _ in range(_ATTEMPTS):
            state, known = known, None
            if state is None or not _same(_snapshot(name, state), over):
                state = await self._read(name)
            now = _snapshot(name, state)
            if over.bar is None or not _same(now, over):
                if bar is not None and now.bar == bar and state.owner is Owner.BARRED:
                    return now
                raise Refused(now)
            if bar is not None and state.owner not in (Owner.BARRED, Owner.FREE):
                raise Refused(now)
            left = wire.lifted(name, now.token)
            if bar is not None:
                left = wire.barred(name, bar, now.token)
            try:
                written = await self._swap(name, state, left, Deed.BAR if bar else Deed.UNBAR)
            except Conflict:
                continue
            return _snapshot(name, written)
        raise self._unquiet(name)

    async def _write_while(
        self,
        name: str,
        term: str,
        change: Callable[[Object, int | None], Object],
        deed: Deed,
        known: State | None = None,
    ) -> tuple[Snapshot, bool]:
        """Write what `change` makes of the record while it names `term`; a bar, while that holds.

        Returns:
            The record as it is then, and whether it was written.
        """
        stands = _holds if deed is Deed.BAR else _names
        for _ in range(_ATTEMPTS):
            state, known = known, None
            if state is None or not stands(state, term):
                state = await self._read(name)
            if not stands(state, term):
                return _snapshot(name, state), False
            try:
                written = await self._swap(name, state, change(_record(state), state.token), deed)
            except Conflict:
                continue
            return _snapshot(name, written), True
        raise self._unquiet(name)

    async def _swap(
        self, name: str, over: State, record: Object, deed: Deed, *, urgent: bool = False
    ) -> State:
        lock = self._lock(name)
        try:
            written = await self._driver.swap(lock, over, record, deed, urgent=urgent)
        except BaseException:
            self._seen.pop(name, None)  # Whatever is there now, it need not be what was.
            raise
        self._seen[name] = written
        return written

    def _unquiet(self, name: str) -> StoreUnavailable:
        return StoreUnavailable(f"{name!r} was changed by others {_ATTEMPTS} times in a row")

    def inherited_fds(self, lease: Lease) -> Sequence[int]:
        """Return what the whole tree that works under this term must inherit."""
        return self._driver.descriptors(lease.key)

    # -- following --------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        self._sinks.setdefault(name, []).append(sink)
        if name in self._told:
            sink(Seen(self._told[name]))
        if name not in self._tasks:
            work = self._attend(name)
            self._tasks[name] = asyncio.get_running_loop().create_task(work)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        sinks = self._sinks[name]
        sinks.remove(sink)
        if not sinks:
            del self._sinks[name]
            self._told.pop(name, None)
            self._tasks.pop(name).cancel()

    async def _attend(self, name: str) -> None:
        """Read whenever something may have changed, and tell what is new; errors cost time."""
        failures = 0
        while True:
            try:
                lock = self._lock(name)
                async with asyncio.timeout(_LOOK_S):
                    state = await self._driver.read(lock)
                self._seen[name] = state
                self._tell(name, _snapshot(name, state))
                await self._driver.changed(lock, state)
                failures = 0
                continue
            except (StoreError, TimeoutError) as error:
                _log.debug("following %s is interrupted: %s", name, error)
            except Exception:  # A follower that ends would leave a candidate waiting for ever.
                _log.exception("following %s goes on after a bug", name)
            failures += 1
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S)) - 1])

    def _tell(self, name: str, snapshot: Snapshot) -> None:
        before = self._told.get(name)
        if before is not None and before == snapshot:
            return
        self._told[name] = snapshot
        for sink in list(self._sinks.get(name, ())):
            sink(Seen(snapshot))

    # -- for people -------------------------------------------------------------------------------

    async def elections(self) -> list[Snapshot]:
        """Return every election of whose lock there is a record."""
        beginning, place, end = self._template.partition("{name}")
        found = []
        for name in await self._driver.elections(beginning, end if place else ""):
            with suppress(StoreUnusable):  # Another election of this one lock.
                found.append(_snapshot(name, await self._driver.read(self._lock(name))))
        return found

    async def examine(self) -> list[Finding]:
        """Look at the server and our rights."""
        return await self._driver.examine()


def _record(state: State) -> Object:
    if not isinstance(state.record, dict):
        raise AssertionError("writing over what cannot be understood")
    return state.record


def _names(state: State, term: str) -> bool:
    """Tell whether the record says that this term holds."""
    record = state.record
    return isinstance(record, dict) and record["term"] == term and not record["vacant"]


def _holds(state: State, term: str) -> bool:
    """Tell whether this term holds: the record says so, and the lock is its own."""
    return _names(state, term) and state.owner is Owner.OURS


def _same(one: Snapshot, other: Snapshot) -> bool:
    return one.holding is other.holding and one.watched == other.watched


def _held(name: str, state: State) -> Held:
    record = _record(state)
    lease = Lease(record["term"], state.version, float(record["ttl_s"]), record["holder"], name)
    return Held(name, record["term"], state.token, lease, _snapshot(name, state))


def _snapshot(name: str, state: State) -> Snapshot:
    record = state.record
    watched = state.mark if record is None else state.version
    if state.bar is not None:
        return _barred(name, state, state.bar)
    if isinstance(record, str) or state.owner is Owner.STRANGE:
        why = record if isinstance(record, str) else state.who
        return Snapshot(
            name, Holding.FOREIGN, ("strange", why), state.number, lease_version=watched, why=why
        )
    if state.owner is Owner.THEIRS:
        silent_s = 0.0 if record is None or record["vacant"] else float(record["ttl_s"])
        return Snapshot(
            name=name,
            holding=Holding.HELD,
            version=("theirs", state.who),
            serial=state.number,
            holder=state.who,
            ttl_s=max(state.wait_s, silent_s),
            lease_version=watched,
        )
    if record is None:
        return Snapshot(
            name=name,
            holding=Holding.ABSENT,
            version=None,
            serial=state.number,
            ttl_s=state.wait_s,
            lease_version=state.mark,
        )
    request = record["request"]
    held = not record["vacant"]
    return Snapshot(
        name=name,
        holding=Holding.HELD if held else Holding.VACANT,
        version=state.version,
        serial=state.number,
        holder=record["holder"],
        term=record["term"],
        token=state.token,
        ttl_s=float(record["ttl_s"]),
        lease_key=record["term"] if held else "",
        lease_version=state.version if held else None,
        successor=record["successor"],
        request=StepDownRequest(request["term"], request["to"]) if request else None,
    )


def _barred(name: str, state: State, stands: Object) -> Snapshot:
    bar, kept = Bar(stands["bar"], stands["nonce"]), state.owner is Owner.BARRED
    version = (state.lock, None if kept else state.version)
    seen = barred(name, bar, version, state.number, stands["token"])
    return seen if kept else replace(seen, why=f"{bar.text}; {OPENED}")
