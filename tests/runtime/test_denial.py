"""Which missing right is the reason, as looks, takes and news follow one another."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from incumbent.core.records import Holding, Snapshot
from incumbent.errors import IncumbentError, PermissionDenied, StoreUnavailable
from incumbent.runtime.denial import Denial

VACANT = Snapshot("e", Holding.VACANT, 1, 1)
HELD = replace(VACANT, holding=Holding.HELD, version=2, serial=2)
NO = PermissionDenied("no")


def look(denial: Denial, error: Exception | None = None) -> None:
    with suppress(IncumbentError, TimeoutError), denial.looking():
        if error is not None:
            raise error


def take(denial: Denial, over: Snapshot, error: Exception | None = None) -> None:
    with suppress(IncumbentError, TimeoutError), denial.taking(over):
        if error is not None:
            raise error


def test_what_was_denied_is_raised_on() -> None:
    with pytest.raises(PermissionDenied), Denial().looking():
        raise NO


def test_a_denied_take_is_the_reason_until_something_else_is_watched() -> None:
    denial = Denial()
    take(denial, VACANT, NO)
    look(denial)  # Whoever may look need not be permitted to write.
    denial.heard()
    assert denial.reason(VACANT) is NO
    assert denial.reason(HELD) is None
    assert denial.reason(None) is NO


@pytest.mark.parametrize("error", [None, StoreUnavailable("gone"), TimeoutError()])
def test_a_take_that_ends_otherwise_is_no_denial_any_more(error: Exception | None) -> None:
    denial = Denial()
    take(denial, VACANT, NO)
    take(denial, VACANT, error)
    assert denial.reason(VACANT) is None


@pytest.mark.parametrize("error", [None, StoreUnavailable("gone"), TimeoutError()])
def test_a_denied_look_is_the_reason_until_another_ends_otherwise(error: Exception | None) -> None:
    denial = Denial()
    look(denial, NO)
    assert denial.reason(None) is NO
    look(denial, error)
    assert denial.reason(None) is None


def test_what_the_store_reports_unasked_need_not_be_looked_at() -> None:
    denial = Denial()
    look(denial, NO)
    denial.heard()
    assert denial.reason(HELD) is None
