"""Terms for users' tests, without a store, a thread or an election behind them."""

from __future__ import annotations

from incumbent.clock import Clock, boottime
from incumbent.core.fence import Trust
from incumbent.core.records import check_name
from incumbent.core.timing import DEFAULT_TTL_S, Timing
from incumbent.runtime.term import Term

__all__ = ["depose", "elected_term", "recall"]


def elected_term(
    name: str = "test",
    *,
    token: int | None = 1,
    identity: str = "test_0",
    ttl_s: float = DEFAULT_TTL_S,
    clock: Clock = boottime,
) -> Term:
    """Return a term that has just begun, as `hold` and `lead` hand it to the work.

    Args:
        name: the election.
        token: the fencing token; None as in a store that has none.
        identity: the candidate.
        ttl_s: it is trusted for as long as a lease of this time to live would be.
        clock: what it is counted on; a `ManualClock`, for a test that lets the trust run out.

    Raises:
        ConfigError: no election could have this name, or this time to live.
    """
    trust = Trust()
    trust.confirm(clock(), Timing.plan(ttl_s).validity_s)
    return Term(
        name=check_name(name),
        identity=identity,
        token=token,
        term=f"{identity}/test.1",
        trust=trust,
        clock=clock,
    )


def recall(term: Term, cause: str = "asked to") -> None:
    """Tell the work that `term` is to end, as a planned handover does: it is trusted a while yet.

    `lost` is set and the callbacks are called; `check()` still passes.
    """
    term.end(cause)


def depose(term: Term, cause: str = "the record changed under us") -> None:
    """End `term` as if the store had said that somebody else holds: it is trusted no more.

    `check()` raises from now on, `lost` is set and the callbacks are called.
    """
    term.void(cause)
    term.end(cause)
