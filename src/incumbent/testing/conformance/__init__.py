"""What every store must do, as cases that run against yours: the definition of done.

For the author of a store: write a `Harness` (how to open a store, and how to tamper with a record
behind its back), and run every case of `CASES`. With pytest:

    @conformance.parametrize(MyHarness)
    def test_my_store(conform):
        conform()

or, where the harness needs a fixture, parametrize over `CASES` yourself and call `run`. Nothing of
pytest is imported otherwise.

A store in which candidates stand in a queue (`Capabilities.queue`) is another kind of store: for it
there are `QUEUE_CASES`, in place of `CASES`.

No case is left out. A case looks at `Store.capabilities` and asks for what the store declares; a
store without sessions is asked to refuse one, and a store whose server judges expiry is waited for.
One that declares that it cannot be read or renewed is asked to refuse just that, in the place of
each case that does so, and `trying` has what such a store is to do all the same.
A hook of the harness that returns False says that nobody can do this to the store's records.

Each case has its own election and a time limit. A failure is an `AssertionError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from incumbent.errors import StoreAbsent
from incumbent.testing.conformance import bars, checkpoints, others, queues, taking, terms, trying
from incumbent.testing.conformance.kit import Harness

__all__ = ["CASES", "QUEUE_CASES", "Bound", "Case", "Harness", "parametrize", "run"]

CASE_LIMIT_S = 60.0

Bound = Callable[[], None]
"""A case bound to a harness: call it."""

_Test = TypeVar("_Test", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that every store must do.

    Attributes:
        name: what that is.
        check: tries it.
        looks: whether it takes a store that can be read and renewed.
    """

    name: str
    check: Callable[[Harness], Awaitable[None]]
    looks: bool = True

    def __str__(self) -> str:
        return self.name


def run(case: Case, harness: Callable[[], Harness]) -> None:
    """Run one case on a new event loop, against a new harness."""

    async def main() -> None:
        made = harness()
        try:
            async with asyncio.timeout(CASE_LIMIT_S):
                fits = not case.looks or await _can_be_looked_at(made)
                await (case.check if fits else trying.what_is_not_declared_is_refused)(made)
        finally:
            await made.close()

    asyncio.run(main())


async def _can_be_looked_at(harness: Harness) -> bool:
    try:
        can = (await harness.store(create=False)).capabilities
    except StoreAbsent:
        return True  # A look would have created it; so there is something to look at.
    return can.reads and can.renews


def parametrize(harness: Callable[[], Harness]) -> Callable[[_Test], _Test]:
    """Return a pytest decorator that gives the argument `conform` to a test, once a case."""
    import pytest

    def bound(case: Case) -> Callable[[], None]:
        return lambda: run(case, harness)

    return pytest.mark.parametrize(
        "conform", [bound(c) for c in CASES], ids=[c.name for c in CASES]
    )


_BLIND = (*trying.CHECKS, others.a_session_ends_everything_held_under_it)

CASES = tuple(
    Case(check.__name__, check, looks=check not in _BLIND)
    for check in (
        *taking.CHECKS,
        *terms.CHECKS,
        *others.CHECKS,
        *bars.CHECKS,
        *checkpoints.CHECKS,
        *trying.CHECKS,
    )
)

QUEUE_CASES = tuple(
    Case(check.__name__, check) for check in (*queues.CHECKS, *checkpoints.QUEUE_CHECKS)
)
