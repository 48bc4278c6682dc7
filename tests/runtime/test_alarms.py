"""The keeper's alarms: on time, never early, cheap to cancel, and the parent's after a fork."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from incumbent.clock import boottime
from incumbent.runtime.alarms import Alarms, KernelAlarms, LoopAlarms, alarms_for

Make = Callable[[asyncio.AbstractEventLoop], KernelAlarms | LoopAlarms]


def run(make: Make, scene: Callable[[Alarms, asyncio.Future[None]], None]) -> None:
    """Run a scene on a loop until it has set its future."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        alarms = make(loop)
        done = loop.create_future()
        scene(alarms, done)
        try:
            await asyncio.wait_for(done, 30.0)
        finally:
            alarms.close()

    asyncio.run(main())


def _timer_clocks() -> list[str]:
    """Return the clocks of this process's `timerfd`s, by number."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # The descriptor by which the folder was read is gone.
            if os.readlink(link) == "anon_inode:[timerfd]":
                text = Path(f"/proc/self/fdinfo/{link.name}").read_text()
                found += [line.split()[1] for line in text.splitlines() if "clockid" in line]
    return found


def test_linux_has_alarms_on_the_boot_time_clock() -> None:
    loop = asyncio.new_event_loop()
    before = _timer_clocks()
    alarms = alarms_for(loop)
    assert _timer_clocks() == [*before, str(time.CLOCK_BOOTTIME)]
    alarms.close()
    assert _timer_clocks() == before
    loop.close()


@pytest.mark.parametrize("make", [KernelAlarms, LoopAlarms])
def test_alarms_come_in_order_and_never_early(make: Make) -> None:
    rung: list[int] = []
    early: list[float] = []
    start = boottime()
    instants = [start + 0.0007 * number for number in (9, 3, 40, 1, 12, 3, 25)]

    def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
        def ring(number: int) -> None:
            # asyncio counts in whole ticks of another clock: a rounding error is not early.
            if boottime() < instants[number] - 1e-6:
                early.append(instants[number])
            rung.append(number)
            if len(rung) == len(instants):
                done.set_result(None)

        for number, instant in enumerate(instants):
            alarms.call_at(instant, lambda number=number: ring(number))  # type: ignore[misc]

    run(make, scene)
    assert early == []
    if make is KernelAlarms:  # The loop's own count from where each was made, on a busy machine.
        assert [instants[number] for number in rung] == sorted(instants)


@pytest.mark.parametrize("make", [KernelAlarms, LoopAlarms])
def test_an_instant_that_has_passed_is_called_soon(make: Make) -> None:
    def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
        alarms.call_at(-1.0, lambda: done.set_result(None))

    run(make, scene)


def test_a_cancelled_alarm_is_silent_even_when_it_is_due() -> None:
    rung: list[str] = []

    def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
        now = boottime()

        def ring() -> None:
            rung.append("first")
            second.cancel()

        alarms.call_at(now, ring)
        second = alarms.call_at(now, lambda: rung.append("second"))
        alarms.call_at(now + 0.01, lambda: done.set_result(None))

    run(KernelAlarms, scene)
    assert rung == ["first"]


def test_an_alarm_that_fails_keeps_no_other_from_coming() -> None:
    def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        now = boottime()
        alarms.call_at(now, lambda: 1 / 0)
        alarms.call_at(now, lambda: done.set_result(None))

    run(KernelAlarms, scene)


def test_what_is_moved_again_and_again_takes_no_room() -> None:
    def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
        assert isinstance(alarms, KernelAlarms)
        later = boottime() + 1000.0
        kept = [alarms.call_at(later, lambda: None) for _ in range(100)]
        for number in range(20_000):
            kept[number % 100].cancel()
            kept[number % 100] = alarms.call_at(later + number, lambda: None)
        assert len(alarms._heap) < 500
        done.set_result(None)

    run(KernelAlarms, scene)


def test_news_that_waits_is_heard_before_an_alarm_that_is_late() -> None:
    """As when a process goes on that was stopped: the answer came before the deadline."""
    heard: list[str] = []
    reading, writing = os.pipe()

    def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            heard.append(os.read(reading, 10).decode())
            loop.remove_reader(reading)

        loop.add_reader(reading, read)

        def ring() -> None:
            heard.append("alarm")
            done.set_result(None)

        alarms.call_at(boottime(), ring)  # Due first, so that epoll tells of it first.
        os.write(writing, b"news")

    run(KernelAlarms, scene)
    os.close(reading)
    os.close(writing)
    assert heard == ["news", "alarm"]


def test_a_stopped_process_has_its_alarm_when_it_goes_on() -> None:
    """The kernel's timer goes off meanwhile, and is not lost."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover

        def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
            alarms.call_at(boottime() + 0.05, lambda: done.set_result(None))
            os.write(writing, b"set")
            os.kill(os.getpid(), signal.SIGSTOP)

        try:
            run(KernelAlarms, scene)
            os.write(writing, b"rung")
        finally:
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 3) == b"set"
    os.waitpid(pid, os.WUNTRACED)
    os.kill(pid, signal.SIGCONT)
    assert os.read(reading, 4) == b"rung"
    assert os.waitpid(pid, 0)[1] == 0
    os.close(reading)


def test_a_child_leaves_the_parents_alarm_alone() -> None:
    """What the child does with alarms of its own, the parent's timer does not hear."""

    def scene(alarms: Alarms, done: asyncio.Future[None]) -> None:
        alarms.call_at(boottime() + 0.1, lambda: done.set_result(None))
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            asyncio._set_running_loop(None)
            try:
                run(KernelAlarms, _ring)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0

    run(KernelAlarms, scene)


def _ring(alarms: Alarms, done: asyncio.Future[None]) -> None:
    alarms.call_at(boottime(), lambda: done.set_result(None))


def test_closed_alarms_are_silent() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        alarms = KernelAlarms(loop)
        rung: list[str] = []
        alarms.call_at(boottime(), lambda: rung.append("before"))
        alarms.close()
        alarms.call_at(boottime(), lambda: rung.append("after"))
        done = loop.create_future()
        LoopAlarms(loop).call_at(boottime() + 0.01, lambda: done.set_result(None))
        await done
        assert rung == []

    asyncio.run(main())
