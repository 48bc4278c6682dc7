"""How long a lease is trusted: one number, which only a confirmation moves."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from incumbent.core.fence import Trust

instants = st.floats(-1e9, 1e9)
spans_s = st.floats(0, 1e6)


def test_nothing_is_trusted_at_first() -> None:
    assert Trust().valid_until == -math.inf
    assert not Trust().voided


@given(st.lists(st.tuples(instants, spans_s), min_size=1))
def test_trust_is_the_latest_confirmed_send_and_its_validity(
    confirmed: list[tuple[float, float]],
) -> None:
    trust = Trust()
    for sent_at, validity_s in confirmed:
        before = trust.valid_until
        trust.confirm(sent_at, validity_s)
        assert trust.valid_until >= before
    assert trust.valid_until == max(sent_at + validity_s for sent_at, validity_s in confirmed)


@given(st.lists(st.tuples(instants, spans_s)))
def test_nothing_revives_a_void_trust(later: list[tuple[float, float]]) -> None:
    trust = Trust()
    trust.confirm(0.0, 10.0)
    trust.void()
    for sent_at, validity_s in [*later, (5.0, 10.0)]:
        trust.confirm(sent_at, validity_s)
    assert trust.valid_until == -math.inf
    assert trust.voided
