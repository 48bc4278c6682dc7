"""What you need to test your own code that leads; the rest of this package tests incumbent itself.

    from incumbent import testing

    def test_stops_when_its_time_is_up() -> None:
        clock = testing.ManualClock()
        term = testing.elected_term("billing", token=7, clock=clock)
        clock.expire(term)
        with pytest.raises(incumbent.LeadershipLost):
            settle(term)

A term made here has no store and no thread behind it: nothing renews it, and nothing ends it but
the clock and `depose`. For tests with a real election there is `memory_store`: one for each test,
and nobody else in it.

`incumbent.testing.conformance` is for authors of stores, `incumbent.testing.simulator` for us.
"""

from __future__ import annotations

from incumbent.testing.clock import ManualClock
from incumbent.testing.stores import memory_store
from incumbent.testing.terms import depose, elected_term, recall

__all__ = ["ManualClock", "depose", "elected_term", "memory_store", "recall"]
