"""The embedded store: what the kernel's word is worth, and what people do to files."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from incumbent import Election, IncumbentError, LeadershipLost, NotElected, StoreError, Term
from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Claim, Held, Holding, Snapshot
from incumbent.errors import (
    OutcomeUnknown,
    Refused,
    StoreAbsent,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.sqlite import SqliteStore, filesystem, inotify
from incumbent.stores.sqlite.locks import LockFolder
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate
from tests.faces.programs import LIMIT_S, Start, assert_no_overlap, marks, starting, until
from tests.faces.test_sync import Watch
from tests.processes import ORDINARY

TTL_S = 20.0
"""So long that whoever is elected in time was not elected because it ran out."""


class SqliteHarness:
    ttl_s = 5.0

    def __init__(self, folder: Path) -> None:
        self.path = folder / "incumbent.db"
        self._numbers = itertools.count(1)
        self._stores: list[SqliteStore] = []

    def name(self) -> str:
        return f"election-{next(self._numbers)}"

    async def store(self, *, create: bool = True) -> SqliteStore:
        store = SqliteStore(self.path)
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        return self._tamper("DELETE FROM election WHERE name = ?", name)

    async def scribble(self, name: str) -> bool:
        change = "UPDATE election SET format = 999, serial = (SELECT serial FROM counter) "
        return self._tamper(change + "WHERE name = ?", name)

    async def disturb(self, name: str) -> bool:
        change = "UPDATE election SET serial = (SELECT serial FROM counter) WHERE name = ?"
        return self._tamper(change, name)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _tamper(self, statement: str, name: str) -> bool:
        tamper(self.path, statement, name)
        return True


def tamper(path: Path, statement: str, *values: object) -> None:
    """Change the database behind everybody's back, and ring."""
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE counter SET serial = serial + 1")
        db.execute(statement, values)
        db.execute("COMMIT")
    db.close()
    Path(f"{path}-bell").write_bytes(b"!")


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_it_is_a_store(case: conformance.Case, tmp_path: Path) -> None:
    conformance.run(case, lambda: SqliteHarness(tmp_path))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a few lines of Python; its arguments are in `sys.argv`."""
    yield from starting()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "incumbent.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite://{path}"


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await main()

    asyncio.run(limited())


async def meanwhile(holds: Callable[[], bool]) -> None:
    """Let the store's loop go on until something is so."""
    await asyncio.to_thread(until, holds, "what the store has to report")


def election(url: str, ttl_s: float = TTL_S, **more: object) -> Election:
    return Election("e", store=url, ttl_s=ttl_s, **more)  # type: ignore[arg-type]


HOLD = """
    ttl_s = float(sys.argv[2])
    election = Election("e", store=sys.argv[1], ttl_s=ttl_s, observer=lambda s: say(s.event))
    with election.hold() as term:
        {body}
        say("holds", term.token)
        hear()
"""


# ---- evidence of death


def test_a_killed_holder_is_followed_by_the_kernels_word(start: Start, url: str) -> None:
    program = start(HOLD.format(body="pass"), url, str(TTL_S))
    program.expect("elected")
    token = int(program.expect("holds").split()[1])
    watch = Watch()
    threading.Timer(0.3, program.process.kill).start()
    with election(url, observer=watch).hold(timeout_s=10) as term:
        assert (term.token or 0) > token
    watch.until("evidence")


def test_a_holder_that_was_dead_before_we_came(start: Start, url: str) -> None:
    program = start(HOLD.format(body="pass"), url, str(TTL_S))
    program.expect("elected")
    program.expect("holds")
    program.send(signal.SIGKILL)
    program.wait()
    with election(url).hold(timeout_s=10) as term:
        term.check()


