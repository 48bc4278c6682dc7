"""What goes wrong in a queue of others besides: see `faults`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from incumbent.testing.simulator.faults import (
    FAULTS,
    TAMPERING,
    Fault,
    cut_off,
    late_session,
    mend,
    trap,
)
from incumbent.testing.simulator.network import Fate, Link
from incumbent.testing.simulator.process import Process, Worker
from incumbent.testing.simulator.queue import QueueBench

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["QUEUE_FAULTS", "QUEUE_TAMPERING"]

_NEVER_S = 1e9
"""Longer than any history; whoever stays away for so long leaves its process running."""


def _bench(h: History) -> QueueBench:
    assert isinstance(h.bench, QueueBench)
    return h.bench


def theirs_comes_and_goes(h: History) -> bool:
    """Have a member of theirs stand in a queue, and leave it or die some time later."""
    bench, rng = _bench(h), h.rng
    name = rng.choice(h.elections)
    session = bench.admit(name, h.ttl_s * rng.choice((0.5, 1.0, 1.5)))
    h.world.write("theirs", f"{session} stands in the queue of {name}")
    ends = rng.choice((bench.dismiss, bench.silence))
    h.world.after(h.ttl_s * (0.1 + 1.2 * rng.random()), ends, session)
    return True


def comes_back(h: History) -> bool:
    """Have one candidate withdraw, and come back to its process, which goes on."""
    worker = _some_worker(h, h.victim())
    if worker is None:
        return False
    worker.manners.returns_after_s = h.ttl_s * h.rng.choice((0.0, 0.05, 0.5, 2.0))
    worker.process.loop.deliver(worker.driver.close)
    return True


def withdraws_unheard(h: History) -> bool:
    """Have one candidate withdraw while nothing gets through; its process goes on.

    Where it held, it stops and cannot release; the rest of its session's time is not over.
    """
    worker = _some_worker(h, h.victim())
    if worker is None:
        return False
    rng, link = h.rng, worker.process.link
    away_s = h.ttl_s * rng.random()
    if rng.random() < 0.7 and any(_stays(other, worker) for other in h.alive):
        away_s = _NEVER_S
    worker.manners.returns_after_s = away_s
    cut_off(h, link, h.ttl_s * rng.uniform(0.3, 0.95))
    link.refusing = rng.random() < 0.5
    worker.process.loop.deliver(worker.driver.close)
    return True


def late_proof(h: History) -> bool:
    """Have the first proof of a node answered late, or not at all; often, its sender is stopped."""
    timing = h.some_host().timing
    late_s = timing.attempt_s * (0.5 + 0.7 * h.rng.random())
    lost = h.rng.random() < 0.4
    stopped_s = h.ttl_s * h.rng.choice((0.0, 0.0, 0.5, 0.9))

    def spring(link: Link, fate: Fate) -> None:
        fate.request_lost, fate.answer_lost, fate.answer_s = False, lost, late_s
        process = h.process_of(link)
        if process is not None and stopped_s:
            h.world.after(fate.request_s, h.pause, process, stopped_s)

    return trap(h, "prove", spring)


def lost_proof(h: History) -> bool:
    """Lose the first proof of a node, and then whatever its sender has to say, for long."""

    def spring(link: Link, fate: Fate) -> None:
        fate.request_lost, fate.reset = True, True
        h.world.after(fate.request_s * 1.1, cut_off, h, link, h.ttl_s * 2)

    return trap(h, "prove", spring)


def late_session_of_its_own(h: History) -> bool:
    """Have a session begin late, or be asked for once more."""
    late_s = h.ttl_s * h.rng.random()

    def spring(_: Link, fate: Fate) -> None:
        fate.request_s, fate.request_lost = late_s, False

    return trap(h, "open session", spring)


def _stays(process: Process, worker: Worker) -> bool:
    """Tell whether another process goes on to want what this worker wants, or its host does."""
    other = process.workers.get(worker.election)
    if other is None or other is worker:
        return False
    return other.manners.returns_after_s != _NEVER_S


def unheard_deletion(h: History) -> bool:
    """Take away the place of a leader whose watch brings nothing for longer than it is trusted."""
    name, leader = h.some_leader()
    if leader is None:
        return False
    for_s = h.ttl_s * (1.0 + h.rng.random())
    leader.link.stalled = True
    h.world.write(leader.label, f"is not notified for {for_s:.2f} s")
    _bench(h).delete_first(name)
    h.world.after(for_s, mend, leader.link)
    return True


def _some_worker(h: History, process: Process | None) -> Worker | None:
    if process is None or not process.workers:
        return None
    return h.rng.choice(list(process.workers.values()))


QUEUE_FAULTS: tuple[tuple[Fault, float], ...] = (
    # A session is not closed: it ends when nothing is heard of its owner any more.
    *((fault, weight) for fault, weight in FAULTS if fault is not late_session),
    (theirs_comes_and_goes, 4.0),
    (comes_back, 1.5),
    (withdraws_unheard, 1.5),
    (late_proof, 1.5),
    (lost_proof, 1.5),
    (late_session_of_its_own, 0.5),
)

QUEUE_TAMPERING: tuple[tuple[Fault, float], ...] = (*TAMPERING, (unheard_deletion, 3.0))
