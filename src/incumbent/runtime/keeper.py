"""One private thread with an event loop per process: here leases are kept.

Users' code never runs on it, so a callable that blocks its own thread or event loop for longer
than a TTL does not lose its lease. Only something that holds the interpreter's lock that long
does, and for that there is the kernel's timer.

The thread starts with the first candidate. After `fork` the child has none of it: its first
candidate gets a new keeper, with connections and an identity of its own; the parent's are left
alone. (`os.fork` while candidates exist is legal; the child's copies of the terms are void.)

One candidate per election and process: a second one queues here until the first has closed.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from incumbent.clock import boottime
from incumbent.core.records import check_identity
from incumbent.errors import ConfigError, StoreError, StoreUnavailable
from incumbent.runtime.alarms import alarms_for
from incumbent.runtime.deadman import DeadMan
from incumbent.runtime.driver import Driver, Listener, TermFactory
from incumbent.runtime.hub import Hub
from incumbent.runtime.settings import Settings, host_name
from incumbent.runtime.watchdog import Timer, Watchdog
from incumbent.stores.api import Store
from incumbent.threads import KeepersThread

__all__ = ["Keeper", "Seat"]

T = TypeVar("T")

LINGER_S = 2.0
"""How long a store that nobody uses is kept open: the next candidate may come soon."""
OPEN_S = 30.0
"""After which a store that neither opens nor refuses cannot be opened."""
STOP_S = 1.0
SETTLED_S = 0.3
"""At the interpreter's exit, for what is about to end: some steps, and no request."""

_opened_by: WeakKeyDictionary[Store, int] = WeakKeyDictionary()
"""Which process opened a store of some server first. In a child of it the object has the parent's
connections: on one of them, either would read answers that are meant for the other. What is all on
this host is opened anew."""


class Seat(Listener, Protocol):
    """A listener that is told which driver it has."""

    def seated(self, driver: Driver) -> None:
        """Hear that the candidate is about to start."""
        ...

    def queued(self) -> None:
        """Hear that this process has a candidate for the election already; wait behind it."""
        ...

    def failed(self, error: BaseException) -> None:
        """Hear that the store could not be opened: there will be no candidate."""
        ...


