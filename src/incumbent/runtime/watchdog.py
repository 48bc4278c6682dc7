"""Which deadline the kernel's timer must have now.

The dead-man timer is one per process; the terms are many, and many of them share a lease. Here is
kept, per lease, how many armed terms it carries; the timer is set to the earliest instant at which
some of that work would outlive its trust. A lease that is renewed moves the timer on, a term whose
work has ended takes its part away.

A term that was *deposed* has no trust any more; its work has the stop's deadline instead, and never
more than the trust that it had: a process that wakes up late may hear of it late.

Warning: terms are told apart as objects. Their nonces are unique in one election only, and a
process may lead in several.
"""

from __future__ import annotations

import math
from typing import Protocol

from incumbent.core.fence import Trust

__all__ = ["Timer", "Watchdog"]


class Timer(Protocol):
    """Ends this process at a deadline; `runtime.deadman.DeadMan` or its twin in a simulation."""

    def arm(self, deadline: float, message: str) -> None:
        """Set the deadline, in seconds of the boot-time clock."""
        ...

    def disarm(self) -> None:
        """Have no deadline."""
        ...


class _Lease:
    """One lease with armed work under it, and the last instant up to which it was trusted."""

    __slots__ = ("messages", "trust", "until")

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self.until = trust.valid_until
        self.messages: dict[object, str] = {}


class Watchdog:
    """The earliest deadline of the work that may be killed."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._leases: dict[int, _Lease] = {}
        self._trusts: dict[object, Trust] = {}
        self._deposed: dict[object, tuple[float, str]] = {}
        self._armed = math.inf

    def guard(self, term: object, trust: Trust, message: str) -> None:
        """Kill this process if the work of `term` outlives `trust`."""
        self._leases.setdefault(id(trust), _Lease(trust)).messages[term] = message
        self._trusts[term] = trust
        self.update()

    def depose(self, term: object, deadline: float) -> None:
        """Give the work of a term without trust until `deadline`."""
        trust = self._trusts.get(term)
        if trust is not None:
            deadline = min(deadline, self._leases[id(trust)].until)
        message = self._drop(term)
        if message is not None:
            self._deposed[term] = (deadline, message)
        self.update()

    def relieve(self, term: object) -> None:
        """Forget `term`: its work has ended."""
        self._drop(term)
        self._deposed.pop(term, None)
        self.update()

    @property
    def idle(self) -> bool:
        """Tell whether nothing is guarded."""
        return not self._trusts and not self._deposed

    def update(self) -> None:
        """Set the timer anew: a lease was renewed, or the work changed."""
        deadline, message = math.inf, ""
        for lease in self._leases.values():
            # A voided trust keeps its last deadline: its members are about to be deposed.
            if not lease.trust.voided:
                lease.until = lease.trust.valid_until
            if lease.until < deadline:
                deadline, message = lease.until, next(iter(lease.messages.values()))
        for until, text in self._deposed.values():
            if until < deadline:
                deadline, message = until, text
        if deadline == self._armed:
            return
        self._armed = deadline
        if deadline == math.inf:
            self._timer.disarm()
        else:
            self._timer.arm(deadline, message)

    def _drop(self, term: object) -> str | None:
        trust = self._trusts.pop(term, None)
        if trust is None:
            return None
        lease = self._leases[id(trust)]
        message = lease.messages.pop(term)
        if not lease.messages:
            del self._leases[id(trust)]
        return message
