"""Files of a folder: claimed, handled, moved; through crashes, and past former holders."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest import mock

import pytest

import incumbent
from incumbent import ConfigError, StaleToken, aio
from incumbent.errors import IncumbentError, LeadershipLost, Withdrawn
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.polling import claims as claims_module
from incumbent.workloads.polling import mounts
from incumbent.workloads.polling.arrivals import Arrivals
from incumbent.workloads.polling.claims import Claims
from incumbent.workloads.polling.directory import File
from tests.workloads.consuming import until
from tests.workloads.faces import FACES, LIMIT_S, Face
from tests.workloads.polling.crashes import play_all
from tests.workloads.polling.stepping import Log, Steps, crashed_before, hold, pending, tree


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def put(inbox: Path, *names: str) -> None:
    for name in names:
        (inbox / name).write_text(f"the text of {name}")


def claims(inbox: Path, token: int) -> Claims:
    return Claims(inbox, inbox / ".incumbent" / "files", token, lambda: None, durable=False)


def make(face: str, *args: Any, **settings: Any) -> Any:
    kind = incumbent.Directory if face == "sync" else aio.Directory
    settings = {"settle": 0, "name": "files", "deadman": False, "backoff": 0, **settings}
    return kind(*args, **settings)


# -- what is new --------------------------------------------------------------------------------


def test_what_is_being_written_is_not_taken(inbox: Path) -> None:
    arrivals = Arrivals(inbox, order="name", ignore=["*.part"], settle_s=2.0)
    put(inbox, "a", "b", ".hidden", "c.part")
    (inbox / "folder").mkdir()
    (inbox / "link").symlink_to(inbox / "a")
    assert arrivals.ready(100.0) == ([], 2.0)
    with (inbox / "b").open("a") as b:
        b.write("more")
    assert arrivals.ready(101.0) == ([], 1.0)
    assert arrivals.ready(102.0) == (["a"], 1.0)
    (inbox / "a").rename(inbox / "new-name")
    assert arrivals.ready(103.0) == (["b"], 2.0)
    (inbox / "new-name").rename(inbox / "b")
    assert arrivals.ready(104.0) == ([], 2.0), "another file by that name"


def test_in_order_of_names_or_of_the_last_change(inbox: Path) -> None:
    put(inbox, "a", "b", "c")
    for name, changed in (("a", 30), ("b", 10), ("c", 10)):
        os.utime(inbox / name, (changed, changed))
    by_name = Arrivals(inbox, order="name", ignore=(), settle_s=0)
    by_time = Arrivals(inbox, order="mtime", ignore=(), settle_s=0)
    assert by_name.ready(1.0)[0] == ["a", "b", "c"]
    assert by_time.ready(1.0)[0] == ["b", "c", "a"]


# -- in both faces ------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_each_file_is_handled_and_moved(face: str, inbox: Path, memory: MemoryStore) -> None:
    handled: SimpleQueue[tuple[str, int, int, str]] = SimpleQueue()
    runner = Face(face)

    def handler(file: File) -> None:
        file.check()
        handled.put((file.name, file.attempt, file.token, Path(file).read_text()))
        if "poison" in file.name:
            raise ValueError("it is poison")

    put(inbox, "b", "a", "c-poison")
    runner.start(make(face, inbox, runner.func(handler), store=memory, retries=1, every="1h"))
    seen = [handled.get(timeout=LIMIT_S) for _ in range(4)]
    assert seen == [
        ("a", 1, 1, "the text of a"),
        ("b", 1, 1, "the text of b"),
        ("c-poison", 1, 1, "the text of c-poison"),
        ("c-poison", 2, 1, "the text of c-poison"),
    ]
    put(inbox, "late")
    assert handled.get(timeout=LIMIT_S)[0] == "late", "the kernel has told of it"
    put(inbox, "a")
    assert handled.get(timeout=LIMIT_S)[0] == "a", "a new one of an old name"
    runner.stop()
    assert isinstance(runner.failure, Withdrawn)
    assert not pending(inbox)
    done = sorted(name for name in os.listdir(inbox / "done"))
    assert done[0] == "a"
    assert done[1].startswith("a.2")
    assert done[2:] == ["b", "late"]
    assert (inbox / "failed" / "c-poison").read_text() == "the text of c-poison"
    assert "ValueError: it is poison" in (inbox / "failed" / "c-poison.error").read_text()


@pytest.mark.parametrize("face", FACES)
def test_a_handler_may_take_its_file_away_or_have_it_deleted(
    face: str, inbox: Path, memory: MemoryStore
) -> None:
    handled: SimpleQueue[str] = SimpleQueue()
    runner = Face(face)

    def handler(file: File) -> None:
        if file.name == "a":
            file.path.unlink()
        handled.put(file.name)

    put(inbox, "a", "b")
    runner.start(make(face, inbox, runner.func(handler), store=memory, done=None))
    assert [handled.get(timeout=LIMIT_S) for _ in range(2)] == ["a", "b"]
    runner.stop()
    assert tree(inbox) == {}


@pytest.mark.parametrize("face", FACES)
def test_with_errors_raised_the_file_is_put_aside_and_the_work_ends(
    face: str, inbox: Path, memory: MemoryStore
) -> None:
    runner = Face(face)

    def handler(file: File) -> None:
        raise KeyError(file.name)

    put(inbox, "a", "b")
    runner.start(make(face, inbox, runner.func(handler), store=memory, retries=0, errors="raise"))
    runner.join()
    assert isinstance(runner.failure, KeyError)
    assert set(tree(inbox)) == {"b", "failed/a", "failed/a.error"}


def test_what_is_handled_while_the_term_is_handed_over_counts(
    inbox: Path, memory: MemoryStore
) -> None:
    runner = Face("sync")
    begun = threading.Event()

    def handler(file: File) -> None:
        begun.set()
        assert file.lost.wait(LIMIT_S)

    put(inbox, "a", "b")
    runner.start(make("sync", inbox, handler, store=memory))
    assert begun.wait(LIMIT_S)
    runner.stop()
    assert set(tree(inbox)) == {"done/a", "b"}


@pytest.mark.parametrize("face", FACES)
def test_a_handover_does_not_count_against_a_file(
    face: str, inbox: Path, memory: MemoryStore
) -> None:
    """Else a file that takes long would be put aside after some rolling updates."""
    import asyncio

    runner = Face(face)
    attempts: SimpleQueue[int] = SimpleQueue()

    def handler(file: File) -> None:
        attempts.put(file.attempt)
        file.lost.wait(LIMIT_S)
        raise RuntimeError("cut short")

    async def waiting(file: File) -> None:
        attempts.put(file.attempt)
        await asyncio.Event().wait()

    put(inbox, "a")
    for attempt in range(1, 4):
        func = handler if face == "sync" else waiting
        runner.start(make(face, inbox, func, store=memory, retries=0))
        assert attempts.get(timeout=LIMIT_S) == attempt
        runner.stop()
    (left,) = pending(inbox)
    assert left.endswith("3-0/a")


def test_a_handler_that_stops_when_it_is_told_to_has_not_failed(
    inbox: Path, memory: MemoryStore
) -> None:
    begun = threading.Event()
    runner = Face("sync")

    def handler(file: File) -> None:
        begun.set()
        assert file.lost.wait(LIMIT_S)
        raise LeadershipLost("stopped with the term")

    put(inbox, "a")
    runner.start(make("sync", inbox, handler, store=memory))
    assert begun.wait(LIMIT_S)
    runner.stop()
    (left,) = pending(inbox)
    assert left.endswith("1-0/a")


def test_an_interrupt_does_not_count_against_a_file(inbox: Path, memory: MemoryStore) -> None:
    def handler(file: File) -> None:
        raise KeyboardInterrupt

    put(inbox, "a")
    with pytest.raises(KeyboardInterrupt):
        make("sync", inbox, handler, store=memory).run()
    (left,) = pending(inbox)
    assert left.endswith("1-0/a")


def test_what_cannot_be_moved_is_moved_later_and_not_handled_again(inbox: Path, log: Log) -> None:
    put(inbox, "a")
    refusals = [28, 28]

    def refuse(step: int) -> None:
        if log.lines() and refusals:
            raise OSError(refusals.pop(), "No space left on device")

    assert hold(inbox, log, 1, Steps(refuse)) is None
    assert log.lines() == [("a", 1, 1)]
    assert set(tree(inbox)) == {"done/a"}


@pytest.mark.parametrize(("folder", "name"), [("done", "a"), ("failed", "poison")])
def test_a_folder_that_is_removed_while_at_work_is_made_again(
    folder: str, name: str, inbox: Path, memory: MemoryStore
) -> None:
    """What was handled would else be left in hand, out of sight, and come again."""
    attempts: SimpleQueue[int] = SimpleQueue()
    runner = Face("sync")

    def handler(file: File) -> None:
        shutil.rmtree(inbox / folder)
        attempts.put(file.attempt)
        if file.name == "poison":
            raise ValueError("it is poison")

    put(inbox, name)
    runner.start(make("sync", inbox, handler, store=memory, retries=0))
    assert attempts.get(timeout=LIMIT_S) == 1
    until((inbox / folder / name).exists, "it is moved")
    runner.stop()
    assert attempts.empty()
    assert not pending(inbox)


def test_a_reason_replaces_no_file_of_that_name(inbox: Path, log: Log) -> None:
    put(inbox, "a-poison.error")
    assert hold(inbox, log, 1) is None
    put(inbox, "a-poison")
    assert hold(inbox, log, 2) is None
    found = tree(inbox)
    assert found.pop("failed/a-poison.error") == "the text of a-poison.error"
    assert "a-poison.error is poison" in found.pop("failed/a-poison.error.error")
    (file,) = (name for name, text in found.items() if text == "the text of a-poison")
    assert "a-poison is poison" in found[f"{file}.error"]


def test_a_failure_whose_text_cannot_be_kept_is_put_aside_all_the_same(
    inbox: Path, memory: MemoryStore
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("nothing can be said")

    handled: SimpleQueue[str] = SimpleQueue()
    runner = Face("sync")

    def handler(file: File) -> None:
        handled.put(file.name)
        if file.name == "mute":
            raise Mute
        if file.name != "z":
            raise ValueError(f"cannot read {file.name}")

    odd, long = os.fsdecode(b"caf\xe9"), 127 * "é"
    for name in (odd, "mute", "z", long):
        (inbox / name).touch()
    runner.start(make("sync", inbox, handler, store=memory, retries=0))
    assert [handled.get(timeout=LIMIT_S) for _ in range(3)] == [odd, "mute", "z"]
    until((inbox / "failed" / f"{124 * 'é'}.error").exists, "the rest is handled")
    runner.stop()
    assert (inbox / "done" / "z").exists()
    assert "cannot read caf\\udce9" in (inbox / "failed" / f"{odd}.error").read_text()
    assert "Mute" in (inbox / "failed" / "mute.error").read_text()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_what_is_written_beside_a_file_in_hand_is_told(
    inbox: Path, memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Face("sync")

    def handler(file: File) -> None:
        file.path.with_suffix("").write_text("unpacked")

    put(inbox, "a.gz", "b")
    runner.start(make("sync", inbox, handler, store=memory))
    until((inbox / "done" / "b").exists, "both are handled")
    runner.stop()
    (told,) = warnings(caplog)
    assert "1-1/a' was written beside a file in hand" in told
    put(inbox, "c")
    mine = claims(inbox, 2)
    mine.open()
    assert mine.claim("c")
    claims(inbox, 3).open()
    (_, told) = warnings(caplog)
    assert "2 files were in hand, and one is at a time" in told


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"order": "size"}, "'name' or 'mtime'"),
        ({"retries": -1}, "from 0 on"),
        ({"ignore": "*.part"}, "list of patterns"),
        ({"done": "."}, "new again"),
        ({"settle": "a while"}, "no duration"),
        ({"errors": "hide"}, "'log' or 'raise'"),
        ({"threads": 3}, "one thread"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    settings: dict[str, Any], says: str, inbox: Path, memory: MemoryStore
) -> None:
    with pytest.raises(ConfigError, match=says):
        make("sync", inbox, print, store=memory, **settings)


def test_a_folder_that_is_not_there_is_refused_at_once(inbox: Path, memory: MemoryStore) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        make("sync", inbox / "absent", print, store=memory)


@pytest.mark.parametrize("setting", ["done", "failed"])
def test_another_file_system_is_refused_at_once(
    setting: str, inbox: Path, memory: MemoryStore
) -> None:
    """On a standby, too: it would be told when it has to take over."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        for folder in (elsewhere, f"{elsewhere}/not/there/yet"):
            with pytest.raises(ConfigError, match=f"{elsewhere}.* on another file system"):
                make("sync", inbox, print, store=memory, **{setting: folder})
        assert not os.listdir(elsewhere)
        with pytest.raises(ConfigError, match="on another file system"):
            claims(inbox, 1).open(Path(elsewhere))


