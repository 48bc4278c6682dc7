"""Which deadline the kernel's timer must have now.

The dead-man timer is one per process; the terms are many, and many of them share a lease. Here is
kept, per lease, how many armed terms it carries; the timer is set to the earliest instant at which
some of that work would outlive its trust. A lease that is renewed moves the timer on, a term whose
work has ended takes its part away.

A term that was *deposed* has no trust any more; its work has the stop's deadline instead.
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


class Watchdog:
    """The earliest deadline of the work that may be killed."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._leases: dict[int, tuple[Trust, dict[str, str]]] = {}
        self._trusts: dict[str, Trust] = {}
        self._deposed: dict[str, tuple[float, str]] = {}
        self._armed = math.inf

    def guard(self, term: str, trust: Trust, message: str) -> None:
        """Kill this process if the work of `term` outlives `trust`."""
        _, messages = self._leases.setdefault(id(trust), (trust, {}))
        messages[term] = message
        self._trusts[term] = trust
        self.update()

    def depose(self, term: str, deadline: float) -> None:
        """Give the work of a term without trust until `deadline`."""
        message = self._drop(term)
        if message is not None:
            self._deposed[term] = (deadline, message)
        self.update()

    def relieve(self, term: str) -> None:
        """Forget `term`: its work has ended."""
        self._drop(term)
        self._deposed.pop(term, None)
        self.update()

    def update(self) -> None:
        """Set the timer anew: a lease was renewed, or the work changed."""
        deadline, message = math.inf, ""
        for trust, messages in self._leases.values():
            # A voided trust keeps the deadline that was armed: its members are about to be deposed.
            until = trust.valid_until if not trust.voided else self._armed
            if until < deadline:
                deadline, message = until, next(iter(messages.values()))
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

    def _drop(self, term: str) -> str | None:
        trust = self._trusts.pop(term, None)
        if trust is None:
            return None
        _, messages = self._leases[id(trust)]
        message = messages.pop(term)
        if not messages:
            del self._leases[id(trust)]
        return message