@pytest.mark.parametrize(
    "body",
    [
        "child = os.fork() or (signal.pause(), os._exit(0)); say('child', child)",
        "child = works.sleeper(term); say('child', child.pid)",
    ],
    ids=["fork", "pass_fds"],
)
def test_as_long_as_a_child_lives_the_holder_is_not_dead(body: str, start: Start, url: str) -> None:
    program = start(HOLD.format(body=body), url, str(TTL_S))
    program.expect("elected")
    child = int(program.expect("child").split()[1])
    try:
        program.expect("holds")
        os.kill(program.pid, signal.SIGKILL)
        os.waitpid(program.pid, 0)
        watch = Watch()
        with (
            pytest.raises(NotElected, match="is held by"),
            election(url, observer=watch).hold(timeout_s=1.5),
        ):
            pytest.fail("the child may be working")
        assert "evidence" not in [sighting.event for sighting in watch.seen]
    finally:
        os.kill(child, signal.SIGKILL)
    with election(url).hold(timeout_s=10) as term:
        term.check()


def test_with_a_living_child_the_time_to_live_is_waited_out(start: Start, url: str) -> None:
    body = "child = os.fork() or (signal.pause(), os._exit(0)); say('child', child)"
    program = start(HOLD.format(body=body), url, "3")
    program.expect("elected")
    child = int(program.expect("child").split()[1])
    try:
        program.expect("holds")
        killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.kill(program.pid, signal.SIGKILL)
        os.waitpid(program.pid, 0)
        with election(url, ttl_s=3).hold(timeout_s=LIMIT_S):
            waited_s = time.clock_gettime(time.CLOCK_BOOTTIME) - killed_at
        assert waited_s >= 2.5 - 3 / 4, "it was taken over before its time"
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_that_closes_its_descriptors_is_not_covered(start: Start, url: str) -> None:
    """As it says in `locks`: whoever wants its children covered uses `incumbent run`."""
    body = (
        "child = os.fork() or (os.closerange(3, 1000), say('closed', os.getpid()),"
        " os.closerange(0, 3), signal.pause(), os._exit(0))"
    )
    program = start(HOLD.format(body=body), url, str(TTL_S))
    program.expect("elected")
    said = [program.line(), program.line()]
    child = next(int(line.split()[1]) for line in said if line.startswith("closed"))
    try:
        os.kill(program.pid, signal.SIGKILL)
        os.waitpid(program.pid, 0)
        with election(url).hold(timeout_s=10):
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_stopped_holder_is_not_dead(start: Start, url: str) -> None:
    program = start(HOLD.format(body="pass"), url, str(TTL_S))
    program.expect("elected")
    program.expect("holds")
    program.send(signal.SIGSTOP)
    watch = Watch()
    with pytest.raises(NotElected), election(url, observer=watch).hold(timeout_s=1):
        pytest.fail("two hold")
    assert "evidence" not in [sighting.event for sighting in watch.seen]
    program.send(signal.SIGCONT)
    program.tell()
    assert program.wait() == 0


def test_a_closed_store_gives_no_evidence_against_its_own_process(path: Path) -> None:
    async def main() -> None:
        store, other = SqliteStore(path), SqliteStore(path)
        await store.open()
        await other.open()
        mine = Candidate(SqliteHarness(path.parent), store, "me")
        await mine.take("e")
        session = mine.session
        assert session is not None
        await store.close()
        assert not other._locks.is_free(session.key)
        events: list[object] = []
        other.follow("e", events.append)
        await meanwhile(lambda: bool(events))
        await asyncio.sleep(0.1)  # sleep: time for evidence that must not come
        assert not any(isinstance(event, Evidence) for event in events)
        await other.close()

    run(main)


def test_an_ended_session_of_a_dead_process_is_swept_away(start: Start, url: str) -> None:
    path = Path(url.removeprefix("sqlite://"))
    for _ in range(3):
        program = start(HOLD.format(body="pass"), url, str(TTL_S))
        while not program.line().startswith("holds"):
            continue
        program.send(signal.SIGKILL)
        program.wait()
    with election(url).hold(timeout_s=10):
        pass
    Election("f", store=f"{url}").hold(timeout_s=10).__enter__()
    run(lambda: _open_and_close(path))
    with sqlite3.connect(path) as db:
        live = {key for (key,) in db.execute("SELECT key FROM session WHERE beat <> -1")}
    db.close()
    assert {file.stem for file in LockFolder(Path(f"{path}-locks")).files()} <= live


