"""What goes wrong in a history.

Each fault is a function that does it once and returns whether there was anything to do it to. Most
strike the leader. `PLOTS` are sequences that chance alone would hardly ever bring about; each of
them is what one known kind of mistake needs in order to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from incumbent.testing.simulator.network import Fate, Link, Trap
from incumbent.testing.simulator.process import Process

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["FAULTS", "TAMPERING", "Fault"]

Fault = Callable[["History"], bool]


# -- processes ------------------------------------------------------------------------------------


def crash(h: History) -> bool:
    """Kill a process."""
    return _to(h.victim(), lambda victim: victim.die("crash"))


def pause(h: History) -> bool:
    """Stop a process, for a moment or for longer than any TTL."""
    for_s = h.ttl_s * h.rng.choice((0.05, 0.4, 0.9, 1.2, 2.5)) * (0.7 + 0.6 * h.rng.random())
    return _to(h.victim(), lambda victim: h.pause(victim, for_s))


def suspend(h: History) -> bool:
    """Suspend a host."""
    for_s = h.ttl_s * h.rng.choice((0.3, 0.8, 1.1, 2.0))

    def strike(victim: Process) -> None:
        victim.suspend()
        h.world.after(for_s, victim.wake)

    return _to(h.victim(), strike)


def namesake(h: History) -> bool:
    """Start a second process with the identity of one that lives."""
    victim = h.victim()
    if victim is None or len(h.alive) > 4:
        return False
    h.spawn(h.new_host(), identity=victim.identity)
    return True


def slew(h: History) -> bool:
    """Have a time daemon slew a host's clocks, within rho."""
    return _to(h.victim(), lambda victim: victim.slew(h.some_rate()))


def step_wall_clock(h: History) -> bool:
    """Set a host's wall clock an hour off."""
    return _to(h.victim(), lambda victim: victim.clock.step_wall(h.rng.choice((-3600.0, 3600.0))))


# -- the network ----------------------------------------------------------------------------------


def cut(h: History) -> bool:
    """Cut a process off from the server."""
    for_s = h.ttl_s * h.rng.choice((0.1, 0.5, 1.0, 1.5, 2.5)) * (0.7 + 0.6 * h.rng.random())
    refusing = h.rng.random() < 0.3

    def strike(victim: Process) -> None:
        link = victim.link
        link.cut, link.refusing = True, refusing
        h.world.write(victim.label, f"is cut off for {for_s:.2f} s")
        h.world.after(for_s, mend, link)

    return _to(h.victim(), strike)


def bad_weather(h: History) -> bool:
    """Have a link lose, delay or double what is sent over it."""
    rng, ttl_s = h.rng, h.ttl_s
    fair = h.network.fair
    bad = rng.choice(
        (
            replace(fair, lose_request=0.4),
            replace(fair, lose_answer=0.4),
            replace(fair, lose_request=0.2, lose_answer=0.2, double=0.2, double_after_s=ttl_s / 4),
            replace(fair, double=0.5, double_after_s=ttl_s),
            replace(fair, straggle=0.4, straggle_s=ttl_s * 0.5),
            replace(fair, straggle=0.2, straggle_s=ttl_s * 2, repeat_notice=0.3),
            replace(fair, delay_s=ttl_s * 0.08),
        )
    )
    for_s = ttl_s * (0.5 + 2 * rng.random())
    links = [link for link in h.network.links if rng.random() < 0.7]

    def clear() -> None:
        for link in links:
            link.weather = fair

    for link in links:
        link.weather = bad
    h.world.after(for_s, clear)
    return bool(links)


def stall_notices(h: History) -> bool:
    """Have a watch bring nothing for a while.

    Not in a history in which people write over records, of a store in which a session is renewed
    without a look at its records, so that only the watch can tell a holder that its record is gone.
    """
    if h.relies_on_notices:
        return False
    for_s = h.ttl_s * (0.3 + 2.5 * h.rng.random())

    def strike(victim: Process) -> None:
        victim.link.stalled = True
        h.world.write(victim.label, f"is not notified for {for_s:.2f} s")
        h.world.after(for_s, mend, victim.link)

    return _to(h.any_process(), strike)


