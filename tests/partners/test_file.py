"""Beside `flock` of util-linux, on one file: who holds, who waits, who is next, what breaks it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from incumbent.errors import StaleToken
from incumbent.fencing import Fence
from tests.partners.member import Member
from tests.partners.passing import all_pass_on, ended

TTL_S = 3.0
BEATS = 65
LIMIT_S = 60.0
NO_TOKEN = 0
CHILD = f"{sys.executable} -m tests.partners.python.child"


def ours(folder: Path, name: str = "incumbent") -> Member:
    url = f"file://{folder}/locks?recipe=flock&lock={{name}}.lock"
    words = ["-m", "tests.partners.ours", url, "jobs", name, str(TTL_S)]
    return Member(name, [sys.executable, *words], folder)


def theirs(folder: Path, options: str = "--no-fork", file: str = "jobs.lock") -> Member:
    (folder / "locks").mkdir(exist_ok=True)
    line = f"{CHILD} waiting; exec flock {options} '{folder}/locks/{file}' {CHILD}"
    return Member("flock", ["/bin/sh", "-c", line], folder)


def test_each_takes_over_from_the_other(tmp_path: Path) -> None:
    def makes(name: str) -> tuple[Member, Member]:
        folder = tmp_path / name
        folder.mkdir()
        return ours(folder), theirs(folder)

    all_pass_on(makes, beats=BEATS, limit_s=LIMIT_S)


def test_a_command_works_on_without_the_lock_and_the_fence_refuses_it(tmp_path: Path) -> None:
    """`flock -o` closes the descriptor before the command, which outlives whoever has the lock."""
    stale, next_one = theirs(tmp_path, "-o"), ours(tmp_path)
    with ended(stale, next_one):
        stale.start()
        left = stale.wait_for("holding", LIMIT_S)["pid"]
        try:
            next_one.start()
            next_one.wait_for("waiting", LIMIT_S)
            stale.kill()
            token = next_one.wait_for("holding", LIMIT_S)["token"]
            worked = len(stale.all("beat"))
            stale.wait_for("beat", LIMIT_S, count=worked + 3)
            assert not stale.all("stopped"), "two work at once: that is what it can break"
            write(tmp_path / "resource", token)
            with pytest.raises(StaleToken):
                write(tmp_path / "resource", NO_TOKEN)
            assert (tmp_path / "resource").read_text() == f"{token}\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)


def test_a_file_that_is_made_anew_lets_it_in_and_the_fence_refuses_our_old_term(
    tmp_path: Path,
) -> None:
    holder, intruder = ours(tmp_path), theirs(tmp_path, file="made-anew")
    with ended(holder, intruder):
        holder.start()
        old = holder.wait_for("holding", LIMIT_S)["token"]
        intruder.start()
        intruder.wait_for("holding", LIMIT_S)
        (tmp_path / "locks/made-anew").rename(tmp_path / "locks/jobs.lock")
        holder.wait_for("stopped", LIMIT_S)
        intruder.wait_for("beat", LIMIT_S, count=3)
        assert len(holder.all("holding")) == 1, "it does not take it from them"
        intruder.leave(LIMIT_S)
        new = holder.wait_for("holding", LIMIT_S, count=2)["token"]
        assert new > old
        write(tmp_path / "resource", new)
        with pytest.raises(StaleToken):
            write(tmp_path / "resource", old)


def write(path: Path, token: int) -> None:
    """Write to a file whose writers compare tokens, as a holder of this one would."""
    with Fence("resource", token, lambda: None).file(path):
        path.write_text(f"{token}\n")
