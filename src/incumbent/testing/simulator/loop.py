"""An event loop of one simulated process, on its host's own clock.

Production code runs on it unchanged: tasks, futures, `call_later`, `asyncio.timeout` and locks.
There is no selector. Whatever comes from outside (a reply, a notification) is put into the queue of
ready callbacks, and the loop runs until it has nothing left to do at this instant.

A paused loop (SIGSTOP, or a suspended host) runs nothing. When it goes on, it first sees the
replies that have come meanwhile and then the timers that are late, as asyncio does; or the other
way round, since nothing promises that order.

Warning: `time` is CLOCK_MONOTONIC, as in production. It stands still in a suspended host, so timers
are late on CLOCK_BOOTTIME, on which trust is counted. The deadlines of elections are not among them
where the kernel has better ones, for which see `alarms`.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from incumbent.testing.simulator.world import HostClock, World

__all__ = ["SimLoop"]

_LATENCY_S = 1e-6
"""How late a timer is at least; it must be more than the rounding errors of two clocks."""

_MOST_ROUNDS = 10_000
"""More callbacks than that at one instant are an endless loop."""

OnError = Callable[[str, BaseException | None], None]


class _Handle:
    """A callback that can be cancelled, as asyncio's own but without context and debugging."""

    __slots__ = ("_when", "args", "callback", "gone")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], when: float) -> None:
        self.callback = callback
        self.args = args
        self.gone = False
        self._when = when

    def cancel(self) -> None:
        self.gone = True
        self.args = ()

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self._when


class SimLoop:
    """What tasks, futures, timeouts and locks need of a loop, and nothing else."""

    def __init__(self, world: World, clock: HostClock, on_error: OnError) -> None:
        self._world = world
        self._clock = clock
        self._on_error = on_error
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._readers: dict[int, _Handle] = {}
        self._count = 0
        self._planned = math.inf
        self._running = False
        self._dropped = False
        self._paused = False
        # asyncio asks no loop for its class, and most of the abstract one is about sockets.
        self.as_loop = cast(asyncio.AbstractEventLoop, self)

    # -- the interface of asyncio -----------------------------------------------------------------

    def time(self) -> float:
        """Return the host's CLOCK_MONOTONIC."""
        return self._clock.mono()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        """Call back in the next round."""
        handle = _Handle(callback, args, 0.0)
        if not self._dropped:
            self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,  # foreign name: the interface of asyncio
        callback: Any,
        *args: Any,
        context: Any = None,
    ) -> Any:
        """Call back after a while on the host's clock."""
        return self.call_at(self._clock.mono() + delay, callback, *args)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        """Call back at an instant of the host's clock."""
        handle = _Handle(callback, args, when)
        if not self._dropped:
            self._count += 1
            heapq.heappush(self._timers, (when, self._count, handle))
            if not self._running:
                self._plan()
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        """Call back in the next round; whoever plays the other thread calls `run` after it."""
        return self.call_soon(callback, *args)

    def add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        """Call back when there is something to read; see `readable`."""
        self._readers[fd] = _Handle(callback, args, 0.0)

    def remove_reader(self, fd: int) -> bool:
        """Call back no more."""
        return self._readers.pop(fd, None) is not None

    def create_future(self) -> asyncio.Future[Any]:
        """Return a new future."""
        return asyncio.Future(loop=self.as_loop)

    def create_task(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine."""
        return asyncio.Task(coro, loop=self.as_loop)

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def is_running(self) -> bool:
        """Tell whether a callback runs now."""
        return self._running

    def is_closed(self) -> bool:
        """Tell whether the process is gone."""
        return self._dropped

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report what nobody caught; a process that is gone has nothing to report."""
        if not self._dropped:
            self._on_error(str(context.get("message")), context.get("exception"))

    # -- the interface of the simulator -----------------------------------------------------------

    def deliver(self, callback: Callable[..., object], *args: Any) -> None:
        """Hand something in from outside; it is seen now, or when the loop goes on."""
        if self._dropped:
            return
        self._ready.append(_Handle(callback, args, 0.0))
        if not self._running:
            self.run()

    def readable(self, fd: int) -> None:
        """Have the callback for `fd` called, if there is one."""
        self.deliver(self._read, fd)

    def _read(self, fd: int) -> None:
        reader = self._readers.get(fd)
        if reader is not None:
            reader.callback(*reader.args)

    def run(self) -> None:
        """Run until there is nothing left to do at this instant."""
        if self._paused or self._dropped or self._running:
            return
        ready = self._ready
        rounds = 0
        self._running = True
        asyncio._set_running_loop(self.as_loop)
        try:
            while not self._dropped:
                self._collect(self._clock.mono())
                if not ready:
                    break
                handle = ready.popleft()
                if not handle.gone:
                    self._call(handle)
                rounds += 1
                if rounds > _MOST_ROUNDS:
                    self._on_error("goes round in circles at one instant", None)
                    self.drop()
        finally:
            asyncio._set_running_loop(None)
            self._running = False
        self._plan()

    def pause(self) -> None:
        """Run nothing until `resume`."""
        self._paused = True

    def resume(self, *, timers_first: bool) -> None:
        """Go on."""
        self._paused = False
        if timers_first:
            waiting = list(self._ready)
            self._ready.clear()
            self._collect(self._clock.mono())
            self._ready.extend(waiting)
        self.replan()
        self.run()

    def replan(self) -> None:
        """Take note that the clock's rate has changed."""
        self._planned = math.inf
        self._plan()

    def drop(self) -> None:
        """End, as a process that is killed: nothing of it runs ever again."""
        self._dropped = True
        self._ready.clear()
        self._timers.clear()

    def _call(self, handle: _Handle) -> None:
        try:
            handle.callback(*handle.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": "in a callback", "exception": error})

    def _collect(self, now: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            if not handle.gone:
                self._ready.append(handle)

    def _plan(self) -> None:
        timers = self._timers
        while timers and timers[0][2].gone:
            heapq.heappop(timers)
        if timers and timers[0][0] < self._planned and not self._paused:
            self._planned = timers[0][0]
            instant = self._clock.true_of_mono(self._planned)
            if instant != math.inf:
                self._world.at(instant + _LATENCY_S, self._wake, self._planned)

    def _wake(self, planned: float) -> None:
        if planned == self._planned:
            self._planned = math.inf
        self.run()
