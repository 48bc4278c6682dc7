"""Whatever `Timing.plan` accepts holds at its worst, and whatever it refuses it explains.

The worst is worked out in exact rational arithmetic, since floats would hide what they round: the
holder's clock is as slow as rho allows and the observer's as fast, the observer sees the renewal at
the very instant at which it was sent, every later renewal fails, the stop takes all of its budget,
and the kernel takes the whole margin to kill.
"""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incumbent.core.timing import GREATEST_TTL_S, Timing
from incumbent.errors import ImpossibleTiming

SETTINGS = 120_000
ROUNDING = Fraction(1, 10**9)
"""Floats round; a nanosecond of a TTL of a second, and more of a longer one."""

NAMES = ("ttl_s", "rho", "grace_s", "margin_s", "kill_s", "renew_every_s", "attempt_s")
ODD = (0.0, -0.0, -1.0, 1e-9, 1e-300, 5e-324, 1e300, 1.0, 0.5, 86_400.0, 86_400.1, 1e-3)
ODDEST = (math.nan, math.inf, -math.inf)


def check(settings: dict[str, Any]) -> bool:
    """Plan; check what comes of it; and tell whether the settings were accepted."""
    try:
        timing = Timing.plan(**settings)
    except ImpossibleTiming as refusal:
        check_refusal(settings, str(refusal))
        return False
    check_accepted(settings, timing)
    return True


def check_accepted(settings: dict[str, Any], timing: Timing) -> None:
    for name, value in settings.items():
        if value is not None and name not in ("whole_seconds",):
            assert getattr(timing, name) == value, (name, settings)
    ttl, rho = Fraction(timing.ttl_s), Fraction(timing.rho)
    margin, trust = Fraction(timing.margin_s), Fraction(timing.validity_s)
    rounding = ROUNDING * max(ttl, Fraction(1))

    stop_begins = Fraction(timing.patience_s)
    work_ended = stop_begins + Fraction(timing.grace_s) + Fraction(timing.kill_s)
    assert work_ended <= trust + rounding, f"the stop does not fit: {settings}"

    killed_true = trust / (1 - rho) + margin
    taken_true = ttl / (1 + rho)
    assert killed_true <= taken_true + rounding, f"overlap: {settings}"
    assert trust <= ttl, settings

    renew, attempt = Fraction(timing.renew_every_s), Fraction(timing.attempt_s)
    assert min(renew, attempt, Fraction(timing.retry_every_s), stop_begins) > 0, settings
    assert renew + 2 * attempt <= stop_begins + rounding, f"no second attempt: {settings}"
    second = stop_begins - renew - attempt - Fraction(timing.retry_every_s)
    if settings.get("attempt_s") is None and settings.get("renew_every_s") is None:
        assert second >= attempt / 2, f"hardly time for a second attempt: {settings}"
    if settings.get("whole_seconds"):
        assert timing.ttl_s == int(timing.ttl_s)


def check_refusal(settings: dict[str, Any], message: str) -> None:
    assert any(name in message for name in NAMES), message
    hint = re.search(r"(?:raise ttl_s above |use ttl_s=)([0-9.e+]+)", message)
    if hint is None:
        assert "must be" in message or "lower grace_s" in message, message
        return
    better = {**settings, "ttl_s": float(hint.group(1))}
    if message.startswith("this store keeps"):
        assert better["ttl_s"] == int(better["ttl_s"])
    else:
        check_accepted(better, Timing.plan(**better))


def some_settings(rng: random.Random) -> dict[str, Any]:
    """Return settings near what people write, with now and then one that nobody would."""
    ttl_s = 10 ** rng.uniform(-2.5, 5)
    settings: dict[str, Any] = {
        "ttl_s": rng.choice((ttl_s, ttl_s, round(ttl_s, 1), float(math.ceil(ttl_s)))),
        "rho": rng.choice((0.0, 0.1, 0.5, rng.uniform(0, 0.5), rng.uniform(0, 0.5))),
    }
    for name, greatest in (
        ("grace_s", 0.6),
        ("margin_s", 0.2),
        ("kill_s", 0.2),
        ("renew_every_s", 0.4),
        ("attempt_s", 0.3),
    ):
        if rng.random() < 0.4:
            settings[name] = rng.choice((1e-3, greatest)) * ttl_s * rng.random()
    if rng.random() < 0.2:
        settings["whole_seconds"] = True
    if rng.random() < 0.15:
        settings[rng.choice(NAMES)] = rng.choice(ODD if rng.random() < 0.7 else ODDEST)
    return settings


def test_accepted_settings_hold_at_their_worst() -> None:
    rng = random.Random(15)
    accepted = sum(check(some_settings(rng)) for _ in range(SETTINGS))
    assert SETTINGS * 0.3 < accepted < SETTINGS * 0.9, "the settings are too easy or too hard"


@given(
    st.fixed_dictionaries(
        {"ttl_s": st.floats()},
        optional={name: st.none() | st.floats() for name in NAMES[2:]}
        | {"rho": st.floats(), "whole_seconds": st.booleans()},
    )
)
def test_any_floats_are_accepted_or_refused_with_a_reason(settings: dict[str, Any]) -> None:
    check(settings)


@given(
    ttl_s=st.floats(0.01, GREATEST_TTL_S),
    rho=st.floats(0, 0.5),
    grace=st.floats(0, 0.9),
    margin=st.floats(0.001, 0.5),
)
def test_likely_settings_hold_at_their_worst(
    ttl_s: float, rho: float, grace: float, margin: float
) -> None:
    check({"ttl_s": ttl_s, "rho": rho, "grace_s": grace * ttl_s, "margin_s": margin * ttl_s})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_what_is_no_duration_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ImpossibleTiming, match=name):
        Timing.plan(**_named(name, value))


def _named(name: str, value: float) -> dict[str, Any]:
    return {name: value}


def test_a_fraction_of_a_second_is_refused_where_the_store_has_none() -> None:
    with pytest.raises(ImpossibleTiming, match=r"use ttl_s=3 instead of 2\.5"):
        Timing.plan(2.5, whole_seconds=True)


def test_the_message_shows_the_arithmetic_and_the_way_out() -> None:
    with pytest.raises(ImpossibleTiming) as refusal:
        Timing.plan(5.0, grace_s=4.0)
    text = str(refusal.value)
    assert "W = 5 x (1-0.1)/(1+0.1) - 0.1 margin = 3.991 s" in text
    assert "raise ttl_s above" in text


def test_a_hopeless_setting_has_another_way_out() -> None:
    with pytest.raises(ImpossibleTiming, match="no ttl_s up to a day"):
        Timing.plan(15.0, grace_s=90_000.0)


def test_the_default_is_what_the_documentation_says() -> None:
    timing = Timing.plan()
    assert timing.ttl_s == 15.0
    assert timing.validity_s == pytest.approx(15 * 0.9 / 1.1 - 0.1)
    assert timing.explain().startswith("W = 15 x (1-0.1)/(1+0.1) - 0.1 = 12.173 s")
