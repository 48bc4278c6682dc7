"""The embedded store: its tables, its bell, and what people do to the database."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from incumbent import Election, LeadershipLost, NotElected, StoreError
from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Claim, Held, Holding, Snapshot
from incumbent.errors import (
    OutcomeUnknown,
    Refused,
    StoreAbsent,
    StoreUnusable,
)
from incumbent.stores.local import filesystem
from incumbent.stores.sqlite import SqliteStore
from incumbent.stores.sqlite.tables import Tables
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate
from tests.faces.programs import LIMIT_S, Start, starting
from tests.faces.test_sync import Watch
from tests.stores.local import (
    HOLD,
    SqliteHarness,
    election,
    meanwhile,
    run,
    tamper,
)


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


def test_a_file_with_two_names_is_refused(path: Path) -> None:
    """Under each name it would have a log of its own, and a leader, with the same token."""

    async def main() -> None:
        path.parent.mkdir()
        harness = SqliteHarness(path.parent)
        candidate = await Candidate.new(harness, "me")
        await candidate.claim()
        other = path.with_name("other.db")
        other.hardlink_to(path)
        second = SqliteStore(other)
        try:
            with pytest.raises(StoreUnusable, match="2 names"):
                await second.open()
        finally:
            await second.close()
            await harness.close()

    run(main)


def test_a_forked_child_has_the_file_locks_of_what_it_opens(path: Path) -> None:
    """With the parent's connection in memory, SQLite believes that it has them already."""
    path.parent.mkdir()
    tables = Tables(path, "parent")
    tables.read("e")
    (from_child, to_parent), (from_parent, to_child) = os.pipe(), os.pipe()
    if not (pid := os.fork()):
        try:
            Tables(path, "child").read("e")
            os.write(to_parent, b".")
            os.read(from_parent, 1)
        finally:
            os._exit(0)
    try:
        assert os.read(from_child, 1) == b"."
        tables.close()
        log = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
        before = [os.stat(file).st_ino for file in log]
        # Whoever is the last one removes them; the child is still there.
        Tables(path, "other").close()
        assert [os.stat(file).st_ino for file in log] == before
    finally:
        os.write(to_child, b".")
        os.waitpid(pid, 0)
        for fd in (from_child, to_parent, from_parent, to_child):
            os.close(fd)


def test_a_file_that_is_mounted_without_its_folder_is_refused(path: Path, tmp_path: Path) -> None:
    """As by `docker run -v FILE:FILE`: log, bell and locks lie in the container's own folder."""
    path.parent.mkdir()
    path.touch()
    table = tmp_path / "mountinfo"
    lines = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw",
        f"90 22 8:1 {path.parent} {path.parent} rw - ext4 /dev/sda1 rw",
    )
    table.write_text("\n".join(lines) + "\n")
    assert filesystem.other_name(path, table) == ""
    table.write_text(f"91 22 8:1 /srv/app.db {path} rw - ext4 /dev/sda1 rw\n")
    assert "mounted alone" in filesystem.other_name(path, table)


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
        tables = store._records
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
    store = SqliteStore(path)
    await store.open()
    await store.close()


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
