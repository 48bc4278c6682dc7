"""What every store on one host's disk must do: the kernel's word, and what people do to files."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from incumbent import Election, IncumbentError, LeadershipLost, NotElected, StoreError, Term
from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Held, Holding, Snapshot
from incumbent.errors import StoreFull, StoreUnavailable, StoreUnusable
from incumbent.stores.local import filesystem, inotify
from incumbent.stores.local.locks import LockFolder
from incumbent.stores.local.store import LocalStore
from incumbent.testing.conformance.kit import Candidate
from tests.faces.programs import LIMIT_S, Start, assert_no_overlap, marks, starting, until
from tests.faces.test_sync import Watch
from tests.processes import ORDINARY
from tests.stores.local import (
    HOLD,
    PLACES,
    TTL_S,
    LocalHarness,
    Sights,
    election,
    last_is,
    meanwhile,
    run,
)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a few lines of Python; its arguments are in `sys.argv`."""
    yield from starting()


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LocalHarness:
    return PLACES[request.param](tmp_path / "store")


@pytest.fixture
def url(place: LocalHarness) -> str:
    return place.url


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


def test_a_closed_store_gives_no_evidence_against_its_own_process(place: LocalHarness) -> None:
    async def main() -> None:
        store, other = place.new(), place.new()
        await store.open()
        await other.open()
        mine = Candidate(place, store, "me")
        await mine.take("e")
        session = mine.session
        assert session is not None
        await store.close()
        assert not other._locks.is_dead(session.key)
        events: list[object] = []
        other.follow("e", events.append)
        await meanwhile(lambda: bool(events))
        await asyncio.sleep(0.1)  # sleep: time for evidence that must not come
        assert not any(isinstance(event, Evidence) for event in events)
        await other.close()

    run(main)


def test_an_ended_session_of_a_dead_process_is_swept_away(
    start: Start, url: str, place: LocalHarness
) -> None:
    for _ in range(3):
        program = start(HOLD.format(body="pass"), url, str(TTL_S))
        while not program.line().startswith("holds"):
            continue
        program.send(signal.SIGKILL)
        program.wait()
    with election(url).hold(timeout_s=10):
        pass
    Election("f", store=f"{url}").hold(timeout_s=10).__enter__()
    relic = place.locks() / "relic.new"
    relic.touch()

    async def main() -> None:
        store = await place.store()
        live = store._records.sessions()  # type: ignore[union-attr]
        assert {file.stem for file in LockFolder(place.locks()).files()} <= live
        await place.close()

    run(main)
    assert not relic.exists()


def test_nobody_sees_a_new_lock_file_unlocked(tmp_path: Path) -> None:
    """Who sweeps would take it for a relic, and its holder would die without evidence."""
    folder, other = LockFolder(tmp_path / "locks"), LockFolder(tmp_path / "locks")
    folder.create()
    over = threading.Event()
    free: list[Path] = []

    def sweep() -> None:
        while not over.is_set():
            free.extend(file for file in other.files() if other.is_relic(file.stem))

    thread = threading.Thread(target=sweep)
    thread.start()
    keys = [folder.hold(f"key{number}") for number in range(500)]
    over.set()
    thread.join()
    assert free == []
    assert not list((tmp_path / "locks").glob("*.new"))
    for key in keys:
        folder.drop(key)


@pytest.mark.parametrize("there", [False, True], ids=["to nothing", "to a store"])
def test_a_link_that_leads_elsewhere_deposes(
    place: LocalHarness, tmp_path: Path, there: bool
) -> None:
    """`current -> release-2`: who comes new elects there, and the old holder would go on here."""
    (tmp_path / "release-1").mkdir()
    (tmp_path / "release-2").mkdir()
    current = tmp_path / "current"
    current.symlink_to("release-1")
    scheme = place.url.partition(":")[0]
    url = f"{scheme}://{current}/store"
    if there:
        with Election("e", store=f"{scheme}://{tmp_path}/release-2/store").hold(timeout_s=LIMIT_S):
            pass

    def work(term: Term) -> str:
        (tmp_path / "new").symlink_to("release-2")
        (tmp_path / "new").rename(current)
        return "told" if term.lost.wait(LIMIT_S) else "never"

    said: list[str] = []
    with pytest.raises(NotElected):
        Election("e", store=url, ttl_s=2).lead(
            lambda term: said.append(work(term)), deadman=False, timeout_s=1
        )
    assert said == ["told"]


