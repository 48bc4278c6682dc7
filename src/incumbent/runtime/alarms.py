"""Calls at instants of the clock that trust is counted on.

asyncio's own timers are on CLOCK_MONOTONIC, rounded up to the millisecond that epoll knows, and
come half a millisecond to two late. Two reasons to have others for the deadlines of elections:

* **A suspended machine.** CLOCK_MONOTONIC stands still meanwhile. A timer of 5 s that was set
  before a night of sleep goes off up to 5 s after waking up, though the lease ran out in the
  evening. One on CLOCK_BOOTTIME goes off at once.
* **A crash.** A standby takes over when the TTL has passed, and each millisecond of lateness is one
  in which nobody works. A timer of the kernel with an absolute instant is some 0.1 ms late.

So there is one `timerfd` a keeper, watched by its event loop, and a heap of alarms behind it. What
follows from that:

* **Never early.** The instant is rounded up, and whoever is called reads the clock again.
* **News first.** Due alarms are put behind what the loop has found readable in the same round: an
  answer that lies in a socket when a stopped process goes on is heard before the deadline is.
* **Cheap to move.** An alarm is cancelled by forgetting its callback, and the kernel's timer is set
  only for an alarm that is earlier than all others; when it goes off for nothing, it is set anew.
  That is one wake-up in vain in a TTL, however many elections there are.

ctypes and not `os.timerfd_create`: that came with Python 3.13, and one way that is always tried is
better than two. Where there is no such timer, the loop's own serve (`LoopAlarms`): late, and early
by no more than a rounding error.

Warning: after a fork the child has the descriptor and must not touch it: the timer behind it is the
parent's. It belongs to a keeper, and a child makes a keeper of its own. `exec` closes it.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from incumbent.clock import Clock, boottime

__all__ = ["Alarm", "Alarms", "KernelAlarms", "LoopAlarms", "alarms_for"]

_ABSTIME = 1
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_FEW = 64
"""Cancelled alarms are cleared away when they are more than that, and more than the others."""


class Alarm(Protocol):
    """A call that is to come."""

    def cancel(self) -> object:
        """Do not call; without effect if it has been called."""
        ...


class Alarms(Protocol):
    """Calls at instants, on one event loop."""

    def call_at(self, instant: float, callback: Callable[[], object]) -> Alarm:
        """Call at `instant`, in seconds of the boot-time clock, or soon if it has passed."""
        ...


class LoopAlarms:
    """Alarms by the loop's own timers.

    Args:
        loop: where to call.
        clock: on which the instants are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock = boottime) -> None:
        self._loop = loop
        self._clock = clock

    def call_at(self, instant: float, callback: Callable[[], object]) -> Alarm:
        """Call at `instant`."""
        return self._loop.call_later(max(0.0, instant - self._clock()), callback)

    def close(self) -> None:
        """Do nothing: the loop's timers end with the loop."""


class _Entry:
    """One alarm of a heap."""

    __slots__ = ("_alarms", "callback")

    def __init__(self, alarms: KernelAlarms, callback: Callable[[], object]) -> None:
        self._alarms = alarms
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._alarms.forgotten()

    def call(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class KernelAlarms:
    """Alarms by one `timerfd` on CLOCK_BOOTTIME. To be used on the loop's thread.

    Raises:
        OSError: the kernel gives no such timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = _TimerFd()
        self._loop = loop
        self._heap: list[tuple[float, int, _Entry]] = []
        self._count = 0
        self._cancelled = 0
        self._set_to = math.inf
        loop.add_reader(self._timer.fd, self._due)

    def call_at(self, instant: float, callback: Callable[[], object]) -> Alarm:
        """Call at `instant`."""
        entry = _Entry(self, callback)
        self._count += 1
        heapq.heappush(self._heap, (instant, self._count, entry))
        if instant < self._set_to:
            self._set(instant)
        return entry

    def forgotten(self) -> None:
        """Take note that an alarm was cancelled."""
        self._cancelled += 1
        if self._cancelled > max(_FEW, len(self._heap) // 2):
            self._heap = [item for item in self._heap if item[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Call nobody any more, and give the timer back."""
        self._heap.clear()
        self._set_to = -math.inf  # No alarm is earlier: nothing is set from now on.
        self._loop.remove_reader(self._timer.fd)
        self._timer.close()

    def _due(self) -> None:
        self._timer.acknowledge()
        self._set_to = math.inf
        heap, now = self._heap, boottime()
        while heap and (heap[0][0] <= now or heap[0][2].callback is None):
            entry = heapq.heappop(heap)[2]
            if entry.callback is None:
                self._cancelled -= 1
            else:
                self._loop.call_soon(entry.call)
        if heap:
            self._set(heap[0][0])

    def _set(self, instant: float) -> None:
        self._set_to = instant
        self._timer.set(max(1, math.ceil(instant * 1e9)))


class _TimeSpec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _ITimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class _TimerFd:
    """One kernel timer that is read as a file."""

    def __init__(self) -> None:
        # The call takes a microsecond; to give up the interpreter's lock for it may cost 5 ms.
        libc: Any = ctypes.PyDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._spec = _ITimerSpec()
        self._pointer = ctypes.byref(self._spec)
        self.fd = int(libc.timerfd_create(time.CLOCK_BOOTTIME, _FLAGS))
        if self.fd < 0:
            raise _error()

    def set(self, instant_ns: int) -> None:
        value = self._spec.value
        value.sec, value.nsec = divmod(instant_ns, 1_000_000_000)
        if self._settime(self.fd, _ABSTIME, self._pointer, None):
            raise _error()

    def acknowledge(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def alarms_for(loop: asyncio.AbstractEventLoop) -> KernelAlarms | LoopAlarms:
    """Return the best alarms that this machine has."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # An old C library, or a sandbox that forbids it.
            return KernelAlarms(loop)
    return LoopAlarms(loop)