def stop_server(h: History) -> bool:
    """Stop the server and start it again with its data."""
    if not h.network.up:
        return False
    for_s = h.ttl_s * h.rng.choice((0.02, 0.2, 0.8, 1.3))
    h.world.write("server", f"is down for {for_s:.2f} s")
    h.network.stop_server()
    h.world.after(for_s, h.network.start_server)
    return True


# -- people and work ------------------------------------------------------------------------------


def ask(h: History) -> bool:
    """Leave a request to step down in the record."""
    name, leader = h.some_leader()
    work = leader.workers[name].work if leader is not None else None
    if work is None:
        return False
    h.bench.ask(name, work.term.id, h.somebody() if h.rng.random() < 0.5 else "")
    return True


def step_down(h: History) -> bool:
    """Have a leader hand over."""
    name, leader = h.some_leader()
    if leader is None:
        return False
    to = h.somebody() if h.rng.random() < 0.5 else ""
    leader.loop.deliver(leader.workers[name].driver.step_down, to)
    return True


def withdraw(h: History) -> bool:
    """Have a process withdraw all its candidates and exit."""

    def strike(victim: Process) -> None:
        for worker in list(victim.workers.values()):
            victim.loop.deliver(worker.driver.close)

    return _to(h.victim(), strike)


def work_ends(h: History) -> bool:
    """Have the work of a term end by itself."""
    name, leader = h.some_leader()
    work = leader.workers[name].work if leader is not None else None
    if leader is None or work is None:
        return False
    leader.loop.deliver(leader.workers[name].finish, work.term)
    return True


def lazy_work(h: History) -> bool:
    """Have work that takes long to stop, or never does; often something makes it stop then."""
    timing = h.some_host().timing
    slow_s = h.rng.choice(
        (timing.grace_s * 0.9, timing.stop_s * 1.2, timing.ttl_s, timing.ttl_s * 3, math.inf)
    )

    def strike(victim: Process) -> None:
        h.world.write(victim.label, f"will take {slow_s:.2f} s to stop its work")
        for worker in victim.workers.values():
            worker.manners.stops_after_s = slow_s
        h.rng.choice((cut, step_down, ask, withdraw, stop_server, delete_if_allowed))(h)

    return _to(h.victim(), strike)


# -- tampering ------------------------------------------------------------------------------------


def delete_if_allowed(h: History) -> bool:
    """Delete, in a history that has such faults."""
    return delete(h) if h.tampering else False


def delete(h: History) -> bool:
    """Delete a record by hand."""
    name = h.rng.choice(h.elections)
    h.world.write("somebody", f"deletes the record of {name}")
    h.bench.delete(name)
    return True


def scribble(h: History) -> bool:
    """Write something foreign over a record, and remove it later."""
    name = h.rng.choice(h.elections)
    h.world.write("somebody", f"writes garbage over the record of {name}")
    h.bench.scribble(name)
    h.world.after(h.ttl_s * (0.1 + 2 * h.rng.random()), h.bench.wipe)
    return True


def late_deposition(h: History) -> bool:
    """Stop a leader until its stop is due, delete its record meanwhile; its work will not stop."""
    name, leader = h.some_leader()
    work = leader.workers[name].work if leader is not None else None
    if leader is None or work is None:
        return False
    timing = leader.host.timing
    leader.workers[name].manners.stops_after_s = math.inf
    stop_in_s = work.term.remaining() - timing.stop_s * h.rng.random()
    h.pause(leader, max(0.0, stop_in_s / leader.clock.rate))
    h.bench.delete(name)
    return True


