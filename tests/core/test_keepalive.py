"""The renewals of one lease: when they are sent, what counts, and when it is given up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from incumbent.core.fence import Trust
from incumbent.core.keepalive import Expiring, Failing, Keepalive, Pulse, Renew, Revoked
from incumbent.core.timing import Timing

TIMING = Timing.plan(10.0)


@pytest.fixture
def lease() -> Keepalive:
    return Keepalive(TIMING, Trust(), 100.0)


def renewing(lease: Keepalive, now: float = 100.0 + TIMING.renew_every_s) -> Renew:
    effect = lease.tick(now)
    assert isinstance(effect, Renew)
    return effect


def test_trust_is_counted_from_the_send_of_the_first_write(lease: Keepalive) -> None:
    assert lease.trust.valid_until == 100.0 + TIMING.validity_s
    assert lease.stop_at == pytest.approx(100.0 + TIMING.patience_s)


def test_a_renewal_is_sent_when_it_is_due_and_not_before(lease: Keepalive) -> None:
    due = 100.0 + TIMING.renew_every_s
    assert lease.wake_at == due
    assert lease.tick(due - 0.001) is None
    assert lease.tick(due) == Renew(1, TIMING.attempt_s)
    assert lease.tick(due + 0.001) is None, "one at a time"


def test_a_confirmation_counts_from_its_send(lease: Keepalive) -> None:
    sent_at = 100.0 + TIMING.renew_every_s
    renewing(lease, sent_at)
    lease.confirmed(1)
    assert lease.trust.valid_until == sent_at + TIMING.validity_s
    assert lease.wake_at == sent_at + TIMING.renew_every_s


def test_a_failure_is_tried_again_soon(lease: Keepalive) -> None:
    renewing(lease)
    lease.failed(1, 104.0, "no answer")
    assert lease.wake_at == 104.0 + TIMING.retry_every_s
    assert renewing(lease, lease.wake_at).attempt == 2
    assert lease.trust.valid_until == 100.0 + TIMING.validity_s


def test_the_answer_of_an_older_attempt_counts_for_nothing(lease: Keepalive) -> None:
    renewing(lease)
    lease.failed(1, 104.0, "no answer")
    renewing(lease, lease.wake_at)
    before = lease.trust.valid_until
    lease.confirmed(1)
    lease.failed(1, 105.0, "late")
    assert lease.refused(1, "late") is None
    assert lease.trust.valid_until == before
    assert lease.state is Pulse.RENEWING


def test_an_attempt_never_lasts_until_after_the_stop_began(lease: Keepalive) -> None:
    renewing(lease)
    lease.failed(1, lease.stop_at - 0.25 - TIMING.retry_every_s, "no answer")
    assert renewing(lease, lease.stop_at - 0.25).timeout_s == pytest.approx(0.25)


def test_patience_ends_while_there_is_time_to_stop(lease: Keepalive) -> None:
    renewing(lease)
    lease.failed(1, 104.0, "connection refused")
    stop_at = 100.0 + TIMING.patience_s
    lease._due = math.inf
    assert lease.wake_at == pytest.approx(stop_at)
    assert lease.tick(stop_at) == Failing("connection refused")
    assert lease.trust.valid_until - stop_at == pytest.approx(TIMING.stop_s)


def test_nothing_is_renewed_after_that(lease: Keepalive) -> None:
    renewing(lease)
    assert isinstance(lease.tick(200.0), Failing)
    assert lease.state is Pulse.ENDED
    assert lease.wake_at == math.inf
    lease.confirmed(1)
    assert lease.trust.valid_until == 100.0 + TIMING.validity_s
    assert lease.tick(201.0) is None


def test_a_refusal_voids_at_once(lease: Keepalive) -> None:
    renewing(lease)
    assert lease.refused(1, "somebody else") == Revoked("somebody else")
    assert lease.trust.voided
    assert lease.revoke("again") is None


def test_a_resting_lease_is_not_renewed_and_may_be_used_while_it_is_good(lease: Keepalive) -> None:
    lease.rest()
    assert lease.wake_at == math.inf
    assert lease.tick(1e6) is None
    assert lease.usable(100.0)
    assert not lease.usable(lease.stop_at - TIMING.attempt_s)
    lease.resume()
    assert lease.wake_at < math.inf


def test_an_ended_lease_is_of_no_use(lease: Keepalive) -> None:
    lease.end()
    assert not lease.usable(100.0)
    assert lease.trust.valid_until == 100.0 + TIMING.validity_s, "what is trusted stays trusted"


def test_where_nothing_is_renewed_the_stop_is_planned_and_begins_as_early() -> None:
    lease = Keepalive(TIMING, Trust(), 100.0, renews=False)
    assert lease.wake_at == lease.stop_at == pytest.approx(100.0 + TIMING.patience_s)
    assert lease.tick(lease.stop_at - 0.001) is None
    assert isinstance(lease.tick(lease.stop_at), Expiring)
    assert (lease.state, lease.wake_at) == (Pulse.ENDED, math.inf)
    assert lease.tick(lease.stop_at + 0.001) is None, "told once"
    assert lease.trust.valid_until == 100.0 + TIMING.validity_s, "the stop has the rest"


@given(st.lists(st.floats(0, 20), max_size=20))
def test_where_nothing_is_renewed_nothing_is_ever_sent(naps_s: list[float]) -> None:
    lease, now, told = Keepalive(TIMING, Trust(), 0.0, renews=False), 0.0, []
    for nap_s in naps_s:
        now += nap_s
        effect = lease.tick(now)
        lease.confirmed(0)
        told += [effect] * (effect is not None)
    assert all(isinstance(effect, Expiring) for effect in told)
    assert len(told) == (now >= lease.stop_at)
    assert lease.trust.valid_until == TIMING.validity_s


class Renewals(RuleBasedStateMachine):
    """Any order of time, answers and refusals."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.trust = Trust()
        self.lease = Keepalive(TIMING, self.trust, 0.0)
        self.sent: dict[int, float] = {}
        self.confirmed_sends = [0.0]
        self.open: int | None = None
        self.over = False

    @rule(after_s=st.floats(0, 5))
    def time_passes(self, after_s: float) -> None:
        self.now += after_s
        effect = self.lease.tick(self.now)
        if isinstance(effect, Renew):
            assert self.open is None, "one attempt in flight"
            assert not self.over
            assert 0 < effect.timeout_s <= TIMING.attempt_s
            assert self.now + effect.timeout_s <= self.lease.stop_at + 1e-9
            self.open = effect.attempt
            self.sent[effect.attempt] = self.now
        elif isinstance(effect, Failing):
            assert not self.over, "once"
            assert self.now >= max(self.confirmed_sends) + TIMING.patience_s - 1e-9
            self.over = True

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), kind=st.sampled_from(("confirmed", "failed", "refused")))
    def answer(self, data: st.DataObject, kind: str) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.sent)))
        counts = attempt == self.open and not self.over
        if kind == "confirmed":
            self.lease.confirmed(attempt)
            if counts:
                self.confirmed_sends.append(self.sent[attempt])
        elif kind == "failed":
            self.lease.failed(attempt, self.now, "failed")
        else:
            revoked = self.lease.refused(attempt, "refused")
            assert (revoked is not None) == counts
            self.over = self.over or counts
        if attempt == self.open:
            self.open = None

    @invariant()
    def only_confirmed_sends_are_trusted(self) -> None:
        if not self.trust.voided:
            assert self.trust.valid_until == max(self.confirmed_sends) + TIMING.validity_s

    @invariant()
    def there_is_always_a_next_time_until_it_is_over(self) -> None:
        assert (self.lease.wake_at == math.inf) == self.over


TestRenewals = Renewals.TestCase


@given(st.floats(0, 1e6))
def test_the_stop_has_all_of_its_time(sent_at: float) -> None:
    lease = Keepalive(TIMING, Trust(), sent_at)
    assert lease.trust.valid_until - lease.stop_at == pytest.approx(TIMING.stop_s, abs=1e-6)
