"""The store of plain files: its swaps, and what people do to a folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from incumbent import Election, LeadershipLost, NotElected
from incumbent.core.records import Bar, Checkpoint, Claim, Holding, Lease
from incumbent.errors import (
    CheckpointMoved,
    ConfigError,
    OutcomeUnknown,
    Refused,
    StoreAbsent,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import open_store
from incumbent.stores.file import FileStore
from incumbent.stores.file.records import FileRecords
from incumbent.stores.local import filesystem, inotify
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate
from tests.cli.test_bad_stores import mounted
from tests.faces.programs import LIMIT_S, Program, Start, python, starting
from tests.faces.test_sync import Watch
from tests.processes import ORDINARY
from tests.stores.local import (
    HOLD,
    TTL_S,
    FileHarness,
    Sights,
    change_file,
    election,
    last_is,
    meanwhile,
    run,
)


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_it_is_a_store(case: conformance.Case, tmp_path: Path) -> None:
    conformance.run(case, lambda: FileHarness(tmp_path))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a few lines of Python; its arguments are in `sys.argv`."""
    yield from starting()


@pytest.fixture
def place(tmp_path: Path) -> FileHarness:
    return FileHarness(tmp_path)


@pytest.fixture
def records(place: FileHarness) -> Iterator[FileRecords]:
    made = FileRecords(place.path)
    yield made
    made.close()


def claim(records: FileRecords, who: str, number: int = 1) -> Claim:
    """Return a claim under a new session."""
    lease = records.open_session(f"{who}-{number}", who, 5.0)
    return Claim(who, f"{who}/r.{number}", 5.0, lease)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what stands in all files of a folder and below."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def leftovers(place: FileHarness) -> list[Path]:
    return list(place.path.glob("new-*"))


# ---- what stands in the files


def test_a_shell_can_read_it(records: FileRecords, place: FileHarness) -> None:
    held = records.take("e", claim(records, "me"), records.read("e"))
    assert held.token == int((place.path / "counter").read_text())
    assert json.loads(place.record("e").read_bytes()) == {
        "format": 1,
        "holder": "me",
        "request": None,
        "serial": held.token,
        "session": "me-1",
        "successor": "",
        "term": "me/r.1",
        "token": held.token,
        "ttl_s": 5.0,
    }
    assert json.loads(place.session("me-1").read_bytes())["beat"] == 0
    for name, value in contents(place.path).items():
        assert value.endswith(b"\n") or (name, value) == ("elections/.e", b"")


def test_members_that_we_do_not_know_are_kept_for_a_term(
    records: FileRecords, place: FileHarness
) -> None:
    held = records.take("e", claim(records, "me"), records.read("e"))
    change_file(place.record("e"), note="why")
    records.release(held, "")
    assert json.loads(place.record("e").read_bytes())["note"] == "why"
    records.take("e", claim(records, "me", 2), records.read("e"))
    assert "note" not in json.loads(place.record("e").read_bytes())


RECORD: dict[str, Any] = {
    "format": 1,
    "holder": "me",
    "request": None,
    "serial": 7,
    "session": "",
    "successor": "",
    "term": "me/r.1",
    "token": 7,
    "ttl_s": 5.0,
}