def test_a_descriptor_that_somebody_closes_is_no_death(tmp_path: Path) -> None:
    """Twice closed by mistake, or with all others: the process lives, and so does its term."""
    folder, other = LockFolder(tmp_path / "locks"), LockFolder(tmp_path / "locks")
    key = folder.hold("cafe")
    fd = folder.descriptor(key)
    assert fd is not None
    os.close(fd)
    try:
        assert not other.is_dead(key)
    finally:
        assert os.open("/dev/null", os.O_RDONLY) == fd  # What is dropped next is closed again.
    folder.drop(key)


def test_only_the_file_that_was_locked_tells_of_a_death(tmp_path: Path) -> None:
    """One that was made anew is free, and says nothing; the first one is still locked."""
    folder, other = LockFolder(tmp_path / "locks"), LockFolder(tmp_path / "locks")
    key = folder.hold("key")
    path = folder.path(key)
    assert not other.is_dead(key)
    path.rename(tmp_path / "aside")
    path.write_bytes(b"")
    assert not other.is_dead(key)
    assert other.is_relic(key), "what stands there is free"
    (tmp_path / "aside").rename(path)
    assert not other.is_dead(key)
    fd = folder.descriptor(key)
    assert fd is not None
    folder._mappings.pop(key).close()
    os.close(fd)
    assert other.is_dead(key), "its own file, and nobody has locked it"


def test_a_lock_file_that_was_made_anew_is_no_evidence(
    start: Start, url: str, place: LocalHarness
) -> None:
    """Somebody removes it under its holder, and it comes back: by `touch`, or by a copy."""
    program = start(HOLD.format(body="pass"), url, str(TTL_S))
    while not program.line().startswith("holds"):
        continue
    (lock,) = place.locks().glob("*.lock")
    lock.unlink()
    for _ in range(2):
        lock.write_bytes(b"")
        watch = Watch()
        with pytest.raises(NotElected), election(url, observer=watch).hold(timeout_s=1):
            pytest.fail("two hold")
        assert "evidence" not in [sighting.event for sighting in watch.seen]
        lock.rename(lock.with_suffix(".old"))
        shutil.copy(lock.with_suffix(".old"), lock)
    program.tell()
    assert program.wait() == 0


def test_without_its_lock_file_the_time_to_live_is_waited_out(
    start: Start, url: str, place: LocalHarness
) -> None:
    program = start(HOLD.format(body="pass"), url, "3")
    while not program.line().startswith("holds"):
        continue
    (lock,) = place.locks().glob("*.lock")
    lock.unlink()
    program.send(signal.SIGKILL)
    program.wait()
    watch = Watch()
    with election(url, ttl_s=3, observer=watch).hold(timeout_s=LIMIT_S):
        assert "evidence" not in [sighting.event for sighting in watch.seen]


def test_a_takeover_voids_the_session_of_the_dead(place: LocalHarness) -> None:
    async def main() -> None:
        dead, heir = await Candidate.new(place, "dead"), await Candidate.new(place, "heir")
        await dead.take("one")
        held = await dead.take("two")
        await heir.take("one", over=await heir.read("one"))
        with pytest.raises(StoreError):
            await dead.renew("two")
        after = await heir.read("two")
        assert (after.holding, after.term) == (Holding.VACANT, held.term)
        taken = await heir.take("two", over=after)
        assert (taken.token or 0) > (held.token or 0)
        await place.close()

    run(main)


def test_a_leftover_is_retaken_under_its_own_session_whose_lock_stays(place: LocalHarness) -> None:
    async def main() -> None:
        candidate = await Candidate.new(place, "p")
        first = await candidate.take("e")
        second = await candidate.take("e", over=first.snapshot)
        assert second.lease.key == first.lease.key
        assert [file.stem for file in place.locks().glob("*.lock")] == [first.lease.key]
        heir = await Candidate.new(place, "heir")
        third = await heir.take("e", over=second.snapshot)
        left = {file.stem for file in place.locks().glob("*.lock")}
        assert left == {first.lease.key, third.lease.key}, "it lives, and removes its own"
        await place.close()

    run(main)


# ---- what people do to files


def test_tokens_grow_over_deletion(place: LocalHarness) -> None:
    tokens: list[int | None] = []
    for deed in ("nothing", "record", "store", "store", "nothing"):
        if deed == "record":
            place.delete_now("e")
        elif deed == "store":
            until(lambda: _is_removed(place.folder), "nobody makes it anew any more")
        with Election("e", store=place.url, ttl_s=1).hold(timeout_s=LIMIT_S) as term:
            tokens.append(term.token)
    assert None not in tokens
    assert tokens == sorted(set(tokens), key=lambda token: token or 0)