class Keeper:
    """The process's keeper; get it with `current`."""

    _current: Keeper | None = None
    _creating = threading.Lock()

    def __init__(self) -> None:
        self._incarnations: dict[str, str] = {}
        self.loop = asyncio.new_event_loop()
        self.alarms = alarms_for(self.loop)
        self.attempts: dict[tuple[str, str], int] = {}
        self._hubs: dict[str, _Shared] = {}
        self._watchdog: Watchdog | None = None
        self._deadman: DeadMan | None = None
        self._thread = KeepersThread(self._serve, "incumbent-keeper")
        self._thread.start()

    @classmethod
    def current(cls) -> Keeper:
        """Return this process's keeper, starting it if there is none."""
        with cls._creating:
            if cls._current is None:
                cls._current = cls()
            return cls._current

    @classmethod
    def forget(cls) -> None:
        """In a forked child: the parent's keeper is not ours."""
        cls._current = None
        cls._creating = threading.Lock()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the keeper's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def enter(
        self,
        settings: Settings,
        seat: Seat,
        term_factory: TermFactory,
        timer: Timer | None = None,
    ) -> None:
        """Make `seat` a candidate, or queue it behind the one that this process has.

        `timer` is the one that ends its work if it is armed; None for the process's own.
        """
        entry = _Entry(settings, seat, term_factory, timer)
        self.loop.call_soon_threadsafe(self._enter, entry)

    @asynccontextmanager
    async def lent(self, settings: Settings) -> AsyncIterator[Hub]:
        """On the loop: have the store that the candidates with these settings use, opened.

        Raises:
            StoreError: it cannot be opened.
            ConfigError: it belongs to the process that this one was forked from.
        """
        shared = self._shared(settings)
        shared.come()
        try:
            yield await shared.hub()
        finally:
            shared.go()

    def incarnation(self, key: str) -> str:
        """Return what makes this process's candidates in one store unlike all others.

        It is per URL, as are the numbers of the attempts: one store may be known under two URLs,
        and then the candidates under either must not take the other's record for their own.
        """
        return self._incarnations.setdefault(key, os.urandom(5).hex())

    @property
    def here(self) -> bool:
        """Tell whether this keeper belongs to this process: it does not, in a forked child."""
        return Keeper._current is self

    def withdraw(self, seat: Seat) -> None:
        """On the loop: take out a seat that has no driver yet."""
        for shared in list(self._hubs.values()):
            shared.withdraw(seat)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        # Left to the garbage collector, it may be closed after the sockets that it closes.
        self.loop.close()

    # -- on the loop ------------------------------------------------------------------------------

    def _enter(self, entry: _Entry) -> None:
        self._shared(entry.settings).enter(entry)

    def _shared(self, settings: Settings) -> _Shared:
        key = settings.store_key
        shared = self._hubs.get(key)
        if shared is None:
            shared = self._hubs[key] = _Shared(self, settings.store, key)
        return shared

    def watchdog(self) -> Watchdog:
        """Return the process's watchdog; its kernel timer is made when it is first needed."""
        if self._watchdog is None:
            self._deadman = DeadMan()
            self._watchdog = Watchdog(self._deadman)
        return self._watchdog

    async def _stop(self) -> None:
        for shared in list(self._hubs.values()):
            with suppress(Exception):
                await shared.shut()
            await shared.settled()
        if self._deadman is not None and self._watchdog is not None and self._watchdog.idle:
            self._deadman.close()
        self.alarms.close()
        self.loop.call_soon(self.loop.stop)

    def stop(self) -> None:
        """End the keeper at the interpreter's exit.

        Work that goes on, in a daemon thread say, keeps its lease for as long as it is trusted, and
        its kernel timer: neither is it released, nor does it look dead to others.
        """
        if Keeper._current is self and self._thread.is_alive():
            Keeper._current = None
            asyncio.run_coroutine_threadsafe(self._stop(), self.loop)
            self._thread.join(STOP_S)
            if not self._thread.is_alive():
                self.loop.close()


class _Entry:
    """A candidate that waits for its place."""

    def __init__(
        self, settings: Settings, seat: Seat, term_factory: TermFactory, timer: Timer | None
    ) -> None:
        self.settings = settings
        self.seat = seat
        self.term_factory = term_factory
        self.timer = timer