GARBAGE = [
    b"\n",
    b"{",
    b"[]",
    b"[" * 60_000,
    b"\xff\xfe",
    *(
        json.dumps({**RECORD, key: value}).encode()
        for key, value in [
            ("format", 2),
            ("format", "1"),
            ("holder", None),
            ("holder", "\ud800"),
            ("request", {}),
            ("request", {"term": "x", "to": 1}),
            ("request", "x"),
            ("serial", -1),
            ("serial", 1.0),
            ("serial", True),
            ("serial", 10**40),
            ("session", "../../etc/passwd"),
            ("session", "a/b"),
            ("session", "x" * 300),
            ("successor", 1),
            ("term", []),
            ("token", None),
            ("ttl_s", 0),
            ("ttl_s", "5"),
            ("ttl_s", float("nan")),
            ("ttl_s", float("inf")),
        ]
    ),
    json.dumps(RECORD).encode() + b" " * 70_000 + b"{}",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_foreign_and_harms_no_other(
    garbage: bytes, records: FileRecords, place: FileHarness
) -> None:
    mine = claim(records, "me")
    good = records.take("good", mine, records.read("good"))
    bad = records.take("bad", mine, records.read("bad"))
    place.record("bad").write_bytes(garbage)
    seen = records.read("bad")
    assert (seen.holding, bool(seen.why)) == (Holding.FOREIGN, True)
    assert seen.serial > bad.snapshot.serial, "its holder would not believe what is older"
    with pytest.raises(Refused):
        records.take("bad", claim(records, "other"), seen)
    assert records.release(bad, "").holding is Holding.FOREIGN
    assert place.record("bad").read_bytes() == garbage
    assert records.read("good") == good.snapshot
    assert [one.holding for one in records.elections()] == [Holding.FOREIGN, Holding.HELD]


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_what_is_no_file_is_foreign(what: str, records: FileRecords, place: FileHarness) -> None:
    path = place.record("e")
    if what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to("/etc/hostname")
    else:
        os.mkfifo(path)
    seen = records.read("e")
    assert seen.holding is Holding.FOREIGN
    with pytest.raises(Refused):
        records.take("e", claim(records, "me"), seen)


def test_what_an_editor_leaves_is_no_election(records: FileRecords, place: FileHarness) -> None:
    held = records.take("e", claim(records, "me"), records.read("e"))
    for name in (".e.json.swp", "e.json~", "E.json", "-.json", "e"):
        shutil.copy(place.record("e"), place.record("e").with_name(name))
    assert records.elections() == [held.snapshot]


# ---- records that people remove, or a power cut


@pytest.mark.parametrize("value", [b"", b"\0" * 300])
def test_what_a_power_cut_leaves_of_a_record_counts_as_removed(
    value: bytes, records: FileRecords, place: FileHarness
) -> None:
    held = records.take("e", claim(records, "me"), records.read("e"))
    place.record("e").write_bytes(value)
    seen = records.read("e")
    assert (seen.holding, seen.ttl_s) == (Holding.ABSENT, 5.0)
    assert seen.serial > held.snapshot.serial
    records.take("e", claim(records, "heir"), seen)


def test_a_record_that_was_removed_is_told_from_one_that_never_was(
    records: FileRecords, place: FileHarness
) -> None:
    assert (records.read("e").holding, records.read("e").ttl_s) == (Holding.ABSENT, 0.0)
    short, long = (records.open_session(f"{ttl_s:g}-1", "x", ttl_s) for ttl_s in (5.0, 40.0))
    held = records.take("e", Claim("me", "me/r.1", 5.0, short), records.read("e"))
    place.record("e").unlink()
    assert records.read("e").ttl_s == 40.0
    assert records.read("other").ttl_s == 0.0
    records.close_session(long.key)
    assert records.read("e").ttl_s == 5.0
    records.release(held, "")
    records.close_session(short.key)
    assert records.read("e").ttl_s == 0.0, "nobody can hold it"
    assert records.elections() == []


def test_an_absence_from_before_the_record_is_another(
    records: FileRecords, place: FileHarness
) -> None:
    """Who looked before it came, and takes after it was removed, has waited for nothing."""
    before = records.read("e")
    records.take("e", claim(records, "me"), before)
    place.record("e").unlink()
    late = claim(records, "late")
    with pytest.raises(Refused) as refused:
        records.take("e", late, before)
    now = refused.value.snapshot
    assert now.watched != before.watched, "who is refused counts anew"
    records.take("e", late, now)


def test_who_removes_a_record_under_a_stopped_holder_makes_no_second_one(
    start: Start, place: FileHarness
) -> None:
    """Whoever comes now has never seen it, and waits for as long as who had."""
    program = start(HOLD.format(body="pass"), place.url, "3")
    while not program.line().startswith("holds"):
        continue
    program.send(signal.SIGSTOP)
    place.record("e").unlink()
    removed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    with election(place.url, ttl_s=1).hold(timeout_s=LIMIT_S):
        waited_s = time.clock_gettime(time.CLOCK_BOOTTIME) - removed_at
    assert waited_s >= 3.0, "the holder's TTL, which is longer than ours"


# ---- swaps


def _fails(monkeypatch: pytest.MonkeyPatch, function: str, at: int, code: int) -> None:
    """Have a function of the system fail when it is called for the `at`th time."""
    real: Callable[..., Any] = getattr(os, function)
    left = iter(range(at, -1, -1))

    def failing(*values: Any, **more: Any) -> Any:
        if next(left, -1) == 0:
            raise OSError(code, os.strerror(code))
        return real(*values, **more)

    monkeypatch.setattr(os, function, failing)


@pytest.mark.parametrize(
    ("function", "at"),
    [("open", 4), ("open", 5), ("write", 0), ("write", 1), ("pwrite", 0), ("rename", 0)],
)
def test_a_swap_that_cannot_be_changes_nothing(
    function: str, at: int, records: FileRecords, place: FileHarness, monkeypatch: Any
) -> None:
    """Counter, the session of the deposed, and the record: on a full disk none of them."""
    records.take("e", claim(records, "dead"), records.read("e"))
    heir, over = claim(records, "heir"), records.read("e")
    before = contents(place.path)
    # Opened before: the lock, our session, twice the counter, the session of the deposed.
    monkeypatch.setattr(records, "_look", lambda name: (over, None))
    at += function == "open"
    _fails(monkeypatch, function, at, errno.ENOSPC)
    with pytest.raises(StoreFull, match="nothing was changed"):
        records.take("e", heir, over)
    monkeypatch.undo()
    after = contents(place.path)
    if function == "rename":
        del before["counter"], after["counter"]  # A number that nobody has.
    assert after == before
    records.take("e", heir, over)


def test_a_swap_that_is_cut_short_is_unknown(
    records: FileRecords, place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.take("e", claim(records, "dead"), records.read("e"))
    heir, over = claim(records, "heir"), records.read("e")
    _fails(monkeypatch, "rename", 1, errno.EIO)
    with pytest.raises(OutcomeUnknown):
        records.take("e", heir, over)
    monkeypatch.undo()
    assert leftovers(place) == [], "the next swap would meet it"
    assert records.held("e", heir) == records.read("e"), "it did not happen"
    taken = records.take("e", heir, records.read("e"))
    assert (taken.token or 0) > (over.token or 0)


def test_what_is_confirmed_is_on_the_disk(
    records: FileRecords, place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, over = claim(records, "me"), records.read("e")
    log: list[str] = []
    sync, rename, pwrite = os.fdatasync, os.rename, os.pwrite

    def noted_sync(fd: int) -> None:
        sync(fd)
        log.append(f"{Path(os.readlink(f'/proc/self/fd/{fd}')).name} on the disk")
        with place.busy():
            log.append("nobody waits for it")

    def noted_pwrite(fd: int, value: bytes, offset: int) -> int:
        log.append("counter")
        return pwrite(fd, value, offset)

    def noted_rename(old: str, new: str, **more: Any) -> None:
        rename(old, new, **more)
        log.append(f"to {new}")

    monkeypatch.setattr(os, "fdatasync", noted_sync)
    monkeypatch.setattr(os, "pwrite", noted_pwrite)
    monkeypatch.setattr(os, "rename", noted_rename)
    held = records.take("e", mine, over)
    synced = ["counter on the disk", "nobody waits for it"]
    assert log == ["counter", "to .e", "to e.json", *synced]
    log.clear()
    records.release(held, "")
    assert log == ["counter", "to e.json"]
    log.clear()
    assert mine.session is not None
    records.renew(mine.session)
    assert log == ["to me-1.json"]


def test_a_bar_that_is_confirmed_is_on_the_disk(
    records: FileRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = records.take("e", claim(records, "me"), records.read("e"))
    log: list[str] = []
    sync, rename = os.fsync, os.rename

    def noted_sync(fd: int) -> None:
        sync(fd)
        log.append(f"{Path(os.readlink(f'/proc/self/fd/{fd}')).name} on the disk")

    def noted_rename(old: str, new: str, **more: Any) -> None:
        rename(old, new, **more)
        log.append(f"to {new}")

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "rename", noted_rename)
    records.bar(held.snapshot, Bar("moved", "1"))
    assert log == ["to e.json", "e.json on the disk", "elections on the disk"]
    _fails(monkeypatch, "fsync", 0, errno.EIO)
    with pytest.raises(OutcomeUnknown):
        records.bar(records.read("e"), Bar("moved", "2"))


def test_a_token_that_is_not_on_the_disk_is_not_confirmed(
    records: FileRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, over = claim(records, "me"), records.read("e")
    _fails(monkeypatch, "fdatasync", 0, errno.EIO)
    with pytest.raises(OutcomeUnknown):
        records.take("e", mine, over)


KILLED = """
    import signal
    from pathlib import Path
    from incumbent.core.records import Claim
    from incumbent.stores.file.records import FileRecords

    records = FileRecords(Path(sys.argv[1]))
    lease = records.open_session("heir-1", "heir", 5.0)
    left, rename = iter(range(int(sys.argv[2]), -1, -1)), os.rename

    def killing(*names, **more):
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*names, **more)

    os.rename = killing
    over = records.read("e")
    records.take("e", Claim("heir", "heir/r.1", 5.0, lease), over)
"""


@pytest.mark.parametrize("at", range(2))
def test_a_kill_between_two_renames_leaves_what_could_have_been_wanted(
    at: int, start: Start, records: FileRecords, place: FileHarness
) -> None:
    dead = records.take("e", claim(records, "dead"), records.read("e"))
    program = start(KILLED, str(place.path), str(at))
    assert program.wait() == -9
    assert len(leftovers(place)) == 2 - at
    seen = records.read("e")
    assert seen.holding is (Holding.VACANT if at else Holding.HELD)
    assert seen.term == dead.term
    held = records.take("e", claim(records, "next"), seen)
    assert (held.token or 0) > (dead.token or 0)

    async def main() -> None:
        await place.store()
        assert leftovers(place) == []
        await place.close()

    run(main)


def test_nothing_is_ever_seen_in_between(records: FileRecords, place: FileHarness) -> None:
    """Two take from one another as fast as they can; each state that is read was one."""
    over = threading.Event()
    seen: list[tuple[Holding, str, str, object]] = []
    reader = FileRecords(place.path, create=False)

    def read() -> None:
        while not over.is_set():
            one = reader.read("e")
            seen.append((one.holding, one.holder, one.lease_key, one.lease_version))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(100):
        held = records.take("e", claim(records, f"h{number}"), records.read("e"))
        records.renew(held.lease)
        records.sweep(lambda key: False)
    over.set()
    thread.join()
    reader.close()
    for holding, holder, key, beat in seen[1:]:
        if holding is not Holding.ABSENT:
            assert key.startswith(holder + "-")
            assert beat in (0, 1, "void")
            assert (holding is Holding.VACANT) == (beat == "void")


def test_a_record_that_changes_while_its_session_is_read_is_read_again(
    records: FileRecords, place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one takes over between the two reads, and the session of the first is swept."""
    records.take("e", claim(records, "first"), records.read("e"))
    reader = FileRecords(place.path, create=False)
    load, overtaken = reader._load, False

    def late(folder: Any, name: str) -> Any:
        nonlocal overtaken
        if folder == reader._sessions and not overtaken:
            overtaken = True
            records.take("e", claim(records, "second"), records.read("e"))
            records.sweep(lambda key: False)
        return load(folder, name)

    monkeypatch.setattr(reader, "_load", late)
    seen = reader.read("e")
    reader.close()
    assert overtaken
    assert (seen.holding, seen.holder, seen.lease_version) == (Holding.HELD, "second", 0)


def test_the_same_number_is_never_given_out_twice(
    records: FileRecords, place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the counter, and however the clock is set."""
    monkeypatch.setattr(time, "time", lambda: 1.0)
    tokens: list[int] = []
    counter = place.path / "counter"
    deeds: list[Callable[[], object]] = [
        lambda: None,
        counter.unlink,
        lambda: counter.write_bytes(b""),
        lambda: counter.write_bytes(b"\0" * 14),
        lambda: counter.write_bytes(b"9" * 40),
        lambda: counter.write_bytes("٣".encode()),
        place.record("other").unlink,
    ]
    for number, deed in enumerate(deeds):
        one = FileRecords(place.path, lambda: 1.0)
        for name in ("other", "e"):
            held = one.take(name, claim(one, f"h-{name}", number), one.read(name))
            tokens.append(held.token or 0)
        one.close()
        deed()
    assert tokens == sorted(set(tokens))


# ---- one at a time


def test_two_never_write_at_once(place: FileHarness) -> None:
    """Each raises a number that all share, and takes what was free a moment ago."""
    tokens: list[int] = []
    wins: list[str] = []

    def write(who: str) -> None:
        mine = FileRecords(place.path)
        one = claim(mine, who)
        for number in range(40):
            held = mine.take(f"{who}-own", one, mine.read(f"{who}-own"))
            tokens.append(held.token or 0)
            over = mine.read(f"e{number}")
            with suppress(Refused):
                if over.holding is Holding.ABSENT:
                    mine.take(f"e{number}", one, over)
                    wins.append(f"e{number}")
        mine.close()

    FileRecords(place.path).close()
    threads = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == len(set(tokens)) == 160
    assert sorted(wins) == sorted({f"e{number}" for number in range(40)})


def test_who_is_locked_out_says_so(records: FileRecords, place: FileHarness) -> None:
    mine = claim(records, "me")
    over = records.read("e")
    with place.busy():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            records.take("e", mine, over)
        assert 0.5 < time.monotonic() - began < 5
        assert records.read("e") == over, "whoever only reads is not locked out"
    records.take("e", mine, over)


FORKS = """
    import signal
    from pathlib import Path
    from incumbent.stores.file.records import FileRecords

    def fork(writes, **more):
        child = os.fork()
        if not child:
            signal.pause()
        say(child)
        os.kill(os.getpid(), signal.SIGKILL)

    records = FileRecords(Path(sys.argv[1]))
    records._swap = fork
    records.open_session("x-1", "x", 5.0)
"""


def test_a_child_that_is_forked_during_a_swap_locks_nobody_out(
    start: Start, records: FileRecords, place: FileHarness
) -> None:
    program = start(FORKS, str(place.path))
    child = int(program.line())
    try:
        assert program.process.wait() == -9
        records.take("e", claim(records, "me"), records.read("e"))
        os.kill(child, 0)
    finally:
        os.kill(child, 9)


# ---- sessions


@pytest.mark.parametrize("what", ["gone", "damaged", "of another format"])
def test_a_session_of_which_nothing_is_known_proves_no_death(
    what: str, records: FileRecords, place: FileHarness
) -> None:
    mine = claim(records, "me")
    held = records.take("e", mine, records.read("e"))
    before = records.read("e")
    session = place.session("me-1")
    if what == "gone":
        session.unlink()
    else:
        session.write_bytes(b"\0" * 80 if what == "damaged" else b'{"format": 2}')
    seen = records.read("e")
    assert (seen.holding, seen.term, seen.ttl_s) == (Holding.HELD, held.term, 5.0)
    assert seen.watched != before.watched, "the TTL begins anew"
    with pytest.raises(Refused):
        records.renew(held.lease)
    heir = claim(records, "heir")
    with pytest.raises(Refused):
        records.take("e", heir, before)
    records.take("e", heir, seen)
    assert not session.exists() or json.loads(session.read_bytes())["void"]
    with pytest.raises(Refused):
        records.renew(held.lease)


def test_what_the_dead_have_left_is_swept(records: FileRecords, place: FileHarness) -> None:
    async def main() -> None:
        ended, leading = await Candidate.new(place, "ended"), await Candidate.new(place, "leading")
        await ended.claim()
        held = await leading.take("e")
        session = ended.session
        assert session is not None
        alive = place.session("alive-1")
        records.open_session("alive-1", "alive", 5.0)
        await place.store()
        assert place.session(session.key).exists(), "its lock is held"
        for lock in place.locks().glob(f"{session.key}.lock"):
            lock.unlink()
            lock.touch()
        await place.store()
        assert place.session(session.key).exists(), "the lock is another one"
        await ended.store.close_session(session)
        await place.store()
        assert not place.session(session.key).exists()
        assert place.session(held.lease.key).exists()
        assert alive.exists(), "nothing is known of it"
        await place.close()

    run(main)


def test_a_dead_session_that_nothing_names_is_swept(start: Start, place: FileHarness) -> None:
    source = """
        from pathlib import Path
        from incumbent.stores.file import FileStore

        async def main():
            store = FileStore(Path(sys.argv[1]))
            await store.open()
            say((await store.open_session("x", 5.0)).key)
            hear()

        asyncio.run(main())
    """
    program = start(source, str(place.path))
    key = program.line()
    program.process.kill()
    program.wait()
    assert place.session(key).exists()

    async def main() -> None:
        await place.store()
        assert not place.session(key).exists()
        assert not list(place.locks().glob("*.lock"))
        await place.close()

    run(main)


# ---- being woken


def test_a_renewal_during_the_first_read_is_not_missed(
    place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the record was read nobody knows that the session matters."""

    async def main() -> None:
        holder, watcher = await Candidate.new(place, "a"), FileStore(place.path)
        held = await holder.take("e")
        await watcher.open()
        await meanwhile(lambda: watcher._refreshing is None)
        real, heard = FileRecords.changes, threading.Event()
        notice = watcher._changed

        def noted(event: inotify.Notice) -> None:
            notice(event)
            if event.name.endswith(".json"):
                heard.set()

        def slow(self: FileRecords, **more: Any) -> Any:
            result = real(self, **more)
            if not heard.is_set():
                by_hand = FileRecords(place.path)
                by_hand.renew(Lease(held.lease.key, 0, 5.0, "a"))
                by_hand.close()
                assert heard.wait(LIMIT_S)
            return result

        monkeypatch.setattr(watcher, "_changed", noted)
        monkeypatch.setattr(FileRecords, "changes", slow)
        sink = Sights()
        watcher.follow("e", sink)
        await meanwhile(partial(_beats, sink, 1))
        await watcher.close()
        await place.close()

    run(main)


def test_only_what_was_named_is_read(place: FileHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        holder, watcher = await Candidate.new(place, "a"), await place.store()
        one, other = Sights(), Sights()
        watcher.follow("one", one)
        watcher.follow("other", other)
        await meanwhile(lambda: bool(one.seen and other.seen))
        held = await holder.take("one")
        await meanwhile(lambda: last_is(one.seen, held.term))
        assert len(other.seen) <= 2
        read: list[str] = []
        real = FileRecords._look

        def noted(self: FileRecords, name: str) -> Any:
            read.append(name)
            return real(self, name)

        monkeypatch.setattr(FileRecords, "_look", noted)
        for beat in (1, 2, 3):
            await holder.renew("one")
            await meanwhile(partial(_beats, one, beat))
        assert set(read) == {"one"}
        await place.close()

    run(main)


def test_whoever_follows_hears_that_a_record_was_removed(place: FileHarness) -> None:
    """Nobody renews here, so the removal alone can tell it."""

    async def main() -> None:
        holder, watcher = await Candidate.new(place, "a"), await place.store()
        held = await holder.take("e")
        sink = Sights()
        watcher.follow("e", sink)
        await meanwhile(lambda: last_is(sink.seen, held.term))
        place.record("e").unlink()
        await meanwhile(lambda: sink.seen[-1].holding is Holding.ABSENT)
        await place.close()

    run(main)


def _beats(sink: Sights, beat: int) -> bool:
    return bool(sink.seen) and sink.seen[-1].lease_version == beat


DAMAGES = [
    "deleted",
    "moved",
    "emptied",
    "edited",
    "elections moved",
    "elections deleted",
    "sessions moved",
    "folder moved",
    "folder deleted",
    "folder above moved",
]


@pytest.mark.parametrize("what", DAMAGES)
def test_the_holder_is_deposed_as_soon_as_its_record_is_not_its_own(
    what: str, place: FileHarness, tmp_path: Path
) -> None:
    """Not by its next renewal, which here is seconds away."""
    watch = Watch()
    place = FileHarness(tmp_path / "above")

    @election(place.url, ttl_s=60, observer=watch).hold(timeout_s=LIMIT_S)
    def body() -> None:
        record = place.record("e")
        match what:
            case "deleted":
                record.unlink()
            case "moved":
                record.rename(tmp_path / "elsewhere")
            case "emptied":
                record.write_bytes(b"")
            case "edited":
                change_file(record, holder="somebody", term="x", serial=10**17)
            case "folder above moved":
                place.folder.rename(tmp_path / "elsewhere")
            case "folder deleted":
                shutil.rmtree(place.path, ignore_errors=True)
            case "folder moved":
                place.path.rename(tmp_path / "elsewhere")
            case _:
                folder = place.path / what.split(maxsplit=1)[0]
                folder.rename(tmp_path / "elsewhere")
                if what.endswith("deleted"):
                    shutil.rmtree(tmp_path / "elsewhere")
        began = time.monotonic()
        watch.until("stopping")
        assert time.monotonic() - began < 5

    with pytest.raises(LeadershipLost, match="the record changed under us"):
        body()


def test_what_was_taken_in_a_folder_that_was_moved_is_not_known(
    place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between the look at it and the swap."""

    async def main() -> None:
        candidate = await Candidate.new(place, "me")
        mine, over = await candidate.claim(), await candidate.read("e")
        records = candidate.store._records  # type: ignore[attr-defined]
        swap = records._swap

        def in_time(*values: Any, **more: Any) -> None:
            place.path.rename(place.path.with_name("elsewhere"))
            swap(*values, **more)

        monkeypatch.setattr(records, "_swap", in_time)
        with pytest.raises(OutcomeUnknown, match="replaced"):
            await candidate.store.take("e", mine, over)
        assert (await candidate.read("e")).holding is Holding.ABSENT
        await place.close()

    run(main)


# ---- the folder


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o770, 0o2770, 0o777])
def test_files_have_the_rights_of_the_folder(mode: int, place: FileHarness) -> None:
    place.path.mkdir()
    place.path.chmod(mode)
    umask = os.umask(0o077)
    try:
        with election(place.url).hold(timeout_s=LIMIT_S):
            found = {path: path.stat().st_mode for path in place.path.rglob("*")}
    finally:
        os.umask(umask)
    assert len(found) == 7
    for path, has in found.items():
        wanted = mode if stat.S_ISDIR(has) else mode & 0o666
        assert stat.S_IMODE(has) == wanted, path


def _as_ordinary(source: str, place: FileHarness) -> str:
    done = subprocess.run(
        [*ORDINARY, *python(source, place.url)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_without_the_right_to_write_one_can_look(place: FileHarness, records: FileRecords) -> None:
    records.take("e", claim(records, "me"), records.read("e"))
    folders = [place.path, place.path / "elections", place.path / "sessions"]
    for folder in folders:
        folder.chmod(0o500)
    look = """
        from incumbent.stores import open_store

        async def main():
            store = open_store(sys.argv[1])
            await store.open(create=False)
            say((await store.read("e")).holder)
            try:
                await store.open_session("x", 5.0)
            except incumbent.errors.PermissionDenied as error:
                say(error)

        asyncio.run(main())
    """
    lead = """
        try:
            Election("e", store=sys.argv[1]).hold().__enter__()
        except incumbent.errors.PermissionDenied as error:
            say(error)
    """
    assert _as_ordinary(look, place).startswith(f"me\nno right to write {place.path}")
    assert _as_ordinary(lead, place).startswith(f"no right to write {place.path}")
    for folder in folders:
        folder.chmod(0o700)


def test_a_folder_of_another_program_is_left_alone(place: FileHarness) -> None:
    place.path.mkdir()
    (place.path / "theirs").touch()
    with (
        pytest.raises(StoreUnusable, match="program, 'theirs'"),
        election(place.url).hold(),
    ):
        pytest.fail("not ours")
    assert [path.name for path in place.path.iterdir()] == ["theirs"]


def test_a_fresh_disk_is_no_folder_of_another_program(place: FileHarness) -> None:
    (place.path / "lost+found").mkdir(parents=True)
    with election(place.url).hold(timeout_s=LIMIT_S):
        pass


def test_a_file_is_no_folder(place: FileHarness) -> None:
    place.path.touch()
    with pytest.raises(StoreUnusable, match="is no folder"), election(place.url).hold():
        pytest.fail("a file")


@pytest.mark.parametrize(
    "url", ["file://", "file:///", "file://host/x", "file://x", "file:///x?y=1", "file:///x%00y"]
)
def test_urls_that_name_no_folder(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)


@pytest.mark.parametrize("name", ["with space", "donn\u00e9es", "a\tb", "100%", "a?b", "end/"])
def test_unusual_folders(name: str, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/{name.replace('%', '%25').replace('?', '%3F')}"
    url = url.replace("\t", "%09")
    with Election("e", store=url, ttl_s=5).hold(timeout_s=LIMIT_S):
        assert (tmp_path / name / "elections" / "e.json").exists()


def test_a_link_to_the_folder_is_the_folder(place: FileHarness, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(place.path)
    with (
        election(place.url).hold(timeout_s=LIMIT_S),
        pytest.raises(NotElected, match="candidate in this process already"),
        election(f"file://{link}").hold(timeout_s=0.5),
    ):
        pytest.fail("two hold")


def test_two_containers_that_share_a_folder_share_its_elections(
    place: FileHarness, tmp_path: Path
) -> None:
    """Mounted elsewhere it is the same folder, under one kernel: its word is heard."""
    place.path.mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    source = HOLD.format(body="pass")
    argv = [*mounted(f"mount --bind {place.path} {inside}")]
    program = Program([*argv, *python(source, f"file://{inside}", str(TTL_S))])
    try:
        while not program.line().startswith("holds"):
            continue
        watch = Watch()
        with pytest.raises(NotElected), election(place.url).hold(timeout_s=0.5):
            pytest.fail("two hold")
        program.process.kill()
        with election(place.url, observer=watch).hold(timeout_s=10):
            watch.until("evidence")
    finally:
        program.close()


@pytest.mark.parametrize(("kind", "findings"), [("ext4", 0), ("tmpfs", 1)])
def test_doctor_says_what_a_folder_in_memory_forgets(
    kind: str, findings: int, place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "kind", lambda path: kind)

    async def main() -> None:
        found = await (await place.store()).examine()
        assert len([one for one in found if one.check == "tokens"]) == findings
        assert all(one.ok is not False for one in found)
        await place.close()

    run(main)


# ---- who only looks


def test_who_only_looks_creates_nothing_at_any_time(place: FileHarness) -> None:
    async def main() -> None:
        looker, store = place.new(), place.new()
        for made in ("", ".", "elections"):
            if made:
                (place.path / made).mkdir()
            with pytest.raises(StoreAbsent, match="no elections in"):
                await looker.open(create=False)
            await looker.close()
            assert len(list(place.path.rglob("*"))) == (made == "elections")
        await store.open()
        relic = place.path / "new-relic"
        relic.touch()
        await looker.open(create=False)
        assert (await looker.read("e")).holding is Holding.ABSENT
        await store.close()
        assert relic.exists(), "it swept"
        shutil.rmtree(place.path)
        for _ in range(2):
            with pytest.raises(StoreAbsent):
                await looker.read("e")
        assert not place.path.exists()
        await store.open()
        assert (await looker.read("e")).holding is Holding.ABSENT
        await looker.close()
        await store.close()

    run(main)


def test_a_store_that_was_opened_by_the_parent_is_opened_anew(
    start: Start, place: FileHarness
) -> None:
    source = """
        from incumbent.stores import open_store

        store = open_store(sys.argv[1])
        with Election("e", store=store, ttl_s=3).hold() as term:
            child = os.fork()
            if not child:
                try:
                    with Election("mine", store=store, ttl_s=3).hold(timeout_s=20) as own:
                        own.check()
                    with Election("e", store=store, ttl_s=3).hold(timeout_s=0):
                        say("two hold")
                except NotElected as error:
                    say("child", "is held by" in str(error))
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            term.check()
        with Election("mine", store=store, ttl_s=3).hold(timeout_s=20):
            say("end")
    """
    program = start(source, place.url)
    program.expect("child True")
    program.expect("end")
    assert program.wait() == 0


# -- checkpoints ----------------------------------------------------------------------------------


def noted(records: FileRecords, value: bytes, token: int = 1) -> Checkpoint:
    """Write over what is there."""
    return records.checkpoints.advance(records.checkpoints.read("e", "p"), value, token)


def test_a_checkpoint_is_written_by_one_at_a_time(place: FileHarness) -> None:
    """Each counts one further, for as often as it was not overtaken: no count is lost."""
    counted: list[int] = []

    def write() -> None:
        mine = FileRecords(place.path)
        for _ in range(40):
            over = mine.checkpoints.read("e", "p")
            with suppress(CheckpointMoved):
                mine.checkpoints.advance(over, b"%d" % (int(over.value or b"0") + 1), 1)
                counted.append(1)
        mine.close()

    FileRecords(place.path).close()
    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = FileRecords(place.path)
    assert int(last.checkpoints.read("e", "p").value) == len(counted) >= 40
    last.close()


def test_a_checkpoint_that_is_confirmed_is_on_the_disk(
    records: FileRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = noted(records, b"first")
    log: list[str] = []
    sync, rename = os.fsync, os.rename

    def noted_sync(fd: int) -> None:
        sync(fd)
        log.append(f"{Path(os.readlink(f'/proc/self/fd/{fd}')).name} on the disk")

    def noted_rename(old: str, new: str, **more: Any) -> None:
        rename(old, new, **more)
        log.append(f"to {new}")

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "rename", noted_rename)
    second = records.checkpoints.advance(first, b"second", 2)
    assert log == [".new on the disk", "to p.checkpoint", "e on the disk"]
    _fails(monkeypatch, "fsync", 0, errno.EIO)
    with pytest.raises(StoreError) as told:
        records.checkpoints.advance(second, b"third", 3)
    assert not isinstance(told.value, OutcomeUnknown), "it was not renamed"
    assert records.checkpoints.read("e", "p") == second
    _fails(monkeypatch, "fsync", 1, errno.EIO)
    with pytest.raises(OutcomeUnknown):
        records.checkpoints.advance(second, b"third", 3)
    assert records.checkpoints.read("e", "p").value == b"third"


def test_a_checkpoint_without_room_is_not_written(
    records: FileRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = noted(records, b"first")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, text: write(fd, text[: len(text) // 2]))
    with pytest.raises(StoreFull):
        records.checkpoints.advance(first, b"second", 2)
    monkeypatch.setattr(os, "write", write)
    assert records.checkpoints.listed("e") == [first]
    assert noted(records, b"third").value == b"third"


def test_a_checkpoint_in_a_folder_that_was_moved_is_unknown(
    records: FileRecords, place: FileHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = noted(records, b"first")
    rename = os.rename

    def moved(old: str, new: str, **more: Any) -> None:
        rename(place.path / "checkpoints" / "e", place.path / "checkpoints" / "elsewhere")
        (place.path / "checkpoints" / "e").mkdir()
        rename(old, new, **more)

    monkeypatch.setattr(os, "rename", moved)
    with pytest.raises(OutcomeUnknown, match="moved away"):
        records.checkpoints.advance(first, b"second", 2)


def test_a_checkpoint_that_was_removed_is_a_fresh_one(
    records: FileRecords, place: FileHarness
) -> None:
    first = noted(records, b"first")
    (place.path / "checkpoints" / "e" / "p.checkpoint").unlink()
    assert records.checkpoints.read("e", "p") == Checkpoint("e", "p")
    assert records.checkpoints.listed("e") == []
    again = noted(records, b"first")
    assert again.version != first.version
    with pytest.raises(CheckpointMoved):
        records.checkpoints.advance(first, b"late", 1)


@pytest.mark.parametrize(
    "text", [b"", b"\0" * 9, b"{}\nx", b"[]\n", b"no JSON\nx", b'{"format": 1, "bytes": 2}\nx']
)
def test_what_is_no_checkpoint_is_refused_and_stays(
    records: FileRecords, place: FileHarness, text: bytes
) -> None:
    first = noted(records, b"first")
    file = place.path / "checkpoints" / "e" / "p.checkpoint"
    file.write_bytes(text)
    for ask in (
        lambda: records.checkpoints.read("e", "p"),
        lambda: records.checkpoints.listed("e"),
        lambda: records.checkpoints.advance(first, b"x", 1),
    ):
        with pytest.raises(StoreUnusable, match="remove it and the work starts afresh"):
            ask()
    assert file.read_bytes() == text
    file.unlink()
    file.symlink_to(place.path / "counter")
    with pytest.raises(StoreUnusable):
        records.checkpoints.read("e", "p")