async def _open_and_close(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()


def test_nobody_sees_a_new_lock_file_unlocked(tmp_path: Path) -> None:
    """Who sweeps would take it for a relic, and its holder would die without evidence."""
    folder, other = LockFolder(tmp_path / "locks"), LockFolder(tmp_path / "locks")
    folder.create()
    over = threading.Event()
    free: list[Path] = []

    def sweep() -> None:
        while not over.is_set():
            free.extend(file for file in other.files() if other.is_free(file.stem))

    thread = threading.Thread(target=sweep)
    thread.start()
    fds = [folder.hold(f"key{number}") for number in range(500)]
    over.set()
    thread.join()
    assert free == []
    assert not list((tmp_path / "locks").glob("*.new"))
    for fd in fds:
        os.close(fd)


def test_a_takeover_voids_the_session_of_the_dead(path: Path) -> None:
    async def main() -> None:
        harness = SqliteHarness(path.parent)
        path.parent.mkdir()
        dead, heir = await Candidate.new(harness, "dead"), await Candidate.new(harness, "heir")
        await dead.take("one")
        held = await dead.take("two")
        await heir.take("one", over=await heir.read("one"))
        with pytest.raises(StoreError):
            await dead.renew("two")
        after = await heir.read("two")
        assert (after.holding, after.term) == (Holding.VACANT, held.term)
        taken = await heir.take("two", over=after)
        assert (taken.token or 0) > (held.token or 0)
        await harness.close()

    run(main)


# ---- what people do to files


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced", "folder moved", "log deleted"])
def test_the_holder_is_deposed_as_soon_as_its_file_is_gone(what: str, path: Path) -> None:
    """Not by its next renewal, which here is seconds away."""
    watch = Watch()

    @election(f"sqlite://{path}", ttl_s=60, observer=watch).hold(timeout_s=LIMIT_S)
    def body() -> None:
        if what == "deleted":
            path.unlink()
        elif what == "moved":
            path.rename(path.with_name("elsewhere.db"))
        elif what == "replaced":
            path.with_name("new.db").touch()
            path.with_name("new.db").rename(path)
        elif what == "folder moved":
            path.parent.rename(path.parent.with_name("elsewhere"))
        else:
            Path(f"{path}-wal").unlink()
        began = time.monotonic()
        watch.until("stopping")
        assert time.monotonic() - began < 5

    with pytest.raises(LeadershipLost, match="the record changed under us"):
        body()
    watch.until("stopping")


def test_what_was_taken_on_a_deleted_file_is_not_known(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file goes between the look at it and the commit."""

    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        candidate = await Candidate.new(harness, "me")
        await candidate.claim()
        store = candidate.store
        assert isinstance(store, SqliteStore)
        tables = store._tables
        assert tables is not None
        take = tables.take

        def in_time(name: str, claim: Claim, over: Snapshot) -> Held:
            path.unlink()
            return take(name, claim, over)

        monkeypatch.setattr(tables, "take", in_time)
        with pytest.raises(OutcomeUnknown, match="replaced"):
            await store.take("e", await candidate.claim(), await store.read("e"))
        assert (await store.read("e")).holding is Holding.ABSENT
        await harness.close()

    run(main)


def test_an_absence_from_a_deleted_file_is_not_taken_in_its_successor(path: Path) -> None:
    """Who saw it in the old file has not seen who held there since."""

    async def main() -> None:
        one, other = SqliteStore(path), SqliteStore(path)
        await one.open()
        before = await one.read("billing")
        for file in path.parent.glob(path.name + "*"):
            if file.is_file():
                file.unlink()
        await other.open()
        session = await one.open_session("one_1", 5.0)
        claim = Claim("one_1", "one_1/1.1", 5.0, session)
        with pytest.raises(Refused) as caught:
            await one.take("billing", claim, before)
        assert caught.value.snapshot.holding is Holding.ABSENT
        await one.take("billing", claim, caught.value.snapshot)
        await one.close()
        await other.close()

    run(main)


def test_tokens_grow_over_deletion(path: Path) -> None:
    tokens: list[int | None] = []
    for deed in ("nothing", "row", "file", "file", "nothing"):
        if deed == "row":
            tamper(path, "DELETE FROM election")
        elif deed == "file":
            shutil.rmtree(path.parent)
        with Election("e", store=f"sqlite://{path}", ttl_s=1).hold(timeout_s=LIMIT_S) as term:
            tokens.append(term.token)
    assert None not in tokens
    assert tokens == sorted(set(tokens), key=lambda token: token or 0)


def test_without_its_bell_and_its_locks_it_goes_on(start: Start, url: str, path: Path) -> None:
    program = start(HOLD.format(body="pass"), url, "2")
    while not program.line().startswith("holds"):
        continue
    shutil.rmtree(f"{path}-locks")
    os.unlink(f"{path}-bell")
    # Without a bell the store looks like another one: the holder may be deposed, never doubled.
    with election(url, ttl_s=2).hold(timeout_s=LIMIT_S) as term:
        term.check()
        assert Path(f"{path}-bell").exists()
    program.tell()
    assert program.wait() in (0, 1)


def test_a_removed_folder_of_locks_is_made_anew(url: str, path: Path) -> None:
    with election(url, ttl_s=20).hold(timeout_s=LIMIT_S):
        shutil.rmtree(f"{path}-locks")
        with Election("other", store=url, ttl_s=10).hold(timeout_s=10) as term:
            assert len(os.listdir(f"{path}-locks")) == 1
            assert term.pass_fds


def test_a_deleted_row_deposes_its_holder(url: str, path: Path) -> None:
    """Somebody else would find no record, and take it: absent is vacant here."""
    watch = Watch()

    @election(url, ttl_s=20, observer=watch).hold(timeout_s=LIMIT_S)
    def body() -> None:
        tamper(path, "DELETE FROM election WHERE name = 'e'")
        watch.until("stopping")

    with pytest.raises(LeadershipLost, match="has no record"):
        body()


def test_a_deaf_holder_misses_a_deleted_row_at_its_next_renewal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        holder = await Candidate.new(harness, "a")
        seen: list[Snapshot] = []

        def sink(event: Seen | Evidence) -> None:
            if isinstance(event, Seen):
                seen.append(event.snapshot)

        store = holder.store
        assert isinstance(store, SqliteStore)
        store.follow("e", sink)
        held = await holder.take("e")
        await meanwhile(partial(_last_is, seen, held.term))
        monkeypatch.setattr(store._inotify, "read", lambda: iter(()))
        tamper(path, "DELETE FROM election WHERE name = 'e'")
        await holder.renew("e")
        await meanwhile(lambda: seen[-1].holding is Holding.ABSENT)
        monkeypatch.undo()
        await harness.close()

    run(main)


def _last_is(seen: list[Snapshot], term: str) -> bool:
    return bool(seen) and seen[-1].term == term


def test_watches_of_locks_that_nobody_needs_are_given_back(path: Path) -> None:
    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        watcher = await harness.store()
        seen: list[Snapshot] = []

        def sink(event: Seen | Evidence) -> None:
            if isinstance(event, Seen):
                seen.append(event.snapshot)

        watcher.follow("e", sink)
        most = 0
        holders = [await Candidate.new(harness, f"h{number}") for number in range(5)]
        for holder in holders:
            held = await holder.take("e")
            await meanwhile(partial(_last_is, seen, held.term))
            most = max(most, len(watcher._lock_watch))
            await holder.release(held)
        assert most == 1
        # The watch that is left over serves again when the same session is back.
        held = await holders[-1].take("e")
        await meanwhile(partial(_last_is, seen, held.term))
        assert list(watcher._lock_watch) == [held.lease.key]
        assert held.lease.key in watcher._watched_lock.values()
        await harness.close()

    run(main)


def test_a_row_that_is_deleted_without_a_word_deposes_its_holder(url: str, path: Path) -> None:
    """Another program moves no counter and rings no bell; but it closes the database."""
    watch = Watch()
    delete = """
        import sqlite3, sys
        with sqlite3.connect(sys.argv[1]) as db:
            db.execute("DELETE FROM election WHERE name = 'e'")
    """
    hours_s = 36_000  # A renewal, which rings, is far away.

    @election(url, ttl_s=hours_s, observer=watch).hold(timeout_s=LIMIT_S)
    def body() -> None:
        subprocess.run([sys.executable, "-c", textwrap.dedent(delete), path], check=True)
        watch.until("stopping")

    with pytest.raises(LeadershipLost, match="has no record"):
        body()


def test_a_row_that_is_deleted_before_its_holder_has_read_it_is_missed(path: Path) -> None:
    """Found by the simulator: the holder kept its term beside another's.

    Ten times, since a look that is under way already may find the row before it is deleted.
    """

    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        holder = await Candidate.new(harness, "a")
        seen: dict[str, Snapshot] = {}

        def sink(event: Seen | Evidence) -> None:
            if isinstance(event, Seen):
                seen[event.snapshot.name] = event.snapshot

        for name in (f"e{number}" for number in range(10)):
            holder.store.follow(name, sink)
            await meanwhile(partial(seen.__contains__, name))
            held = await holder.take(name)
            tamper(path, f"DELETE FROM election WHERE name = '{name}'")
            await meanwhile(partial(_gone_since, seen, held))
        await harness.close()

    run(main)


def _gone_since(seen: dict[str, Snapshot], held: Held) -> bool:
    last = seen[held.name]
    return last.holding is Holding.ABSENT and last.serial > held.snapshot.serial


def test_a_take_whose_caller_stopped_waiting_is_told_to_the_others(path: Path) -> None:
    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        taker, watcher = await Candidate.new(harness, "a"), await Candidate.new(harness, "b")
        terms: list[str] = []

        def sink(event: Seen | Evidence) -> None:
            if isinstance(event, Seen):
                terms.append(event.snapshot.term)

        watcher.store.follow("e", sink)
        await meanwhile(lambda: bool(terms))
        over, claim = await taker.read("e"), await taker.claim()
        busy = sqlite3.connect(path, isolation_level=None)
        busy.execute("BEGIN IMMEDIATE")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await taker.store.take("e", claim, over)
        busy.execute("COMMIT")
        await meanwhile(lambda: terms[-1] == claim.term)
        busy.close()
        await harness.close()

    run(main)


def test_a_lost_event_is_made_up_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """inotify says that it lost some: then everything is looked at."""

    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        holder, watcher = await Candidate.new(harness, "a"), await Candidate.new(harness, "b")
        seen: list[Snapshot] = []

        def sink(event: Seen | Evidence) -> None:
            if isinstance(event, Seen):
                seen.append(event.snapshot)

        store = watcher.store
        assert isinstance(store, SqliteStore)
        assert store._inotify is not None
        store.follow("e", sink)
        await meanwhile(lambda: bool(seen))
        monkeypatch.setattr(store._inotify, "read", lambda: iter(()))
        held = await holder.take("e")
        await asyncio.sleep(0.05)  # sleep: time for an event that is lost
        assert seen[-1].holding is Holding.ABSENT
        monkeypatch.setattr(store._inotify, "read", lambda: iter([(-1, inotify.OVERFLOWN)]))
        store._notified()
        await meanwhile(lambda: seen[-1].term == held.term)
        monkeypatch.undo()
        await harness.close()

    run(main)


def test_too_few_watches_are_said_and_not_polled_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(self: inotify.Inotify) -> None:
        raise StoreUnusable("the kernel's limit is reached: raise fs.inotify.max_user_instances")

    monkeypatch.setattr(inotify.Inotify, "__init__", none_left)
    with (
        pytest.raises(StoreUnusable, match=r"could not be woken.*max_user_instances"),
        election(f"sqlite://{path}").hold(),
    ):
        pytest.fail("deaf")


# ---- files that are not ours, or are ours no more


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="another program"), election(f"sqlite://{path}").hold():
        pytest.fail("not ours")
    assert path.read_bytes() == before


def test_another_format_is_said(path: Path) -> None:
    run(lambda: _open_at(path))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 7")
    db.close()
    with (
        pytest.raises(StoreUnusable, match="format 7; this incumbent knows format 1"),
        election(f"sqlite://{path}").hold(),
    ):
        pytest.fail("not understood")


async def _open_at(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    await _open_and_close(path)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"x" * 4096])
def test_what_is_no_database_is_said_and_left_alone(content: bytes, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreUnusable), election(f"sqlite://{path}").hold():
        pytest.fail("damaged")
    assert path.read_bytes() == content


def test_a_damaged_page_is_no_election(path: Path) -> None:
    with election(f"sqlite://{path}").hold():
        pass
    time_limit = time.monotonic() + LIMIT_S
    while Path(f"{path}-wal").exists() and time.monotonic() < time_limit:
        time.sleep(0.05)  # sleep: the store is closed some time after its last user
    data = bytearray(path.read_bytes())
    for offset in range(4096, len(data)):
        data[offset] ^= 0xA5
    path.write_bytes(data)
    with pytest.raises((StoreError, NotElected)), election(f"sqlite://{path}").hold(timeout_s=1):
        pytest.fail("damaged")


GARBAGE = [
    ("format", 2),
    ("format", "one"),
    ("serial", "late"),
    ("token", 1.5),
    ("holder", b"\xff\xfe"),
    ("term", 7.5),
    ("session", b"x"),
    ("successor", b""),
    ("request_term", b"\0"),
    ("holder", "CAST(x'ff61' AS TEXT)"),
    ("term", "CAST(x'80' AS TEXT)"),
]


@pytest.mark.parametrize(("column", "value"), GARBAGE, ids=str)
def test_a_row_of_garbage_is_foreign_and_harms_no_other(
    column: str, value: object, path: Path
) -> None:
    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        candidate = await Candidate.new(harness, "me")
        await candidate.take("bad")
        await candidate.take("good")
        serial = "" if column == "serial" else ", serial = (SELECT serial FROM counter)"
        raw = isinstance(value, str) and value.startswith("CAST")
        statement = f"UPDATE election SET {column} = {value if raw else '?'}{serial}"
        tamper(path, statement + " WHERE name = 'bad'", *(() if raw else (value,)))
        seen: dict[str, Holding] = {}
        for name in ("bad", "good"):

            def sink(event: Seen | Evidence, name: str = name) -> None:
                if isinstance(event, Seen):
                    seen[name] = event.snapshot.holding

            candidate.store.follow(name, sink)
        # TEXT affinity makes a text of the number: a term that is nobody's.
        is_text = column == "term" and value == 7.5
        expected = Holding.HELD if is_text else Holding.FOREIGN
        # Not at the first news: a look from before the damage may be reported after it.
        await meanwhile(lambda: seen == {"bad": expected, "good": Holding.HELD})
        if expected is Holding.FOREIGN:
            foreign = await candidate.read("bad")
            with pytest.raises(StoreError):
                await candidate.take("bad", over=foreign)
            assert (await candidate.read("bad")).holding is Holding.FOREIGN
        assert {snapshot.name for snapshot in await candidate.store.elections()} == {"bad", "good"}
        await harness.close()

    run(main)


def test_a_foreign_record_is_never_taken_over(path: Path) -> None:
    run(lambda: _held_by_the_dead(path))
    tamper(path, "UPDATE election SET format = 2, serial = (SELECT serial FROM counter)")
    with (
        pytest.raises(NotElected, match="not ours"),
        election(f"sqlite://{path}", ttl_s=0.5).hold(timeout_s=2),
    ):
        pytest.fail("taken over")


async def _held_by_the_dead(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    harness = SqliteHarness(path.parent)
    await (await Candidate.new(harness, "dead")).take("e")
    await harness.close()


# ---- the file system


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_the_term_ends_in_time_and_comes_back_with_the_room(
    small_disk: Path,
) -> None:
    path = small_disk / "incumbent.db"
    watch = Watch()
    done = threading.Event()
    terms: list[int | None] = []

    def lead() -> None:
        def work(term: object) -> str | None:
            assert isinstance(term, Term)
            terms.append(term.token)
            if len(terms) > 1:
                return "again"
            assert term.lost.wait(LIMIT_S)
            return None

        assert election(f"sqlite://{path}", ttl_s=2, observer=watch).lead(work) == "again"
        done.set()

    thread = threading.Thread(target=lead)
    thread.start()
    watch.until("elected")
    filler = small_disk / "filler"
    with suppress_full(), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            continue
    watch.until("stopping")
    with (
        pytest.raises((StoreError, NotElected)),
        Election("f", store=f"sqlite://{path}", ttl_s=2).hold(timeout_s=1),
    ):
        pytest.fail("elected without room for it")
    filler.unlink()
    assert done.wait(LIMIT_S)
    thread.join(LIMIT_S)
    assert len(set(terms)) == 2


class suppress_full:
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def test_a_database_cannot_be_made_on_a_full_disk(small_disk: Path) -> None:
    with suppress_full(), (small_disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 1024):
            continue
    with (
        pytest.raises((StoreFull, StoreUnavailable)),
        election(f"sqlite://{small_disk}/a/incumbent.db").hold(),
    ):
        pytest.fail("no room")


def test_without_the_right_it_is_said_which(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    program = f"""
from incumbent import Election
from incumbent.errors import PermissionDenied
try:
    Election("e", store="sqlite://{tmp_path}/x/incumbent.db").hold().__enter__()
except PermissionDenied as error:
    print(error)
"""
    done = subprocess.run(
        [*ORDINARY, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"no right to write {tmp_path}" in done.stdout, done.stderr


MOUNTS = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:40 / {point} rw shared:1 - {kind} server:/export rw
"""


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("nfs4", True),
        ("nfs", True),
        ("cifs", True),
        ("9p", True),
        ("virtiofs", True),
        ("fuse.sshfs", True),
        ("fuse", True),
        ("ceph", True),
        ("ext4", False),
        ("xfs", False),
        ("btrfs", False),
        ("tmpfs", False),
        ("overlay", False),
        ("fuseblk", False),
    ],
)
@pytest.mark.parametrize("folder", ["data", "with space", "donn\u00e9es", "a\tb", "back\\slash"])
def test_a_network_file_system_is_refused(
    kind: str, refused: bool, folder: str, tmp_path: Path
) -> None:
    place = tmp_path / folder
    place.mkdir()
    point = str(place)
    for character in "\\ \t\n":
        point = point.replace(character, f"\\{ord(character):03o}")
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.format(point=point, kind=kind), encoding="utf-8")
    path = place / "not" / "yet" / "incumbent.db"
    assert filesystem.kind(path, table) == kind
    text = filesystem.refusal(path, filesystem.kind(path, table))
    assert bool(text) is refused
    assert not refused or ("several could lead" in text and str(path) in text)