def doubly_ended(h: History) -> bool:
    """Delete the record of a leader that was just asked to step down, and whose work hangs."""
    name, leader = h.some_leader()
    if leader is None:
        return False
    leader.workers[name].manners.stops_after_s = math.inf
    leader.loop.deliver(leader.workers[name].driver.step_down, "")
    h.world.after(leader.host.timing.stop_s * 0.5 * h.rng.random(), h.bench.delete, name)
    return True


def restore(h: History) -> bool:
    """Go back to an earlier state of the store."""
    if not h.bench.restore():
        return False
    h.judge.excuse()
    h.world.write("server", "went back in time")
    return True


# -- plots ----------------------------------------------------------------------------------------


def late_renewal(h: History) -> bool:
    """Delay a renewal for about as long as it is worth, with its sender stopped until then.

    The sender then finds the answer before anything else, often even before the news of a takeover;
    and if its host was suspended, its timers have not even noticed.
    """
    asleep = h.rng.random() < 0.6
    share = h.rng.uniform(0.75, 1.05)
    further_s = h.ttl_s * h.rng.choice((0.0, 0.0, 0.0, 0.3))
    deaf = not h.relies_on_notices and h.rng.random() < 0.8

    def spring(link: Link, fate: Fate) -> None:
        process = h.process_of(link)
        if process is None or process.frozen:
            return
        fate.request_s = process.host.timing.validity_s * share / process.clock.rate
        fate.request_lost, fate.answer_lost = False, False
        for_s = fate.request_s + fate.answer_s * 1.1 + further_s
        if asleep:
            h.world.after(0.0, process.suspend)
            h.world.after(for_s, process.wake)
        else:
            h.world.after(0.0, h.pause, process, for_s)
        if deaf:
            link.stalled = True
            h.world.after(for_s + h.ttl_s * 0.1, mend, link)

    return trap(h, "renew", spring)


def torn(h: History) -> bool:
    """Cut off who leads several elections until it gives up; one work lags; a newcomer looks."""
    leaders = [p for p in h.alive if sum(p.leads(name) for name in p.workers) > 1]
    if not leaders:
        return False
    leader = h.rng.choice(leaders)
    timing = leader.host.timing
    workers = [worker for name, worker in leader.workers.items() if leader.leads(name)]
    for worker in workers:
        worker.manners.stops_after_s = 0.0
    lags_s = timing.grace_s * 0.9 if h.rng.random() < 0.5 else math.inf
    h.rng.choice(workers).manners.stops_after_s = lags_s
    for_s = workers[0].remaining_s - timing.stop_s * h.rng.uniform(0.2, 0.95)
    for_s = max(0.0, for_s / leader.clock.rate)
    cut_off(h, leader.link, for_s)
    leader.link.refusing = True
    if len(h.alive) < 6:
        soon_s = (timing.retry_every_s + timing.stop_s * 0.2) / leader.clock.rate
        h.world.after(for_s + soon_s * h.rng.uniform(0.3, 1.0), h.spawn, h.new_host())
    return True


def late_answer(h: History) -> bool:
    """Answer a renewal just before the caller gives up, then cut the caller off."""
    host = h.some_host()
    late_s = host.timing.attempt_s * (0.5 + 0.45 * h.rng.random())

    def spring(link: Link, fate: Fate) -> None:
        fate.answer_s, fate.request_lost, fate.answer_lost = late_s, False, False
        h.world.after(fate.request_s + late_s * 1.1, cut_off, h, link, h.ttl_s * 2)

    return trap(h, "renew", spring)


def late_take(h: History) -> bool:
    """Let a take have its effect long after the caller gave up."""
    late_s = h.ttl_s * h.rng.choice((0.3, 0.7, 1.5, 3.0)) * h.rng.random()

    def spring(_: Link, fate: Fate) -> None:
        fate.request_s, fate.request_lost = late_s, False

    return trap(h, "take", spring)


