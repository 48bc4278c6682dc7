"""What the candidates of one process share in one store.

The connection, the turns, the watchdogs, and the sessions: one is kept per TTL, however many
elections are held under it. A session is ended here only if nothing of this process works under it,
and one that is to end, or was found to be over, is trusted no more from then on.

Everything here runs on the keeper's event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

from incumbent.clock import Clock, boottime
from incumbent.core.records import Claim, Held
from incumbent.core.timing import Timing
from incumbent.errors import StoreError
from incumbent.runtime.alarms import Alarms, LoopAlarms
from incumbent.runtime.lease import LeaseKeeper
from incumbent.runtime.turns import Turns
from incumbent.runtime.watchdog import Watchdog
from incumbent.stores.api import Store

__all__ = ["Hub"]


class Hub:
    """What the candidates of one process share in one store."""

    def __init__(
        self,
        store: Store,
        owner: str,
        watchdog: Watchdog | None,
        clock: Clock = boottime,
        alarms: Alarms | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.store = store
        self.owner = owner
        self.watchdog = watchdog
        self.clock = clock
        self.alarms = alarms or LoopAlarms(asyncio.get_running_loop(), clock)
        self.turns = turns or Turns()
        self._watchdogs = [watchdog] if watchdog is not None else []
        self._sessions: dict[Timing, LeaseKeeper] = {}
        self._opened: WeakValueDictionary[str, LeaseKeeper] = WeakValueDictionary()
        self._works: Counter[LeaseKeeper] = Counter()
        self._opening = asyncio.Lock()
        self._giving_back: set[asyncio.Task[None]] = set()

    async def session(self, timing: Timing) -> LeaseKeeper:
        """Return a session under which a term can begin, opening one if there is none.

        Raises:
            StoreError: it could not be opened.
        """
        async with self._opening:
            keeper = self._sessions.get(timing)
            if keeper is not None and keeper.usable():
                return keeper
            if keeper is not None:
                await self._close(timing, keeper)
            sent_at = self.clock()
            lease = await self.store.open_session(self.owner, timing.ttl_s)
            keeper = self.keep(lease, timing, sent_at)
            self._sessions[timing] = self._opened[lease.key] = keeper
            return keeper

    def keep(self, lease: Any, timing: Timing, sent_at: float) -> LeaseKeeper:
        """Return what renews `lease`, whose first confirmed write was sent at `sent_at`."""
        return LeaseKeeper(
            self.store, lease, timing, sent_at, self.clock, self.alarms, self._confirmed
        )

    def drop_session(self, timing: Timing, cause: str) -> None:
        """Stop using a session that the store does not know any more."""
        keeper = self._sessions.pop(timing, None)
        if keeper is not None:
            keeper.revoke(cause)

    def give_up(self, lease_key: str) -> None:
        """Trust a session of ours no more, if it is one: a take is about to void it.

        Nothing works under it (`working`); but another take under it may be in flight, and what
        that has taken is vacant to everybody as soon as the session is void.
        """
        keeper = self._opened.get(lease_key)
        if keeper is not None:
            keeper.revoke("a leftover of ours under the same session is taken over")

    def work_begins(self, keeper: LeaseKeeper) -> None:
        """Take note of work under a lease; `work_ended` when it has ended, however it came to."""
        self._works[keeper] += 1

    def work_ended(self, keeper: LeaseKeeper) -> None:
        """Take note that work under a lease has ended, confirmed."""
        self._works[keeper] -= 1
        if not self._works[keeper]:
            del self._works[keeper]

    def working(self, lease_key: str) -> LeaseKeeper | None:
        """Return the lease of that key if work of this process runs under it or is being stopped.

        Such a lease must not be ended: it is what keeps others away from that work.
        """
        return next((keeper for keeper in self._works if keeper.lease.key == lease_key), None)

    def give_back(self, name: str, claim: Claim, keeper: LeaseKeeper) -> None:
        """Give up what `claim` has got, or may have, as soon as the store answers.

        Nothing works under it: its work has ended, or never began. Whatever is written names that
        term, and so does nothing once somebody has another one, also if it arrives late. It is
        tried for as long as the session is trusted: then that ends, and everything under it.
        """
        task = asyncio.get_running_loop().create_task(self._give_back(name, claim, keeper))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _give_back(self, name: str, claim: Claim, keeper: LeaseKeeper) -> None:
        timing = keeper.timing
        pause_s = timing.retry_every_s
        while True:
            await self._until(self.clock() + pause_s)
            if self.clock() >= keeper.trust.valid_until:
                return
            pause_s = min(2 * pause_s, timing.ttl_s)
            with suppress(StoreError, TimeoutError):
                async with self.turns.mine(), asyncio.timeout(timing.attempt_s):
                    found = await self.store.read_back(name, claim)
                    if isinstance(found, Held):
                        await self.store.release(found, keeper.lease, "")
                return

    async def _until(self, instant: float) -> None:
        due = asyncio.Event()
        alarm = self.alarms.call_at(instant, due.set)
        try:
            await due.wait()
        finally:
            alarm.cancel()

    async def close(self) -> None:
        """End the sessions under which nothing is held, and what was to be given back with them."""
        for task in list(self._giving_back):
            task.cancel()
        await asyncio.gather(*self._giving_back, return_exceptions=True)
        for timing, keeper in list(self._sessions.items()):
            await self._close(timing, keeper)

    async def _close(self, timing: Timing, keeper: LeaseKeeper) -> None:
        """Forget a session; tell the store only if nothing can be working under it."""
        self._sessions.pop(timing, None)
        if not keeper.members and keeper not in self._works:
            # A take under it may be in flight; it must not begin a term that nobody has to respect.
            keeper.revoke("the session is being closed")
            await keeper.quiesce()
            try:
                async with asyncio.timeout(timing.attempt_s):
                    await self.store.close_session(keeper.lease)
            except (StoreError, TimeoutError):
                pass  # It is renewed no more and expires for everybody.

    def watch(self, watchdog: Watchdog) -> None:
        """Tell `watchdog` of every renewal from now on."""
        if watchdog not in self._watchdogs:
            self._watchdogs.append(watchdog)

    def unwatch(self, watchdog: Watchdog) -> None:
        """Tell it no more, if it guards nothing."""
        if watchdog.idle and watchdog in self._watchdogs:
            self._watchdogs.remove(watchdog)

    def _confirmed(self) -> None:
        for watchdog in self._watchdogs:
            watchdog.update()