def test_a_refusal_reaches_the_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "kind", lambda path: "nfs4")
    with pytest.raises(StoreUnusable, match="nfs4, a network"), election(f"sqlite://{path}").hold():
        pytest.fail("refused")


# ---- many at once


def test_many_processes_make_the_same_database_at_the_same_moment(
    start: Start, tmp_path: Path
) -> None:
    """Round after round: the moment between the two looks at a new file is short."""
    source = """
        say("ready")
        while url := hear():
            try:
                with Election("e", store=url, ttl_s=10).hold(timeout_s=30) as term:
                    Mark(url.removeprefix("sqlite://") + ".marks", term.token)()
                    say("held")
            except BaseException as error:
                say("failed", repr(error).replace(chr(10), " "))
    """
    rounds = 4
    programs = [start(source) for _ in range(20)]
    for program in programs:
        program.expect("ready")
    for number in range(rounds):
        for program in programs:
            program.tell(f"sqlite://{tmp_path}/{number}.db")
        for program in programs:
            program.expect("held")
        assert len(assert_no_overlap(tmp_path / f"{number}.db.marks")) == len(programs)
    for program in programs:
        program.tell("")
    for program in programs:
        assert program.wait() == 0


def test_eight_fight_and_are_killed_and_never_two_at_once(start: Start, url: str) -> None:
    path = Path(f"{url.removeprefix('sqlite://')}.marks")
    source = """
        def work(term):
            mark = Mark(sys.argv[2], term.token)
            while not term.lost.wait(0.001):
                term.check()
                mark()

        say("ready")
        Election("e", store=sys.argv[1], ttl_s=10, as_="twin").lead(work)
    """
    programs = [start(source, url, str(path)) for _ in range(8)]
    for program in programs:
        program.expect("ready")
    by_pid = {program.pid: program for program in programs}
    killed = 0
    while killed < 6:
        until(lambda: bool(marks(path)) and marks(path)[-1][1] in by_pid, "somebody works")
        victim = by_pid.pop(marks(path)[-1][1])
        victim.send(signal.SIGKILL if killed % 3 else signal.SIGTERM)
        victim.wait()
        killed += 1
    tokens = assert_no_overlap(path)
    assert len(tokens) >= killed


