"""What the tests of `stores.beside` have in common: two candidates, and what they are told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import pytest

from incumbent.core.records import Holding, Snapshot
from incumbent.errors import Refused
from incumbent.testing.conformance.kit import Candidate, Harness

H = TypeVar("H", bound=Harness)


@contextlib.asynccontextmanager
async def two(harness: H) -> AsyncIterator[tuple[H, Candidate, Candidate]]:
    try:
        a, b = await harness.store(), await harness.store()
        yield harness, Candidate(harness, a, "alpha_1"), Candidate(harness, b, "beta_2")
    finally:
        await harness.close()


def is_theirs(snapshot: Snapshot) -> bool:
    return snapshot.holding is Holding.HELD and not snapshot.term


async def refused(work: Awaitable[Any]) -> Snapshot:
    with pytest.raises(Refused) as error:
        await work
    return error.value.snapshot
