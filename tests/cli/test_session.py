"""One request to a store that does not answer: what may be said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from incumbent import testing
from incumbent.cli import session
from incumbent.errors import OutcomeUnknown, StoreError, StoreUnavailable
from incumbent.stores.api import Store


@pytest.mark.parametrize(
    ("asked", "error"), [(session.requested, StoreUnavailable), (session.written, OutcomeUnknown)]
)
def test_a_write_without_an_answer_may_have_been_done(
    asked: Callable[[Store, Awaitable[None]], Awaitable[None]],
    error: type[StoreError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "REQUEST_S", 0)

    async def main() -> None:
        with pytest.raises(error, match="gave no answer"):
            await asked(testing.memory_store(), asyncio.get_running_loop().create_future())

    asyncio.run(main())