def test_another_mount_of_the_same_file_system_is_refused(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, memory: MemoryStore
) -> None:
    """Its device has the same number; only a rename tells."""
    asked: list[Path] = []

    class Mounted:
        path, stat = os.path, staticmethod(os.stat)

        @staticmethod
        def rename(source: Path, target: Path) -> None:
            asked.append(target.parent)
            if target.parent.name == "mounted":
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            os.rename(source, target)

    monkeypatch.setattr(mounts, "os", Mounted)
    (inbox / "mounted").mkdir()
    with pytest.raises(ConfigError, match=r"mounted is on another file system or mount"):
        make("sync", inbox, print, store=memory, done="mounted")
    make("sync", inbox, print, store=memory)
    assert asked[-1] == inbox


def test_a_folder_that_is_mounted_over_while_at_work_ends_it_without_a_strike(
    inbox: Path, log: Log
) -> None:
    put(inbox, "a")
    refusals = [errno.EXDEV]

    def refuse(_: int) -> None:
        if log.lines() and refusals:
            raise OSError(refusals.pop(), "Invalid cross-device link")

    error = hold(inbox, log, 1, Steps(refuse))
    assert isinstance(error, ConfigError)
    assert "done is on another file system or mount" in str(error)
    (left,) = pending(inbox)
    assert left.endswith("1-0/a")


