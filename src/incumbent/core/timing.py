"""Which settings are safe, and the arithmetic that refuses the others.

Theory
------
A holder *sends* a renewal at instant s and gets it confirmed. Every observer sees the record
change at some instant o >= s, and takes over no sooner than TTL later on its own clock. Clock
rates are off by at most rho (a share of one): a clock that should count one second counts between
1 - rho and 1 + rho. Hence, in true time, nobody takes over before

    o + TTL / (1 + rho)   >=   s + TTL / (1 + rho)

and a holder that trusts itself for W seconds *of its own clock* stops at the latest at
s + W / (1 - rho). The two never meet if

    W  =  TTL * (1 - rho) / (1 + rho)  -  margin

with any margin > 0. The margin pays for what lies between the instant at which the kernel's timer
fires and the last instruction of the work: delivery of SIGKILL to a process tree.

Trust is counted from the *send*, never from the reply: a reply may be late by any amount, and the
observers' waiting began when the store applied the write.

The work's stop belongs into W. If no renewal succeeds, the stop must begin while there is time
for it: `patience = W - grace - kill`. In that time must fit the wait for the next renewal and two
whole attempts, for one failed renewal is no loss.

             send                                                      W            TTL
      |-------|--------------|----------|----------|--------|--------|--|--------------|
              renew_every    attempt    attempt   (slack)  grace  kill   margin + drift
              '------------------ patience ----------------'

Warnings
--------
rho bounds the *rate*, also while a time daemon slews: Linux lets one slew by 10 %, chrony uses
8.3 % by default, and CLOCK_BOOTTIME follows. So 0.10 is the default, and a smaller value is a
claim about every host of the election.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from incumbent.errors import ImpossibleTiming

__all__ = ["DEFAULT_TTL_S", "Timing"]

DEFAULT_TTL_S = 15.0
DEFAULT_RHO = 0.10
DEFAULT_MARGIN_S = 0.1
LEAST_ATTEMPT_S = 0.01
"""A request that must answer sooner is not one that any store here can promise."""
GREATEST_TTL_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Timing of one candidate. Build it with `plan`, which refuses what cannot be safe.

    All durations are seconds on the candidate's own clock.

    Attributes:
        ttl_s: how long others wait after the last change that they saw.
        rho: the greatest rate error of any host's clock, as a share of one.
        margin_s: from the firing of the kernel timer to the last instruction of the work.
        grace_s: from asking the work to stop to killing it.
        kill_s: from killing the work to having its end confirmed.
        renew_every_s: from the send of one confirmed renewal to the next.
        attempt_s: the time limit of one request.
        retry_every_s: from a failed attempt to the next.
    """

    ttl_s: float
    rho: float
    margin_s: float
    grace_s: float
    kill_s: float
    renew_every_s: float
    attempt_s: float
    retry_every_s: float

    @property
    def validity_s(self) -> float:
        """W: how long a term is trusted after the send of its last confirmed renewal."""
        return _validity(self.ttl_s, self.rho, self.margin_s)

    @property
    def stop_s(self) -> float:
        """The whole stop of the work, its confirmed end included."""
        return self.grace_s + self.kill_s

    @property
    def patience_s(self) -> float:
        """How long renewals may fail, from the send of the last good one, until the stop begins."""
        return self.validity_s - self.stop_s

    @classmethod
    def plan(
        cls,
        ttl_s: float = DEFAULT_TTL_S,
        *,
        grace_s: float | None = None,
        rho: float = DEFAULT_RHO,
        margin_s: float | None = None,
        kill_s: float | None = None,
        renew_every_s: float | None = None,
        attempt_s: float | None = None,
        whole_seconds: bool = False,
    ) -> Timing:
        """Derive what was not given and refuse what cannot be safe.

        Args:
            ttl_s: time to live of the lease, in seconds.
            grace_s: how long the work may take to stop; a fifth of W when not given.
            rho: greatest clock-rate error of any host, as a share of one.
            margin_s: slack between the kernel's timer and the end of the work.
            kill_s: from SIGKILL to the confirmed end.
            renew_every_s: renewal period; a third of the patience when not given.
            attempt_s: limit of one request; a third of the patience when not given.
            whole_seconds: the store's format keeps the TTL in whole seconds.

        Raises:
            ImpossibleTiming: with the arithmetic, and what to change.
        """
        _need("ttl_s", ttl_s, ttl_s > 0, "greater than 0")
        _need("ttl_s", ttl_s, ttl_s <= GREATEST_TTL_S, f"at most {GREATEST_TTL_S:g} (a day)")
        _need("rho", rho, 0 <= rho <= 0.5, "between 0 and 0.5")
        if whole_seconds and ttl_s != int(ttl_s):
            raise ImpossibleTiming(
                f"this store keeps the TTL in whole seconds: use ttl_s={math.ceil(ttl_s)} "
                f"instead of {ttl_s:g}"
            )
        least = f"at least {LEAST_ATTEMPT_S:g}"
        if renew_every_s is not None:
            _need("renew_every_s", renew_every_s, renew_every_s >= LEAST_ATTEMPT_S, least)
        if attempt_s is not None:
            _need("attempt_s", attempt_s, attempt_s >= LEAST_ATTEMPT_S, least)
        split = _Split.of(ttl_s, rho, margin_s, kill_s, grace_s)
        _need("margin_s", split.margin_s, split.margin_s > 0, "greater than 0")
        _need("kill_s", split.kill_s, split.kill_s > 0, "greater than 0")
        validity_s = split.validity_s
        text = f"smaller: nothing of ttl_s={ttl_s:g} is left"
        _need("margin_s", split.margin_s, validity_s > 0, text)
        _need("grace_s", split.grace_s, split.grace_s >= 0, "0 or more")

        patience_s = split.patience_s
        least_s = 3 * LEAST_ATTEMPT_S
        if renew_every_s is not None or attempt_s is not None:
            least_s = (renew_every_s or LEAST_ATTEMPT_S) + 2 * (attempt_s or LEAST_ATTEMPT_S)
        if not patience_s >= least_s:
            given = (margin_s, kill_s, grace_s)
            enough_s = _enough(ttl_s, rho, given, least_s, whole_seconds=whole_seconds)
            lower = "lower grace_s"
            if renew_every_s is not None or attempt_s is not None:
                lower += " or the renewal period"
            way_out = _way_out(enough_s, lower)
            raise ImpossibleTiming(f"{_arithmetic(ttl_s, rho, split, least_s)}: {way_out}")
        if renew_every_s is None:
            renew_every_s = (patience_s - 2 * attempt_s) if attempt_s else patience_s / 3
            renew_every_s = min(renew_every_s, patience_s / 3)
        if attempt_s is None:
            attempt_s = min((patience_s - renew_every_s) / 2, validity_s / 3)
        return cls(
            ttl_s=float(ttl_s),
            rho=rho,
            margin_s=split.margin_s,
            grace_s=float(split.grace_s),
            kill_s=split.kill_s,
            renew_every_s=renew_every_s,
            attempt_s=attempt_s,
            retry_every_s=min(1.0, renew_every_s / 4),
        )

    def explain(self, *, renews: bool = True) -> str:
        """Return the arithmetic of these settings in one line, for people.

        Args:
            renews: whether the store does.
        """
        every = f"renewed every {self.renew_every_s:.3f} s" if renews else "never renewed"
        last = "the last good renewal" if renews else "the take was sent"
        return (
            f"W = {self.ttl_s:g} x (1-{self.rho:g})/(1+{self.rho:g}) - {self.margin_s:g} "
            f"= {self.validity_s:.3f} s; {every}; "
            f"the stop begins {self.patience_s:.3f} s after {last} "
            f"(grace {self.grace_s:g} + kill {self.kill_s:g})"
        )


