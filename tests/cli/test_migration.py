"""The steps of a migration and their order, between two stores in this process's memory.

With real stores, processes and signals: `tests.faults.migrating`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from incumbent import Election
from incumbent.cli.migration import Migration, Place, Step
from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Bar, Claim, Held, Holding, Snapshot
from incumbent.errors import (
    ConfigError,
    IncumbentError,
    NotElected,
    OutcomeUnknown,
    Refused,
    StaleToken,
    StoreUnusable,
)
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.memory import MemoryStore

NUMBERS = itertools.count(1)
NAME = "billing"
SOURCE_STEPS = (Step.BEGUN, Step.TARGET_HELD, Step.PREPARED, Step.SOURCE_HELD)
STEPS = (*SOURCE_STEPS, Step.SOURCE_BARRED, Step.RENEWED)


class Broken(Exception):
    """The migration is broken off here."""


class Pair:
    """Two stores, and what the records of the election in them have said."""

    def __init__(self, shift: int = 1000) -> None:
        number = next(NUMBERS)
        self.source = f"memory://from-{number}"
        self.target = f"memory://to-{number}" + (f"?tokens_from={shift}" if shift else "")
        self.states: list[tuple[str, str]] = []
        self.now = ["absent", "absent"]
        for place, url in enumerate((self.source, self.target)):
            open_store(url).follow(NAME, self._sink(place))

    def _sink(self, place: int) -> Callable[[Seen | Evidence], None]:
        def sink(event: Seen | Evidence) -> None:
            assert isinstance(event, Seen)
            self.now[place] = event.snapshot.state
            self.states.append((self.now[0], self.now[1]))

        return sink

    def migration(self, break_at: Step | None = None, **more: Any) -> Migration:
        async def between(step: Step) -> None:
            if step is break_at:
                raise Broken

        settings = {"ttl_s": 2, "between": between, "allow_absent": True, **more}
        return Migration(self.source, self.target, NAME, **settings)

    @property
    def barred(self) -> tuple[bool, bool]:
        return (self.now[0] == "barred", self.now[1] == "barred")

    def assert_never_both_open(self) -> None:
        """From the first bar on, one of the two is barred at each moment."""
        first = next(i for i, state in enumerate(self.states) if "barred" in state)
        assert all("barred" in state for state in self.states[first:]), self.states


@asynccontextmanager
async def opened(migration: Migration) -> AsyncIterator[Migration]:
    async with migration.connected():
        yield migration


async def run(pair: Pair, what: str = "run", **more: Any) -> Migration:
    async with opened(pair.migration(**more)) as migration:
        await getattr(migration, what)()
    return migration


async def broken(pair: Pair, step: Step) -> None:
    with pytest.raises(Broken):
        await run(pair, break_at=step)


async def hold(url: str, identity: str = "a_1") -> tuple[Store, Held]:
    """Hold the election for ever, by hand."""
    store = open_store(url)
    session = await store.open_session(identity, 2.0)
    number = next(NUMBERS)
    claim = Claim(identity, f"{identity}/{number}", 2.0, session)
    return store, await store.take(NAME, claim, await store.read(NAME))


def test_it_moves_and_tells_each_step() -> None:
    pair, said = Pair(), list[Step]()
    asyncio.run(run(pair, say=lambda step, _: said.append(step)))
    assert said == [*STEPS, Step.DONE]
    assert pair.now == ["barred", "vacant"]
    pair.assert_never_both_open()
    assert not asyncio.run(_tokens_fell(pair))


async def _tokens_fell(pair: Pair) -> bool:
    last = (await open_store(pair.source).read(NAME)).token or 0
    _, held = await hold(pair.target)
    return (held.token or 0) <= last


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
def test_broken_off_anywhere_it_goes_on(step: Step) -> None:
    pair = Pair()

    async def main() -> None:
        await broken(pair, step)
        expected = {
            **dict.fromkeys((Step.BEGUN, Step.TARGET_HELD), (False, False)),
            **dict.fromkeys((Step.PREPARED, Step.SOURCE_HELD), (False, True)),
        }
        assert pair.barred == expected.get(step, (True, True))
        await run(pair)

    asyncio.run(main())
    assert pair.now == ["barred", "vacant"]
    pair.assert_never_both_open()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
def test_broken_off_anywhere_it_is_undone_and_done_again(step: Step) -> None:
    pair = Pair()

    async def main() -> None:
        await broken(pair, step)
        await run(pair, "undo")
        assert not pair.barred[0]
        assert pair.barred[1] == (step not in (Step.BEGUN, Step.TARGET_HELD))
        await run(pair)

    asyncio.run(main())
    assert pair.now == ["barred", "vacant"]
    pair.assert_never_both_open()


def test_it_is_done_once() -> None:
    pair, said = Pair(), list[Step]()

    async def main() -> None:
        await run(pair)
        store, held = await hold(pair.target)
        await run(pair, say=lambda step, _: said.append(step))
        assert (await store.read(NAME)).term == held.term
        with pytest.raises(IncumbentError, match="it was finished"):
            await run(pair, "undo")
        with pytest.raises(IncumbentError, match="it was finished"):
            await run(pair, "abandon")

    asyncio.run(main())
    assert said == [Step.BEGUN, Step.DONE]


def test_the_way_back_is_a_migration_and_so_is_the_next() -> None:
    """What was left barred by the one is prepared for the other; neither lifts the other's bar."""
    pair = Pair()

    def back(**more: Any) -> Migration:
        return Migration(pair.target, f"{pair.source}?tokens_from=2000", NAME, ttl_s=2, **more)

    async def main() -> None:
        await run(pair)
        async with opened(back()) as migration:
            await migration.abandon()
            assert await migration.place() is Place.PREPARED
            await migration.run()
        assert pair.now == ["vacant", "barred"]
        pair.target = pair.target.replace("=1000", "=3000")
        await run(pair)
        assert pair.now == ["barred", "vacant"]

    asyncio.run(main())
    pair.assert_never_both_open()