class _Shared:
    """One store of this process: its hub, and a queue per election."""

    def __init__(self, keeper: Keeper, store: Store, key: str) -> None:
        self.key = key
        self._keeper = keeper
        self._store = store
        self._incarnation = keeper.incarnation(key)
        self._queues: dict[str, deque[_Entry]] = {}
        self._users = 0
        self._opening: asyncio.Task[Hub] | None = None
        self._shutting: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, entry: _Entry) -> None:
        """Start `entry` now, or when those before it have closed."""
        self.come()
        queue = self._queues.setdefault(entry.settings.name, deque())
        queue.append(entry)
        if len(queue) == 1:
            self._spawn(self._start(entry))
        else:
            entry.seat.queued()

    def come(self) -> None:
        """Count one more user of the store; `go` when it needs it no more."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._users += 1

    def go(self) -> None:
        """Count one user less; who is the last leaves the store open for a moment."""
        self._users -= 1
        if self._users:
            return
        if self._opening is not None and not self._opening.done():
            self._shut_idle()  # Whoever comes next opens it anew.
        else:
            self._linger = self._keeper.loop.call_later(LINGER_S, self._shut_idle)

    def withdraw(self, seat: Seat) -> None:
        """Take out a seat that has no driver yet; the store may never be opened."""
        for queue in list(self._queues.values()):
            for entry in list(queue):
                if entry.seat is seat:
                    seat.closed()
                    self._leave(entry)

    async def _start(self, entry: _Entry) -> None:
        settings, name = entry.settings, entry.settings.name
        watchdog: Watchdog | None = None
        try:
            hub = await self.hub()
            base = settings.candidate or self._store.candidate_name() or host_name()
            identity = check_identity(f"{base}_{self._incarnation}")
            if settings.armed and self._waits(entry):
                watchdog = Watchdog(entry.timer) if entry.timer else self._keeper.watchdog()
        except Exception as error:
            if self._waits(entry):
                entry.seat.failed(error)
                self._leave(entry)
            return
        if not self._waits(entry):
            return
        driver = Driver(
            hub,
            name,
            identity,
            self._incarnation,
            settings.timing,
            entry.seat,
            armed=settings.armed,
            watchdog=watchdog,
            attempts=self._keeper.attempts.get((self.key, name), 0),
            on_closed=lambda: self._closed(entry, driver),
            term_factory=entry.term_factory,
        )
        entry.seat.seated(driver)
        driver.start()

    async def hub(self) -> Hub:
        """Return the hub, opening the store if nobody has."""
        while self._shutting is not None:
            await asyncio.wait([self._shutting])
        if self._opening is None:
            self._opening = self._keeper.loop.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Hub:
        there = not self._store.capabilities.one_host
        if there and _opened_by.setdefault(self._store, os.getpid()) != os.getpid():
            raise ConfigError(
                f"this Store object of {self._store.url} was opened before this process was "
                "forked: name the store by its URL, or make another Store after the fork"
            )
        try:
            async with asyncio.timeout(OPEN_S):
                await self._store.open()
        except BaseException as error:
            self._opening = None
            if self._shutting is None:
                self._shutting = self._keeper.loop.create_task(self._give_back())
            if isinstance(error, TimeoutError):
                text = f"{self._store.url} could not be opened within {OPEN_S:g} s"
                raise StoreUnavailable(text) from error
            raise
        base = self._store.candidate_name() or host_name()
        owner = f"{base}_{self._incarnation}"
        return Hub(self._store, owner, None, boottime, self._keeper.alarms)

    async def _give_back(self) -> None:
        """Close what was opened in part; only then may it be opened again."""
        try:
            with suppress(StoreError):
                await self._store.close()
        finally:
            self._shutting = None

    def _waits(self, entry: _Entry) -> bool:
        return entry in self._queues.get(entry.settings.name, ())

    def _closed(self, entry: _Entry, driver: Driver) -> None:
        self._keeper.attempts[self.key, entry.settings.name] = driver.attempts
        self._leave(entry)

    def _leave(self, entry: _Entry) -> None:
        queue = self._queues[entry.settings.name]
        was_first = queue[0] is entry
        queue.remove(entry)
        if queue and was_first:
            self._spawn(self._start(queue[0]))
        elif not queue:
            del self._queues[entry.settings.name]
        self.go()

    def _shut_idle(self) -> None:
        self._linger = None
        if self._shutting is None and self._opening is not None:
            self._shutting = self._keeper.loop.create_task(self.shut())

    async def shut(self) -> None:
        """Close the sessions under which nothing is held, and the store. It may be opened again."""
        opening, self._opening = self._opening, None
        try:
            if opening is not None:
                if opening.done():
                    await opening.result().close()
                else:  # Nobody waits for it any more.
                    opening.cancel()
                    await asyncio.wait([opening])
                await self._store.close()
        finally:
            # An opening that was cancelled gives back what it has: that is another one's task.
            if self._shutting is asyncio.current_task():
                self._shutting = None

    async def settled(self) -> None:
        """Wait for what was under way when it was shut: a task that is left makes a noise later."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                while self._tasks or self._shutting is not None:
                    shutting = [] if self._shutting is None else [self._shutting]
                    await asyncio.wait([*self._tasks, *shutting])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._keeper.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _stop() -> None:
    if Keeper._current is not None:
        Keeper._current.stop()


# As early as can be, and so called late: what somebody registers to leave a `hold()` at the exit
# needs a keeper that can still release.
atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Keeper.forget)