def _validity(ttl_s: float, rho: float, margin_s: float) -> float:
    return ttl_s * (1 - rho) / (1 + rho) - margin_s


def _need(name: str, value: float, holds: bool, wanted: str) -> None:
    if not math.isfinite(value):
        raise ImpossibleTiming(f"{name}={value!r} must be a finite number of seconds")
    if not holds:
        raise ImpossibleTiming(f"{name}={value!r} must be {wanted}")


@dataclass(frozen=True, slots=True)
class _Split:
    """How a TTL is divided, before the renewals have their share."""

    margin_s: float
    kill_s: float
    grace_s: float
    validity_s: float

    @classmethod
    def of(
        cls,
        ttl_s: float,
        rho: float,
        margin_s: float | None,
        kill_s: float | None,
        grace_s: float | None,
    ) -> _Split:
        margin_s = min(DEFAULT_MARGIN_S, 0.05 * ttl_s) if margin_s is None else margin_s
        kill_s = min(0.5, 0.05 * ttl_s) if kill_s is None else kill_s
        validity_s = _validity(ttl_s, rho, margin_s)
        return cls(margin_s, kill_s, validity_s / 5 if grace_s is None else grace_s, validity_s)

    @property
    def patience_s(self) -> float:
        return self.validity_s - (self.grace_s + self.kill_s)


def _enough(
    ttl_s: float,
    rho: float,
    given: tuple[float | None, float | None, float | None],
    least_s: float,
    *,
    whole_seconds: bool,
) -> float:
    """Return a TTL with which the other settings work out; infinity if there is none."""
    while ttl_s <= GREATEST_TTL_S:
        parts = 1 if whole_seconds or ttl_s >= 10 else 100
        ttl_s = math.ceil(ttl_s * 1.02 * parts) / parts
        if _Split.of(ttl_s, rho, *given).patience_s >= least_s and ttl_s <= GREATEST_TTL_S:
            return ttl_s
    return math.inf


def _arithmetic(ttl_s: float, rho: float, split: _Split, least_s: float) -> str:
    return (
        f"ttl_s={ttl_s:g} gives W = {ttl_s:g} x (1-{rho:g})/(1+{rho:g}) - {split.margin_s:g} "
        f"margin = {split.validity_s:.3f} s of trust; the stop, grace_s={split.grace_s:g} and "
        f"{split.kill_s:g} to kill, leaves {split.patience_s:.3f} s for renewals, "
        f"and {least_s:.3f} s are needed"
    )


def _way_out(enough_s: float, lower: str) -> str:
    if enough_s == math.inf:
        return f"no ttl_s up to a day is long enough; {lower}"
    return f"raise ttl_s above {enough_s:.7g}, or {lower}"