def _is_removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_a_deleted_record_deposes_its_holder(url: str, place: LocalHarness) -> None:
    """Somebody else would find no record, and take it: absent is vacant here."""
    watch = Watch()

    @election(url, ttl_s=20, observer=watch).hold(timeout_s=LIMIT_S)
    def body() -> None:
        place.delete_now("e")
        watch.until("stopping")

    with pytest.raises(LeadershipLost, match="has no record"):
        body()


def test_a_deaf_holder_misses_a_deleted_record_at_its_next_renewal(
    place: LocalHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        holder = await Candidate.new(place, "a")
        sink = Sights()
        seen = sink.seen
        store = holder.store
        assert isinstance(store, LocalStore)
        store.follow("e", sink)
        held = await holder.take("e")
        await meanwhile(partial(last_is, seen, held.term))
        monkeypatch.setattr(store._inotify, "read", lambda: iter(()))
        place.delete_now("e")
        await holder.renew("e")
        await meanwhile(lambda: seen[-1].holding is Holding.ABSENT)
        monkeypatch.undo()
        await place.close()

    run(main)


def test_watches_of_locks_that_nobody_needs_are_given_back(place: LocalHarness) -> None:
    async def main() -> None:
        watcher = await place.store()
        sink = Sights()
        seen = sink.seen
        watcher.follow("e", sink)
        most = 0
        holders = [await Candidate.new(place, f"h{number}") for number in range(5)]
        for holder in holders:
            held = await holder.take("e")
            await meanwhile(partial(last_is, seen, held.term))
            most = max(most, len(watcher._lock_watch))
            await holder.release(held)
        assert most == 1
        # The watch that is left over serves again when the same session is back.
        held = await holders[-1].take("e")
        await meanwhile(partial(last_is, seen, held.term))
        assert list(watcher._lock_watch) == [held.lease.key]
        assert held.lease.key in watcher._watched_lock.values()
        await place.close()

    run(main)


def test_a_record_that_is_deleted_before_its_holder_has_read_it_is_missed(
    place: LocalHarness,
) -> None:
    """Found by the simulator: the holder kept its term beside another's.

    Ten times, since a look that is under way already may find the row before it is deleted.
    """

    async def main() -> None:
        holder = await Candidate.new(place, "a")
        seen: dict[str, Snapshot] = {}

        def sink(event: Seen | Evidence) -> None:
            if isinstance(event, Seen):
                seen[event.snapshot.name] = event.snapshot

        for name in (f"e{number}" for number in range(10)):
            holder.store.follow(name, sink)
            await meanwhile(partial(seen.__contains__, name))
            held = await holder.take(name)
            place.delete_now(name)
            await meanwhile(partial(_gone_since, seen, held))
        await place.close()

    run(main)


def _gone_since(seen: dict[str, Snapshot], held: Held) -> bool:
    last = seen[held.name]
    return last.holding is Holding.ABSENT and last.serial > held.snapshot.serial


def test_a_take_whose_caller_stopped_waiting_is_told_to_the_others(place: LocalHarness) -> None:
    async def main() -> None:
        taker, watcher = await Candidate.new(place, "a"), await Candidate.new(place, "b")
        sink = Sights()
        watcher.store.follow("e", sink)
        await meanwhile(lambda: bool(sink.seen))
        over, claim = await taker.read("e"), await taker.claim()
        with place.busy(), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await taker.store.take("e", claim, over)
        await meanwhile(partial(last_is, sink.seen, claim.term))
        await place.close()

    run(main)


def test_a_lost_event_is_made_up_for(place: LocalHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """inotify says that it lost some: then everything is looked at."""

    async def main() -> None:
        holder, watcher = await Candidate.new(place, "a"), await Candidate.new(place, "b")
        sink = Sights()
        seen = sink.seen
        store = watcher.store
        assert isinstance(store, LocalStore)
        assert store._inotify is not None
        store.follow("e", sink)
        await meanwhile(lambda: bool(seen))
        real, lost = store._inotify.read, list[inotify.Notice]()

        def losing(*instead: inotify.Notice) -> Iterator[inotify.Notice]:
            lost.extend(real())
            return iter(instead)

        monkeypatch.setattr(store._inotify, "read", losing)

        async def unheard(name: str) -> Held:
            lost.clear()
            held = await holder.take(name)
            await meanwhile(lambda: bool(lost))
            await meanwhile(lambda: store._refreshing is None)
            return held

        await unheard("another")  # So that whatever it heard before is over.
        held = await unheard("e")
        assert seen[-1].holding is Holding.ABSENT
        overflown = inotify.Notice(-1, inotify.OVERFLOWN)
        monkeypatch.setattr(store._inotify, "read", partial(losing, overflown))
        store._notified()
        await meanwhile(lambda: seen[-1].term == held.term)
        monkeypatch.undo()
        await place.close()

    run(main)


def test_too_few_watches_are_said_and_not_polled_for(
    place: LocalHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(self: inotify.Inotify) -> None:
        raise StoreUnusable("the kernel's limit is reached: raise fs.inotify.max_user_instances")

    monkeypatch.setattr(inotify.Inotify, "__init__", none_left)
    with (
        pytest.raises(StoreUnusable, match=r"could not be woken.*max_user_instances"),
        election(place.url).hold(),
    ):
        pytest.fail("deaf")


# ---- records that are not ours


def test_a_foreign_record_is_never_taken_over(place: LocalHarness) -> None:
    run(lambda: _held_by_the_dead(place))
    place.scribble_now("e")
    with (
        pytest.raises(NotElected, match="not ours"),
        election(place.url, ttl_s=0.5).hold(timeout_s=2),
    ):
        pytest.fail("taken over")


async def _held_by_the_dead(place: LocalHarness) -> None:
    await (await Candidate.new(place, "dead")).take("e")
    await place.close()


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
    small_disk: Path, place: LocalHarness
) -> None:
    place = type(place)(small_disk)
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

        assert election(place.url, ttl_s=2, observer=watch).lead(work) == "again"
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
        Election("f", store=place.url, ttl_s=2).hold(timeout_s=1),
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


def test_a_store_cannot_be_made_on_a_full_disk(small_disk: Path, place: LocalHarness) -> None:
    with suppress_full(), (small_disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 1024):
            continue
    with (
        pytest.raises((StoreFull, StoreUnavailable)),
        election(type(place)(small_disk / "a").url).hold(),
    ):
        pytest.fail("no room")


def test_without_the_right_it_is_said_which(place: LocalHarness, tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    program = f"""
from incumbent import Election
from incumbent.errors import PermissionDenied
try:
    Election("e", store="{place.url}").hold().__enter__()
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


def test_a_refusal_reaches_the_user(place: LocalHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "kind", lambda path: "nfs4")
    with pytest.raises(StoreUnusable, match="nfs4, a network"), election(place.url).hold():
        pytest.fail("refused")


# ---- many at once


def test_many_processes_make_the_same_store_at_the_same_moment(
    start: Start, tmp_path: Path, place: LocalHarness
) -> None:
    """Round after round: the moment between the two looks at a new file is short."""
    source = """
        say("ready")
        while url := hear():
            try:
                with Election("e", store=url, ttl_s=10).hold(timeout_s=30) as term:
                    Mark(url.partition("://")[2] + ".marks", term.token)()
                    say("held")
            except BaseException as error:
                say("failed", repr(error).replace(chr(10), " "))
    """
    rounds = 4
    programs = [start(source) for _ in range(12)]
    for program in programs:
        program.expect("ready")
    for number in range(rounds):
        new = type(place)(tmp_path / str(number))
        for program in programs:
            program.tell(new.url)
        for program in programs:
            program.expect("held")
        assert len(assert_no_overlap(Path(f"{new.path}.marks"))) == len(programs)
    for program in programs:
        program.tell("")
    for program in programs:
        assert program.wait() == 0


def test_eight_fight_and_are_killed_and_never_two_at_once(
    start: Start, url: str, place: LocalHarness
) -> None:
    path = Path(f"{place.path}.marks")
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
    """The only wall clock is where a new store's tokens start."""
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


def test_closing_during_a_take_leaves_no_doubt_behind(place: LocalHarness) -> None:
    async def main() -> None:
        for _ in range(20):
            candidate = await Candidate.new(place, "me")
            over, claim = await candidate.read("e"), await candidate.claim()
            taking = asyncio.ensure_future(candidate.store.take("e", claim, over))
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(candidate.store.close())
            results = await asyncio.gather(taking, closing, return_exceptions=True)
            reader = await Candidate.new(place, "reader")
            found = await reader.read("e")
            if isinstance(results[0], BaseException):
                assert isinstance(results[0], IncumbentError)
            else:
                assert found.term == claim.term
            await reader.store.close()

    run(main)