def unanswered_take(h: History) -> bool:
    """Let a take have its effect and lose the answer; often the next question is lost, too."""

    def spring(_: Link, fate: Fate) -> None:
        fate.request_lost, fate.answer_lost = False, True

    if h.rng.random() < 0.5:
        trap(h, "read back", _lose)
    return trap(h, "take", spring)


def slow_take(h: History) -> bool:
    """Answer a take so late that its lease is nearly over."""
    timing = h.some_host().timing
    late_s = timing.attempt_s * (0.8 + 0.19 * h.rng.random())

    def spring(_: Link, fate: Fate) -> None:
        fate.answer_s, fate.request_lost, fate.answer_lost = late_s, False, False

    return trap(h, "take", spring)


def doubled_release(h: History) -> bool:
    """Let a release have its effect once more, later."""
    late_s = h.ttl_s * 1.5 * h.rng.random()

    def spring(_: Link, fate: Fate) -> None:
        fate.request_lost, fate.doubled_after_s = False, late_s

    trap(h, "release", spring)
    return h.rng.choice((step_down, work_ends))(h)


def late_release(h: History) -> bool:
    """Let a release have its effect long after the caller gave up."""
    late_s = h.ttl_s * 2 * h.rng.random()

    def spring(_: Link, fate: Fate) -> None:
        fate.request_s, fate.request_lost = late_s, False

    trap(h, "release", spring)
    return step_down(h)


def late_session(h: History) -> bool:
    """Let the closing of a session have its effect late."""
    late_s = h.ttl_s * h.rng.random()

    def spring(_: Link, fate: Fate) -> None:
        fate.request_s, fate.request_lost = late_s, False

    return trap(h, "close session", spring)


def lonely_leader(h: History) -> bool:
    """Cut the leader off for long, while its work hangs."""
    name, leader = h.some_leader()
    if leader is None:
        return False
    leader.workers[name].manners.stops_after_s = math.inf
    if leader.workers[name].work is not None and h.rng.random() < 0.5:
        leader.loop.deliver(leader.workers[name].driver.step_down, "")
    cut_off(h, leader.link, h.ttl_s * 2)
    return True


def cut_off(h: History, link: Link, for_s: float) -> None:
    h.world.write(link.owner, f"is cut off for {for_s:.2f} s")
    link.cut, link.refusing = True, False
    h.world.after(for_s, mend, link)


def mend(link: Link) -> None:
    link.cut = link.stalled = False
    link.catch_up()


def _lose(_: Link, fate: Fate) -> None:
    fate.request_lost = True


def trap(h: History, verb: str, spring: Callable[[Link, Fate], None]) -> bool:
    if len(h.network.traps) > 3:
        return False
    trap = Trap(verb, spring)
    h.network.traps.append(trap)
    h.world.after(h.ttl_s * 3, h.network.disarm, trap)
    return True


def _to(victim: Process | None, strike: Callable[[Process], None]) -> bool:
    if victim is None:
        return False
    strike(victim)
    return True


FAULTS: tuple[tuple[Fault, float], ...] = (
    (crash, 3.0),
    (pause, 3.0),
    (suspend, 1.0),
    (namesake, 0.5),
    (slew, 0.7),
    (step_wall_clock, 0.7),
    (cut, 3.0),
    (bad_weather, 2.0),
    (stall_notices, 2.0),
    (stop_server, 1.5),
    (ask, 1.0),
    (step_down, 1.0),
    (withdraw, 0.7),
    (work_ends, 0.7),
    (lazy_work, 2.0),
    (late_renewal, 2.5),
    (torn, 2.0),
    (late_answer, 1.0),
    (late_take, 1.0),
    (unanswered_take, 1.0),
    (slow_take, 0.7),
    (doubled_release, 1.0),
    (late_release, 0.7),
    (late_session, 0.5),
    (lonely_leader, 1.5),
)

TAMPERING: tuple[tuple[Fault, float], ...] = (
    (delete, 4.0),
    (scribble, 2.0),
    (late_deposition, 2.0),
    (doubly_ended, 2.0),
)
