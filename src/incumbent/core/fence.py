"""How long a term is trusted: the answer to "may I still act?".

A `Trust` belongs to one lease. It holds one number, the instant on this host's boot-time clock up
to which everything held under the lease is valid. Four rules, each with a test that breaks it:

1. The number is `send + W`, where *send* is when the request of a **confirmed** renewal left;
   see `core.timing` for W.
2. It never falls by itself and never rises after `void()`: a late reply revives nothing.
3. Reading it is a comparison. No I/O, no lock, no look at another host's clock.
4. Unknown outcomes do not count. Only a confirmation moves it.

Trust is what a clock can give. What it cannot rule out (a hypervisor that stops the whole guest,
a write already in flight) only a fencing token can, checked by the resource that is written to.
"""

from __future__ import annotations

import math

__all__ = ["Trust"]

_NEVER = -math.inf


class Trust:
    """The instant up to which a lease is trusted."""

    __slots__ = ("__weakref__", "_voided", "valid_until")

    def __init__(self) -> None:
        self.valid_until = _NEVER
        self._voided = False

    def confirm(self, sent_at: float, validity_s: float) -> None:
        """Count a confirmed renewal that was sent at `sent_at`."""
        if not self._voided:
            self.valid_until = max(self.valid_until, sent_at + validity_s)

    def void(self) -> None:
        """End the trust for good."""
        self._voided = True
        self.valid_until = _NEVER

    @property
    def voided(self) -> bool:
        """Tell whether the trust was ended for good."""
        return self._voided
