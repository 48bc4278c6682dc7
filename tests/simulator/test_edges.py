"""What chance does not bring about: single situations, on the simulator's own loop and clocks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from incumbent.core.timing import Timing
from incumbent.runtime.driver import CONNECT_S
from incumbent.runtime.hub import Hub
from incumbent.runtime.lease import LeaseKeeper
from incumbent.stores.local.locks import LockFolder
from incumbent.stores.memory import MemoryStore
from incumbent.testing.simulator import STORES
from incumbent.testing.simulator.alarms import SimAlarms
from incumbent.testing.simulator.history import History
from incumbent.testing.simulator.judge import Violated
from incumbent.testing.simulator.kubernetes import TwinApi
from incumbent.testing.simulator.loop import SimLoop
from incumbent.testing.simulator.machine import LATEST_DROP_S
from incumbent.testing.simulator.network import Fate, Link, Trap
from incumbent.testing.simulator.process import Host, KernelTimer, Process
from incumbent.testing.simulator.queue import QueueBench
from incumbent.testing.simulator.sqlite import SqliteBench
from incumbent.testing.simulator.world import HostClock, World

TIMING = Timing.plan(10.0)


class Bench:
    """One loop on one clock."""

    def __init__(self, rate: float = 1.0) -> None:
        self.world = World(1)
        self.clock = HostClock(self.world, rate, 1000.0)
        self.errors: list[object] = []
        self.loop = SimLoop(self.world, self.clock, lambda text, error: self.errors.append(error))

    def run(self, until: float) -> None:
        self.world.at(until, lambda: None)
        while self.world.now < until and self.world.step():
            pass


# -- production code ------------------------------------------------------------------------------


def test_an_unanswered_take_is_read_back() -> None:
    history = History(3, kind=STORES["memory"], transcript=True)
    history.elections = ["a"]
    history.network.fair.lose_answer = 0.0

    def lose(_: Link, fate: Fate) -> None:
        fate.request_lost, fate.answer_lost, fate.reset = False, True, False

    history.network.traps.append(Trap("take", lose))
    history.spawn(history.new_host())
    verbs: list[str] = []
    while "read back" not in verbs and history.world.now < 5 * history.ttl_s:
        history.world.step()
        verbs = [line.split()[3] for line in history.world.transcript if " sends " in line]
        verbs = ["read back" if verb == "read" else verb for verb in verbs]
    assert "take" in verbs
    assert verbs[verbs.index("take") :] == ["take", "read back"]


def test_a_standby_connects_just_before_a_takeover_and_at_no_other_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = History(0, kind=STORES["kubernetes"])
    history.elections = ["a"]
    world, ttl_s = history.world, history.ttl_s
    connected: list[float] = []

    async def connect(_: TwinApi) -> None:
        connected.append(world.now)

    def until(done: Callable[[], bool]) -> None:
        while not done() and world.now < 20 * ttl_s:
            world.step()
        assert done()

    monkeypatch.setattr(TwinApi, "connect", connect)
    history.spawn(history.new_host())
    until(lambda: history.alive[0].leading)
    history.spawn(history.new_host())
    began = world.now
    connected.clear()
    until(lambda: world.now > began + 5 * ttl_s)
    assert connected == []
    leader, standby = history.alive
    assert leader.leading
    leader.die("killed by this test")
    until(lambda: standby.leading)
    [instant] = connected
    assert 0 < world.now - instant < 1.5 * CONNECT_S


def test_a_standby_has_a_session_when_a_takeover_is_due() -> None:
    """Opening one is a write, for which nobody should have to wait then."""
    history = History(0, kind=STORES["kv"], transcript=True)
    history.elections = ["a"]
    world = history.world

    def until(done: Callable[[], bool]) -> None:
        while not done() and world.now < 20 * history.ttl_s:
            world.step()
        assert done()

    history.spawn(history.new_host())
    until(lambda: history.alive[0].leading)
    history.spawn(history.new_host())
    until(lambda: world.now > 3 * history.ttl_s)
    leader, standby = history.alive
    leader.die("killed by this test")
    began = len(world.transcript)
    until(lambda: standby.leading)
    said = [line.split() for line in world.transcript[began:] if " sends " in line]
    lines = [words for words in said if words[1] == standby.label]
    [opened] = [float(words[0]) for words in lines if words[3:5] == ["open", "session"]]
    [taken] = [float(words[0]) for words in lines if words[3] == "take"]
    assert 0.5 * CONNECT_S < taken - opened < 1.5 * CONNECT_S


def test_a_session_that_is_closed_is_trusted_no_more() -> None:
    """A take under it may be in flight, and would begin a term that nobody has to respect."""
    bench = Bench()
    keepers: list[LeaseKeeper] = []
    hubs: list[Hub] = []

    async def ask() -> None:
        if not hubs:
            hubs.append(Hub(MemoryStore(), "p", None, bench.clock.boot))
        keepers.append(await hubs[0].session(TIMING))

    def go() -> None:
        bench.loop.create_task(ask())

    bench.loop.deliver(go)
    bench.world.at(TIMING.patience_s - TIMING.attempt_s / 2, bench.loop.deliver, go)
    bench.run(TIMING.ttl_s)
    first, second = keepers
    assert not bench.errors
    assert first is not second
    assert first.trust.voided
    assert not second.trust.voided


# -- the twins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_a_loop_counts_on_its_hosts_clock(rate: float) -> None:
    bench = Bench(rate)
    rung: list[float] = []
    bench.loop.call_later(9.0, lambda: rung.append(bench.world.now))
    bench.run(20.0)
    assert rung == [pytest.approx(9.0 / rate, abs=1e-5)]


def test_a_paused_loop_does_nothing_and_is_late() -> None:
    bench = Bench()
    rung: list[str] = []
    bench.loop.call_later(1.0, rung.append, "timer")
    bench.loop.pause()
    bench.world.at(2.0, bench.loop.deliver, rung.append, "answer")
    bench.run(3.0)
    assert rung == []
    bench.loop.resume(timers_first=False)
    assert rung == ["answer", "timer"]


def test_a_loop_may_see_its_timers_before_the_answers() -> None:
    bench = Bench()
    rung: list[str] = []
    bench.loop.call_later(1.0, rung.append, "timer")
    bench.loop.pause()
    bench.world.at(2.0, bench.loop.deliver, rung.append, "answer")
    bench.run(3.0)
    bench.loop.resume(timers_first=True)
    assert rung == ["timer", "answer"]


def test_timers_stand_still_in_a_suspended_host_and_trust_does_not() -> None:
    bench = Bench()
    rung: list[float] = []
    bench.loop.call_later(5.0, lambda: rung.append(bench.clock.boot()))
    bench.run(1.0)
    bench.clock.suspend()
    bench.loop.pause()
    bench.run(101.0)
    bench.clock.resume()
    bench.loop.resume(timers_first=False)
    bench.run(120.0)
    assert rung == [pytest.approx(1105.0, abs=1e-5)]


def test_alarms_of_the_kernel_go_on_in_a_suspended_host() -> None:
    bench = Bench()
    rung: list[float] = []
    alarms = SimAlarms(bench.world, bench.clock, bench.loop)
    alarms.call_at(1005.0, lambda: rung.append(bench.clock.boot()))
    alarms.call_at(1006.0, lambda: rung.append(math.inf)).cancel()
    bench.run(1.0)
    bench.clock.suspend()
    bench.loop.pause()
    bench.run(101.0)
    assert rung == []
    bench.clock.resume()
    bench.loop.resume(timers_first=False)
    assert rung == [pytest.approx(1101.0, abs=1e-5)]


@pytest.mark.parametrize("rate", [0.9, 1.1])
def test_alarms_of_the_kernel_follow_a_clock_whose_rate_changes(rate: float) -> None:
    bench = Bench()
    rung: list[float] = []
    alarms = SimAlarms(bench.world, bench.clock, bench.loop)
    alarms.call_at(1009.0, lambda: rung.append(bench.clock.boot()))
    bench.clock.set_rate(rate)
    alarms.replan()
    bench.run(20.0)
    assert rung == [pytest.approx(1009.0, abs=1e-5)]


def test_a_dropped_loop_is_silent() -> None:
    bench = Bench()
    rung: list[str] = []
    bench.loop.call_later(1.0, rung.append, "timer")
    bench.loop.drop()
    bench.loop.deliver(rung.append, "answer")
    bench.run(2.0)
    assert rung == []


def test_timeouts_and_locks_of_asyncio_work() -> None:
    bench = Bench()
    said: list[str] = []

    async def patient(lock: asyncio.Lock) -> None:
        async with lock:
            said.append("second")

    async def main() -> None:
        lock = asyncio.Lock()
        async with lock:
            other = bench.loop.create_task(patient(lock))
            try:
                async with asyncio.timeout(2.0):
                    await bench.loop.create_future()
            except TimeoutError:
                said.append(f"timeout at {bench.world.now:.3f}")
        await other

    bench.loop.deliver(lambda: bench.loop.create_task(main()))
    bench.run(5.0)
    assert said == ["timeout at 2.000", "second"]
    assert not bench.errors


def test_what_nobody_catches_is_reported_and_an_endless_loop_is_ended() -> None:
    bench = Bench()

    def fail() -> None:
        raise ValueError("moo")

    bench.loop.deliver(fail)
    assert [str(error) for error in bench.errors] == ["moo"]

    def again() -> None:
        bench.loop.call_soon(again)

    bench.loop.deliver(again)
    assert bench.errors[1:] == [None]
    assert bench.loop.is_closed()


def _process(slack: float) -> tuple[World, Process, KernelTimer, Callable[[], bool]]:
    history = History(1, kind=STORES["memory"])
    world = history.world
    clock = HostClock(world, 0.9, 1000.0)
    host = Host("p", clock, TIMING, armed=True)
    process = Process(world, history.judge, history.network, host, "p1", "p_1", lambda *_: None)
    process.judge.killed = lambda actor: None  # type: ignore[method-assign]
    timer = KernelTimer(world, process, slack)
    process.timer = timer
    return world, process, timer, world.step


@pytest.mark.parametrize("paused", [False, True])
def test_the_kernels_timer_kills_on_the_hosts_clock_also_what_is_stopped(paused: bool) -> None:
    world, process, timer, step = _process(0.05)
    if paused:
        process.pause()
    timer.arm(1009.0, "")
    while process.alive and step():
        pass
    assert world.now == pytest.approx(10.05)


def test_the_kernels_timer_is_moved_and_disarmed_until_it_fires() -> None:
    world, process, timer, step = _process(0.05)
    timer.arm(1009.0, "")
    timer.arm(1018.0, "")
    world.at(15.0, timer.disarm)
    while step():
        pass
    assert process.alive
    timer.arm(1018.0, "")
    world.at(20.01, timer.arm, 1e6, "")
    while process.alive and step():
        pass
    assert world.now == pytest.approx(20.05), "once it has fired nothing helps"


def test_the_kernels_timer_waits_for_a_suspended_host() -> None:
    world, process, timer, step = _process(0.0)
    timer.arm(1009.0, "")
    process.suspend()
    world.at(50.0, process.wake)
    while process.alive and step():
        pass
    assert world.now == 50.0


# -- the server of queues -------------------------------------------------------------------------


@pytest.fixture
def queue_history() -> tuple[History, QueueBench, Process]:
    """Return a history in which one process leads and one of theirs waits behind it."""
    history = History(1, kind=STORES["queue"])
    bench = history.bench
    assert isinstance(bench, QueueBench)
    history.elections = ["a"]
    history.spawn(history.new_host())
    (process,) = history.alive
    while not process.leading:
        assert history.world.step()
    bench.admit("a", history.ttl_s)
    history.judge.check()
    return history, bench, process


def test_nobody_leads_beside_a_member_of_theirs_that_the_server_lets_hold(
    queue_history: tuple[History, QueueBench, Process],
) -> None:
    history, bench, _ = queue_history
    first = bench.queues.standing["locks/a"][0]
    bench._remove("locks/a", lambda one: one is first)  # A server that breaks its word.
    with pytest.raises(Violated, match=r"theirs: a: .* by its server's word"):
        history.judge.check()


def test_who_is_robbed_by_hand_has_what_was_left_to_it(
    queue_history: tuple[History, QueueBench, Process],
) -> None:
    history, bench, process = queue_history
    (work,) = history.judge.works("a")
    process.link.stalled = True
    bench.delete_first("a")
    while process.leading:
        history.judge.check()
        assert history.world.step()
    assert work.trusted_until <= work.over_by < math.inf


def test_the_node_of_the_dead_stands_until_its_session_is_over(
    queue_history: tuple[History, QueueBench, Process],
) -> None:
    history, bench, process = queue_history
    world, first = history.world, bench.queues.standing["locks/a"][0]
    died_at = world.now
    process.die("killed by this test")
    while bench.queues.standing["locks/a"][0] is first:
        assert world.step()
    assert 0.5 * history.ttl_s < world.now - died_at < 3 * history.ttl_s


# -- the machine under the embedded store ---------------------------------------------------------


@pytest.fixture
def sqlite_history() -> Iterator[tuple[History, SqliteBench, Process]]:
    """Return a history in which one process leads an election, and nothing goes wrong."""
    history = History(1, kind=STORES["sqlite"])
    bench = history.bench
    assert isinstance(bench, SqliteBench)
    history.elections = ["a"]
    history.spawn(history.new_host())
    (process,) = history.alive
    while not process.leading:
        assert history.world.step()
    yield history, bench, process
    bench.end()


def test_a_lock_is_free_when_the_last_child_is_gone(
    sqlite_history: tuple[History, SqliteBench, Process],
) -> None:
    history, bench, process = sqlite_history
    ((key, _),) = bench._trees.items()
    locks = LockFolder(bench.path.with_name(bench.path.name + "-locks"))
    bench._orphans = 1.0
    assert not locks.is_dead(key)
    process.die("killed")
    child = bench._trees[key]
    assert child is not process
    while child.alive:
        assert not locks.is_dead(key)
        assert history.world.step()
    while not locks.is_dead(key):
        assert history.world.step()


def test_a_lock_is_free_when_a_process_without_children_is_dead(
    sqlite_history: tuple[History, SqliteBench, Process],
) -> None:
    history, bench, process = sqlite_history
    ((key, _),) = bench._trees.items()
    locks = LockFolder(bench.path.with_name(bench.path.name + "-locks"))
    bench._orphans = 0.0
    process.die("killed")
    died_at = history.world.now
    while not locks.is_dead(key):
        assert history.world.step()
    assert history.world.now < died_at + 2 * LATEST_DROP_S


def test_a_thread_does_what_it_has_begun_and_not_what_was_cancelled_before(
    sqlite_history: tuple[History, SqliteBench, Process],
) -> None:
    history, bench, process = sqlite_history
    (thread,) = bench._stores[process.label].machine.threads
    while thread._busy:
        assert history.world.step()
    done: list[str] = []
    first, second, third = (
        thread.submit(partial(done.append, name)) for name in ("first", "second", "third")
    )
    assert not first.cancel()
    assert second.cancel()
    while not third.done():
        assert history.world.step()
    assert done == ["first", "third"]


def test_a_stopped_process_does_not_hear_and_a_dead_one_does_nothing(
    sqlite_history: tuple[History, SqliteBench, Process],
) -> None:
    history, bench, process = sqlite_history
    (thread,) = bench._stores[process.label].machine.threads
    done: list[str] = []
    process.pause()
    future = thread.submit(partial(done.append, "paused"))
    history.world.after(history.ttl_s * 0.1, history.world.write, "", "")
    until = history.world.now + history.ttl_s * 0.1
    while history.world.now < until:
        assert history.world.step()
    assert not future.done()
    process.die("killed")
    done.clear()
    while history.world.now < until + history.ttl_s:
        assert history.world.step()
    assert not done
