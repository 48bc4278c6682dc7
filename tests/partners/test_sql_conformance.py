"""What every store must do, of elections that are another library's locks in a database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.testing import conformance
from tests.partners.sql_locks import PLACES, Place, place


class Harness:
    """Elections with names of their own in one table."""

    ttl_s = 0.6  # nothing here waits for it but the looks, which come six times in it

    def __init__(self, here: Place) -> None:
        self._here = here
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(self._here.url())
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def _execute(self, statement: str) -> bool:
        await asyncio.to_thread(self._here.execute, statement)
        return True

    async def delete(self, name: str) -> bool:
        """Delete the lock's own row."""
        table = self._here.table.table
        return await self._execute(f"DELETE FROM {table} WHERE {self._here.where(name)}")

    async def scribble(self, name: str) -> bool:
        where = f"WHERE election = '{name}'"
        return await self._execute(f"UPDATE incumbent_lock SET format = 999 {where}")

    async def disturb(self, name: str) -> bool:
        """Change what their members do not compare: since when the lock is held."""
        table = self._here.table
        early = f"{table.since} - INTERVAL '1' SECOND"
        change = f"UPDATE {table.table} SET {table.since} = {early} WHERE {self._here.where(name)}"
        return await self._execute(change)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.fixture(params=PLACES, scope="module")
def here(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = place(request.param, request.getfixturevalue)
    yield made
    made.drop()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, here: Place) -> None:
    conformance.run(case, lambda: Harness(here))