def test_a_wall_clock_that_steps_changes_nothing(
    start: Start, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only wall clock is where a new database's tokens start."""
    program = start(HOLD.format(body="pass"), url, "2")
    while not program.line().startswith("holds"):
        continue
    real = time.time
    for step_s in (3600.0, -3600.0, 86400.0 * 365):
        monkeypatch.setattr(time, "time", lambda step_s=step_s: real() + step_s)
        with pytest.raises(NotElected), election(url, ttl_s=2).hold(timeout_s=0.5):
            pytest.fail("two hold")
    program.tell()
    assert program.wait() == 0


def test_closing_during_a_take_leaves_no_doubt_behind(path: Path) -> None:
    async def main() -> None:
        path.parent.mkdir()
        for _ in range(20):
            harness = SqliteHarness(path.parent)
            candidate = await Candidate.new(harness, "me")
            over, claim = await candidate.read("e"), await candidate.claim()
            taking = asyncio.ensure_future(candidate.store.take("e", claim, over))
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(candidate.store.close())
            results = await asyncio.gather(taking, closing, return_exceptions=True)
            reader = await Candidate.new(harness, "reader")
            found = await reader.read("e")
            if isinstance(results[0], BaseException):
                assert isinstance(results[0], IncumbentError)
            else:
                assert found.term == claim.term
            await reader.store.close()

    run(main)


# ---- who only looks


def test_who_only_looks_creates_nothing_at_any_time(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    path = folder / "incumbent.db"

    async def main() -> None:
        looker, store = SqliteStore(path), SqliteStore(path)
        with pytest.raises(StoreAbsent, match="no database at"):
            await looker.open(create=False)
        await looker.close()
        assert not folder.exists()
        await store.open()
        await looker.open(create=False)
        relic = folder / "incumbent.db-locks" / "relic.lock"
        relic.touch()
        await store.close()
        for file in folder.glob("incumbent.db*"):
            if file.is_file():
                file.unlink()
        for _ in range(2):
            with pytest.raises(StoreAbsent):
                await looker.read("e")
        assert not path.exists()
        await store.open()
        assert (await looker.read("e")).holding is Holding.ABSENT
        assert not relic.exists()
        relic.touch()
        await looker.close()
        await looker.open(create=False)
        await looker.close()
        await store.close()
        assert relic.exists(), "it swept"

    asyncio.run(main())
