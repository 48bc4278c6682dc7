"""What goes wrong with the embedded store besides: see `faults`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from incumbent.testing.simulator.faults import (
    FAULTS,
    TAMPERING,
    Fault,
    doubled_release,
    step_down,
    trap,
)
from incumbent.testing.simulator.network import Fate, Link
from incumbent.testing.simulator.sqlite import SqliteBench

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["SQLITE_FAULTS", "SQLITE_TAMPERING"]

_WRITES = ("take", "renew", "release", "close session")


def _bench(h: History) -> SqliteBench:
    assert isinstance(h.bench, SqliteBench)
    return h.bench


def killed_before_the_bell(h: History) -> bool:
    """Kill a process after it has committed, and before it could tell anybody."""

    def spring(_: Link, fate: Fate) -> None:
        fate.dies, fate.request_lost = "after", False

    return _on_a_write(h, spring)


def stopped_before_the_bell(h: History) -> bool:
    """Stop a process after it has committed, and before it tells anybody."""
    for_s = h.ttl_s * h.rng.choice((0.1, 0.6, 1.2))

    def spring(_: Link, fate: Fate) -> None:
        fate.stops_s, fate.request_lost = for_s, False

    return _on_a_write(h, spring)


def killed_before_the_row(h: History) -> bool:
    """Kill a process that has locked its session's file, and has not written the session."""

    def spring(_: Link, fate: Fate) -> None:
        fate.dies = "before"

    return trap(h, "open session", spring)


def full_disk(h: History) -> bool:
    """Have no room on the disk for a while."""
    kernel = _bench(h).kernel
    if kernel.full:
        return False

    def free() -> None:
        kernel.full = False

    kernel.full = True
    h.world.after(h.ttl_s * h.rng.choice((0.1, 0.5, 1.2)), free)
    return True


def overflow(h: History) -> bool:
    """Have the kernel lose what it has to tell some process."""
    process = h.any_process()
    if process is None:
        return False
    _bench(h).overflow(process)
    return True


def delete_files(h: History) -> bool:
    """Delete the database under everybody."""
    h.world.write("somebody", "deletes the database")
    _bench(h).delete_files()
    return True


def _on_a_write(h: History, spring: object) -> bool:
    verb = h.rng.choice(_WRITES)
    if verb == "release":
        step_down(h)
    return trap(h, verb, spring)  # type: ignore[arg-type]


SQLITE_FAULTS: tuple[tuple[Fault, float], ...] = (
    # A thread does nothing twice.
    *((fault, weight) for fault, weight in FAULTS if fault is not doubled_release),
    (killed_before_the_bell, 1.5),
    (stopped_before_the_bell, 1.5),
    (killed_before_the_row, 0.7),
    (full_disk, 1.0),
    (overflow, 1.0),
)

SQLITE_TAMPERING: tuple[tuple[Fault, float], ...] = (*TAMPERING, (delete_files, 2.0))
