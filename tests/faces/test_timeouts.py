"""`timeout_s` bounds the whole wait, whatever the store does, and what was in flight is seen to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from incumbent import ConfigError, Election, NotElected, aio
from incumbent.core.records import Claim, Held, Lease, Snapshot
from incumbent.errors import StoreUnavailable
from incumbent.runtime import keeper
from incumbent.stores.memory import MemoryStore
from incumbent.sync import election as sync
from incumbent.testing import memory_store
from tests.faces.programs import LIMIT_S
from tests.faces.test_sync import Watch

Enter = Callable[[Any, float | None], int | None]


class Stalling(MemoryStore):
    """Does not answer at one place, until it is healed."""

    def __init__(self, beside: MemoryStore, where: str) -> None:
        super().__init__(beside.shelf, "stalling")
        self.where = where
        self.reached = threading.Event()
        self.calls: list[str] = []
        self._go_on: Callable[[], object] = self.reached.set

    async def _stall(self, where: str) -> None:
        if where in self.where.split():
            self.reached.set()
            gate = asyncio.Event()
            self._go_on = partial(asyncio.get_running_loop().call_soon_threadsafe, gate.set)
            await gate.wait()

    def heal(self) -> None:
        self.where = ""
        self._go_on()

    async def open(self, *, create: bool = True) -> None:
        self.calls.append("open")
        await self._stall("open")
        await super().open(create=create)

    async def close(self) -> None:
        await asyncio.sleep(0.05)  # sleep: whoever would not wait for the end has the time to
        self.calls.append("closed")

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        await self._stall("session")
        return await super().open_session(owner, ttl_s)

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        await self._stall("take")
        held = await super().take(name, claim, over)
        await self._stall("answer")
        return held

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        if "read-back" in self.where:
            raise StoreUnavailable("it is not there")
        return await super().read_back(name, claim)


def _plain(store: Any, timeout_s: float | None, **more: Any) -> int | None:
    with Election("e", store=store, **{"ttl_s": 5, **more}).hold(timeout_s=timeout_s) as term:
        return term.token


def _later(store: Any, timeout_s: float | None, **more: Any) -> int | None:
    async def main() -> int | None:
        election = aio.Election("e", store=store, **{"ttl_s": 5, **more})
        async with election.hold(timeout_s=timeout_s) as term:
            return term.token

    return asyncio.run(main())


both = pytest.mark.parametrize("enter", [_plain, _later])


@both
@pytest.mark.parametrize("timeout_s", [0, 0.2])
@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("open", "the store memory://stalling was not opened in time"),
        ("session", "whether we are elected|has no record; no answer within"),
        ("take", "did not say in time whether we are elected"),
        ("answer read-back", "did not say in time whether we are elected"),
    ],
)
def test_the_wait_is_bounded_wherever_the_store_stalls(
    where: str, why: str, timeout_s: float, enter: Any, memory: MemoryStore
) -> None:
    store = Stalling(memory, where)
    with pytest.raises(NotElected, match=why):
        enter(store, timeout_s)
    assert store.reached.is_set()


@both
def test_leading_is_bounded_as_well(enter: Any, memory: MemoryStore) -> None:
    store = Stalling(memory, "open")
    if enter is _plain:
        with pytest.raises(NotElected, match="not opened in time"):
            Election("e", store=store).lead(lambda term: None, timeout_s=0.1, deadman=False)
    else:
        leading = aio.Election("e", store=store).lead(_nothing, timeout_s=0.1, deadman=False)
        with pytest.raises(NotElected, match="not opened in time"):
            asyncio.run(leading)


async def _nothing(term: aio.Term) -> None:
    pass


@both
def test_who_gave_up_before_the_store_was_open_is_in_nobodys_way(
    enter: Any, memory: MemoryStore
) -> None:
    store = Stalling(memory, "open")
    with pytest.raises(NotElected):
        enter(store, 0.05)
    store.where = ""
    assert enter(store, None) is not None
    assert store.calls[:3] == ["open", "closed", "open"]


def test_who_gave_up_while_another_waits_is_no_candidate_when_the_store_opens(
    memory: MemoryStore,
) -> None:
    store = Stalling(memory, "open")
    one, two = (
        sync.Seat(Election(name, store=store)._settings(armed=False), None) for name in "ef"
    )
    one.start()
    two.start()
    with pytest.raises(NotElected):
        one.wait(0.01)
    store.heal()
    two.wait(LIMIT_S)
    assert list(memory.shelf.records) == ["f"]
    two.quit()


@both
def test_a_take_that_did_happen_after_we_gave_up_is_released(
    enter: Any, memory: MemoryStore
) -> None:
    """Its TTL is a minute: only the release can let the other one in."""
    watch = Watch()
    with pytest.raises(NotElected, match="if we are, that is released"):
        enter(Stalling(memory, "answer"), 0.1, ttl_s=60, grace_s=46, observer=watch)
    assert memory.shelf.records["e"].session in memory.shelf.sessions
    watch.until("closed")
    assert memory.shelf.records["e"].session == ""
    assert enter(memory_store(beside=memory), 0) is not None


def test_a_take_that_cannot_be_read_back_is_renewed_by_nobody(memory: MemoryStore) -> None:
    watch = Watch()
    store = Stalling(memory, "answer read-back")
    with pytest.raises(NotElected):
        _plain(store, 0.1, ttl_s=2, observer=watch)
    watch.until("closed")
    left = memory.shelf.sessions[memory.shelf.records["e"].session]
    with suppress(NotElected):
        _plain(memory_store(beside=memory), 1.0, ttl_s=2)
    assert left.beat == 0
    token = memory.shelf.records["e"].token
    store.where = ""
    # To this process it is a leftover of its own.
    assert (_plain(store, LIMIT_S, ttl_s=2) or 0) > token


def test_a_store_that_neither_opens_nor_refuses_cannot_be_opened(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "OPEN_S", 0.05)
    for enter in (_plain, _later):
        store = Stalling(memory, "open")
        with pytest.raises(StoreUnavailable, match=r"memory://stalling could not be opened within"):
            enter(store, None)
        store.where = ""
        assert enter(store, None) is not None
        assert store.calls[:3] == ["open", "closed", "open"]


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), float("inf"), "5", True, b"1"])
def test_what_is_no_time_to_wait(timeout_s: Any, memory: MemoryStore) -> None:
    for face in (Election("e", store=memory), aio.Election("e", store=memory)):
        with pytest.raises(ConfigError, match="timeout_s="):
            face.hold(timeout_s=timeout_s)
    with pytest.raises(ConfigError, match="timeout_s="):
        Election("e", store=memory).lead(lambda term: None, timeout_s=timeout_s)
    with pytest.raises(ConfigError, match="timeout_s="):
        asyncio.run(aio.Election("e", store=memory).lead(_nothing, timeout_s=timeout_s))