def test_to_abandon_opens_both() -> None:
    pair = Pair()

    async def main() -> None:
        await broken(pair, Step.SOURCE_BARRED)
        await run(pair, "abandon")

    asyncio.run(main())
    assert pair.now == ["vacant", "vacant"]


# ---- two at a time, and writes that come late


@pytest.mark.parametrize(("first", "second"), [("run", "undo"), ("undo", "run")])
def test_of_one_that_goes_on_and_one_that_undoes_one_is_refused(first: str, second: str) -> None:
    """The second begins and ends between the two writes of the first."""
    pair = Pair()
    done = []

    async def main() -> None:
        await broken(pair, Step.SOURCE_BARRED)

        async def other(step: Step) -> None:
            if step is Step.RENEWED:
                await run(pair, second)
                done.append(pair.barred)

        with pytest.raises((Refused, IncumbentError)):
            await run(pair, first, between=other)

    asyncio.run(main())
    # The second one prevails; but who finds that TO is open may say that it is done.
    assert done == [(True, False) if second == "run" else (False, True)]
    assert pair.barred == done[0]
    pair.assert_never_both_open()


class Late:
    """A store of which one verb is lost on its way, to be carried out later."""

    def __init__(self, store: Store, verb: str) -> None:
        self._store = store
        self._verb = verb
        self.lost: list[Callable[[], Awaitable[Snapshot]]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name != self._verb:
            return found

        async def lose(*words: Any) -> Snapshot:
            self.lost.append(lambda: found(*words))
            raise OutcomeUnknown("no answer")

        return lose


@pytest.mark.parametrize(("what", "side"), [("run", "target"), ("undo", "source")])
def test_to_lift_a_bar_too_late_has_no_effect(
    what: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lifting that is still under way when somebody lifts the other side's bar."""
    monkeypatch.setattr("incumbent.cli.migration._PAUSE_S", 0.0)
    pair = Pair()
    opposite = {"run": "undo", "undo": "run"}[what]

    async def main() -> None:
        await broken(pair, Step.SOURCE_BARRED)
        async with opened(pair.migration()) as migration:
            found = getattr(migration, side)
            late: Any = Late(found.store, "unbar")
            found.store = late
            with pytest.raises(OutcomeUnknown):
                await getattr(migration, what)()
            found.store = late._store
        assert pair.barred == (True, True)
        await run(pair, opposite)
        for write in late.lost:
            with pytest.raises(Refused):
                await write()

    asyncio.run(main())
    pair.assert_never_both_open()


@pytest.mark.parametrize("verb", ["bar", "unbar"])
def test_an_answer_that_is_lost_is_found_in_the_record(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.cli.migration._PAUSE_S", 0.0)
    pair = Pair()
    real = getattr(MemoryStore, verb)

    async def answer_lost(self: MemoryStore, *words: Any) -> Snapshot:
        await real(self, *words)
        raise OutcomeUnknown("no answer")

    monkeypatch.setattr(MemoryStore, verb, answer_lost)
    asyncio.run(run(pair))
    assert pair.now == ["barred", "vacant"]


# ---- what is refused


def test_a_target_that_is_held_is_refused_at_once() -> None:
    pair = Pair()

    async def main() -> None:
        store, held = await hold(pair.target)
        for what in ("prepare", "run"):
            with pytest.raises(IncumbentError, match=r"TO: 'billing' is held by 'a_1'.*stop its"):
                await run(pair, what)
        assert (await store.read(NAME)).term == held.term

    asyncio.run(main())
    assert pair.now == ["absent", "held"]


def test_a_holder_that_does_not_hand_over_goes_on() -> None:
    pair = Pair()

    async def main() -> None:
        store, held = await hold(pair.source)

        async def renew() -> None:
            lease = held.lease
            while True:
                lease = await store.renew(lease)
                await asyncio.sleep(0.1)  # sleep: it renews now and then

        renewing = asyncio.create_task(renew())
        with pytest.raises(NotElected, match="is held by 'a_1'"):
            await run(pair, patience_s=0.5)
        seen = await store.read(NAME)
        assert seen.term == held.term
        assert seen.request is not None
        assert seen.request.to.startswith("migration-")
        renewing.cancel()

    asyncio.run(main())
    assert pair.barred == (False, True)


def test_tokens_that_would_fall_are_refused_and_the_url_is_told() -> None:
    pair = Pair(shift=0)

    async def main() -> None:
        for _ in range(50):
            store, held = await hold(pair.source)
            await store.release(held, held.lease, "")
        with pytest.raises(ConfigError, match=r"memory://to-\d+\?tokens_from=(\d+)") as refused:
            await run(pair, "prepare")
        pair.target += "?" + str(refused.value).rpartition("?")[2]
        assert pair.barred == (False, True)
        await run(pair, "prepare")
        # FROM goes on, and comes to more than there was room for.
        open_store(pair.source).shelf.serial += 2 * 10**6  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match="give tokens_from="):
            await run(pair)
        assert pair.now[0] == "vacant"
        store, held = await hold(pair.source)
        await store.release(held, held.lease, "")
        pair.target = pair.target.partition("?")[0] + "?tokens_from=3000000"
        await run(pair)
        assert not await _tokens_fell(pair)

    asyncio.run(main())
    pair.assert_never_both_open()


def test_a_candidate_without_the_number_is_refused_by_what_has_seen_tokens(tmp_path: Path) -> None:
    pair, file = Pair(), tmp_path / "resource"

    def write(url: str) -> None:
        with Election(NAME, store=url, ttl_s=5).hold() as term, term.fence("it").file(file):
            file.write_text(url)

    for _ in range(20):
        write(pair.source)
    asyncio.run(run(pair))
    with pytest.raises(StaleToken):
        write(pair.target.partition("?")[0])
    assert file.read_text() == pair.source
    write(pair.target)
    assert file.read_text() == pair.target


@pytest.mark.parametrize("what", ["prepare", "run", "undo", "abandon"])
def test_an_election_of_which_nobody_has_a_record_is_refused(what: str) -> None:
    pair, said = Pair(), list[Step]()

    async def main() -> None:
        with pytest.raises(ConfigError, match=r"neither FROM nor TO has .*change NAME"):
            await run(pair, what, say=lambda step, _: said.append(step), allow_absent=False)

    asyncio.run(main())
    assert (pair.now, said) == (["absent", "absent"], [])


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_record_in_one_of_the_two_is_enough(side: str) -> None:
    pair = Pair()

    async def main() -> None:
        store, held = await hold(getattr(pair, side))
        await store.release(held, held.lease, "")
        await run(pair, allow_absent=False)

    asyncio.run(main())
    assert pair.now == ["barred", "vacant"]


def test_what_is_barred_by_somebody_else_is_left_alone() -> None:
    for side in ("source", "target"):
        pair = Pair()

        async def main(pair: Pair = pair, side: str = side) -> None:
            store, held = await hold(getattr(pair, side))
            left = await store.bar(held.snapshot, Bar("out of order", "n"))
            for what in ("run", "prepare", "undo", "abandon"):
                with pytest.raises(IncumbentError, match="is barred: out of order"):
                    await run(pair, what)
            assert await store.read(NAME) == left

        asyncio.run(main())


def test_one_store_by_two_names_is_refused(tmp_path: Any) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(ConfigError, match="same store"):
        Migration(f"file://{real}", f"file://{real}?tokens_from=5", NAME)
    one, two = f"sqlite://{real}/x.db", f"sqlite://{tmp_path}/link/x.db"

    async def main() -> None:
        store = open_store(one)
        await store.open()
        async with Migration(one, two, NAME, ttl_s=2).connected() as _:
            pass
        migration = Migration(one, two, NAME, ttl_s=2, allow_absent=True)
        async with migration.connected():
            with pytest.raises(ConfigError, match="same record, by two names"):
                await migration.run()
        assert (await store.read(NAME)).holding is Holding.VACANT
        await store.close()

    asyncio.run(main())


def test_a_store_without_bars_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    migration = pair.migration()
    monkeypatch.setattr(MemoryStore, "capabilities", replace(MemoryStore.capabilities, bars=False))
    with pytest.raises(StoreUnusable, match="cannot bar an election"):
        asyncio.run(_enter(migration))


async def _enter(migration: Migration) -> None:
    async with migration.connected():
        pass


def test_the_number_knows_no_secrets_and_no_shift() -> None:
    plain = Migration("redis://h/0", "consul://h/p", NAME)
    secret = Migration("redis://me:secret@h/0", "consul://token@h/p?tokens_from=7", NAME)
    assert plain.id == secret.id
    assert "secret" not in secret.moved + secret.comes
    assert "token@" not in secret.moved + secret.comes
    assert plain.id != Migration("redis://h/1", "consul://h/p", NAME).id
    assert plain.id != Migration("consul://h/p", "redis://h/0", NAME).id