# -- crashes ------------------------------------------------------------------------------------


def test_nothing_is_lost_or_left_by_a_crash_before_any_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step, and some pairs."""
    caplog.set_level("CRITICAL", logger="incumbent")
    (verdict,) = play_all(tmp_path, crashed_before, "40")
    assert verdict.endswith(" 0 failures")


def test_the_same_with_processes_that_are_killed() -> None:
    """It forks, and so is a program of its own."""
    program = [sys.executable, "-m", "tests.workloads.polling.crashes", "--pairs", "4"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" 0 failures\n")


def test_a_file_that_kills_its_process_is_put_aside_in_the_end(inbox: Path, log: Log) -> None:
    put(inbox, "a", "b")
    for token in range(1, 5):
        mine = claims(inbox, token)
        if not mine.open():
            assert mine.claim("a")
    assert hold(inbox, log, 5) is None
    assert log.lines() == [("b", 1, 5)]
    assert set(tree(inbox)) == {"failed/a", "failed/a.error", "done/b"}
    assert "never came to its end" in tree(inbox)["failed/a.error"]


def test_two_files_of_one_name_in_hand_are_both_kept(inbox: Path, log: Log) -> None:
    """It cannot come to this by our own doing."""
    root = inbox / ".incumbent" / "files"
    for token in (1, 2):
        (root / str(token) / "1-1").mkdir(parents=True)
        (root / str(token) / "1-1" / "a").write_text(f"of {token}")
    assert hold(inbox, log, 3) is None
    assert sorted(tree(inbox).values()) == ["of 1", "of 2"]
    assert not pending(inbox)


# -- former holders -----------------------------------------------------------------------------


def steps_of_one_holder(folder: Path) -> int:
    folder.mkdir()
    put(folder, "a", "b-poison", "c")
    steps = Steps(lambda _: None)
    assert hold(folder, Log(folder.parent / "first"), 1, steps) is None
    return steps.taken


class Overtaken:
    """A holder that stands still before a step, while its successor does everything.

    Then it goes on; its term is trusted all the while, so what stops it is the folder alone.
    """

    def __init__(self, inbox: Path, log: Log, step: int) -> None:
        self._inbox, self._log, self._step = inbox, log, step
        self.failure: BaseException | None = None
        self.after: dict[str, str] = {}
        self.handled = 0
        self.error = hold(inbox, log, 1, Steps(self._before))

    def _before(self, taken: int) -> None:
        if taken == self._step:
            with mock.patch.object(claims_module, "os", os):
                successor = threading.Thread(target=self._succeed)
                successor.start()
                successor.join(LIMIT_S)
            put(self._inbox, "new")
            self.after = tree(self._inbox)
            self.handled = len(self._log.lines())

    def _succeed(self) -> None:
        self.failure = hold(self._inbox, self._log, 2)


def test_a_former_holder_changes_nothing_at_whichever_step_it_wakes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", logger="incumbent")
    total = steps_of_one_holder(tmp_path / "count")
    for step in range(1, total + 1):
        inbox = tmp_path / str(step)
        inbox.mkdir()
        put(inbox, "a", "b-poison", "c")
        log = Log(tmp_path / f"{step}.log")
        old = Overtaken(inbox, log, step)
        assert old.failure is None, step
        assert tree(inbox) == old.after, step
        assert set(old.after) - {"failed/b-poison.error"} == {
            "new",
            "done/a",
            "done/c",
            "failed/b-poison",
        }, step
        begun_after = log.lines()[old.handled :]
        assert len(begun_after) <= 1, "but for the file that it was about to be given"
        assert isinstance(old.error, StaleToken), step


def test_a_holder_with_a_smaller_token_is_told_at_once(inbox: Path) -> None:
    claims(inbox, 7).open()
    with pytest.raises(StaleToken, match="has seen token 7, and this term has 5"):
        claims(inbox, 5).open()


def test_two_holders_of_one_token_have_not_one_file(inbox: Path) -> None:
    """Two stores that know nothing of each other, and one folder."""
    first = claims(inbox, 1)
    first.open()
    put(inbox, "a")
    mine = first.claim("a")
    assert mine is not None
    with pytest.raises(ConfigError, match="another holder had token 1"):
        claims(inbox, 1).open()
    assert first.finish(mine, None) is None
    claims(inbox, 2).open()
    with pytest.raises(StaleToken):
        claims(inbox, 1).open()


def test_folders_that_are_meddled_with_are_named(inbox: Path) -> None:
    root = inbox / ".incumbent" / "files"
    mine = claims(inbox, 1)
    mine.open()
    put(inbox, "a")
    (root / "1" / "1-1").rmdir()
    with pytest.raises(ConfigError, match="1-1 was removed by somebody else"):
        mine.claim("a")
    (root / "1").rmdir()
    with pytest.raises(ConfigError, match="was removed by somebody else"):
        mine.claim("a")
    (root / "2" / "odd").mkdir(parents=True)
    with pytest.raises(ConfigError, match="does not belong there"):
        claims(inbox, 3).open()


def test_a_claim_does_not_overwrite(inbox: Path) -> None:
    mine = claims(inbox, 1)
    mine.open()
    put(inbox, "a")
    assert mine.claim("a")
    put(inbox, "a")
    with pytest.raises(IncumbentError, match="in the way"):
        mine.claim("a")
    assert mine.claim("gone") is None
