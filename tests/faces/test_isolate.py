"""Isolated work: it dies in time, whatever becomes of it or of us, and we live on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from incumbent import Election, IncumbentError, NotElected, aio
from tests.faces import works
from tests.faces.programs import (
    LIMIT_S,
    Program,
    Start,
    assert_no_overlap,
    is_stopped,
    marks,
    pidfd_ended,
    until,
)

LEAD = """
    from functools import partial
    from incumbent import sync
    from incumbent.runtime.isolate import Isolation

    def observe(sighting):
        say(sighting.event)
        if sighting.event == "stuck":
            sys.stderr.write(sighting.text)

    url, ttl_s, work = sys.argv[1], float(sys.argv[2]), eval(sys.argv[3])
    face, contain = [*sys.argv[4:], "sync", "auto"][:2]
    sync.election.Isolation = aio.election.Isolation = partial(Isolation, contain)
    face = {"sync": sync, "aio": aio}[face]
    election = face.Election("e", store=url, ttl_s=ttl_s, observer=observe)
    threading.Thread(target=lambda: (hear(), election.step_down()), daemon=True).start()
    try:
        result = election.lead(work, isolate=True)
        say("result", result if face is sync else asyncio.run(result))
    except Exception as error:
        say("error", type(error).__name__, str(error))
        hear()
"""
each_face = pytest.mark.parametrize("face", ["sync", "aio"])
each_mode = pytest.mark.parametrize("contain", ["auto", "group"])


def faces(url: str, ttl_s: float = 5.0) -> list[Callable[[Any], Any]]:
    plain = Election("e", store=url, ttl_s=ttl_s)
    later = aio.Election("e", store=url, ttl_s=ttl_s)
    return [
        lambda work: plain.lead(work, isolate=True, timeout_s=LIMIT_S),
        lambda work: asyncio.run(later.lead(work, isolate=True, timeout_s=LIMIT_S)),
    ]


@pytest.mark.parametrize("face", [0, 1])
def test_results_and_errors_travel(face: int, url: str) -> None:
    lead = faces(url)[face]
    name, token, pid = lead(works.answer)
    assert (name, token > 0, pid != os.getpid()) == ("e", True, True)
    assert lead(works.answer_later) == "e"
    with pytest.raises(ValueError, match="it failed"):
        lead(works.fail)
    with pytest.raises(IncumbentError, match="pickle"):
        lead(works.unpicklable)
    with pytest.raises(IncumbentError, match="TwoParts"):
        lead(works.fail_in_two_parts)
    with pytest.raises(IncumbentError, match="status 7, without a result"):
        lead(works.leave)
    with Election("e", store=url, ttl_s=5).hold(timeout_s=0):
        pass


def test_a_script_without_a_guard_of_its_main_part_is_told(
    start: Start, url: str, tmp_path: Path
) -> None:
    """Its own work would wait for the term whose work it is."""
    script = tmp_path / "script.py"
    script.write_text(
        "import incumbent, sys\n"
        "def work(term): return 1\n"
        "election = incumbent.Election('e', store=sys.argv[1], ttl_s=60)\n"
        "election.lead(work, isolate=True)\n"
    )
    program = start("os.execv(sys.executable, [sys.executable, *sys.argv[1:]])", str(script), url)
    assert program.wait() == 1
    assert 'if __name__ == "__main__":' in program.errors()
    with Election("e", store=url, ttl_s=60).hold(timeout_s=0):
        pass


def test_work_that_is_not_found_over_there_is_said(start: Start, url: str) -> None:
    source = """
        def work(term):
            return 1

        try:
            Election("e", store=sys.argv[1]).lead(work, isolate=True)
        except incumbent.ConfigError as error:
            say(error)
    """
    program = start(source, url)
    program.expect("isolated work could not be loaded in its own process: Can't get attribute")


def test_stepping_down_stops_it_before_another_begins(
    start: Start, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "marks"
    program = start(LEAD, url, "20", f"works.Marking({str(path)!r})")
    program.expect("elected")
    until(lambda: len(marks(path)) > 3, "it works")
    program.tell()
    with Election("e", store=url, ttl_s=20).hold(timeout_s=LIMIT_S) as term:
        last = marks(path)[-1]
        assert last[0] < (term.token or 0)
        program.expect("stopping")
        program.expect("standby")
        assert marks(path)[-1] == last


def test_deaf_work_that_holds_the_interpreter_is_killed_and_we_contend_again(
    start: Start, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "once"
    program = start(LEAD, url, "2", f"works.OnceDeaf({str(path)!r})")
    program.expect("elected")
    until(path.exists, "it works")
    program.tell()
    program.expect("stopping")
    line = program.line()
    while not line.startswith("result"):
        assert line in ("standby", "elected", "closed", "stuck"), line
        line = program.line()
    assert program.wait() == 0


@each_mode
def test_we_are_stopped_and_the_work_is_dead_by_the_deadline(
    contain: str, start: Start, url: str, tmp_path: Path
) -> None:
    """The guard dies of its timer, so it is not the guard who confirms the end of the work."""
    path = tmp_path / "marks"
    work = f"works.Marking({str(path)!r}, deaf=True)"
    program = start(LEAD, url, "2", work, "sync", contain)
    program.expect("elected")
    until(lambda: len(marks(path)) > 3, "it works")
    worker = os.pidfd_open(_outer_pid(program, path))
    program.send(signal.SIGSTOP)
    until(lambda: is_stopped(program.pid), "it is stopped")
    with Election("e", store=url, ttl_s=2).hold(timeout_s=LIMIT_S) as term:
        found = marks(path)
        assert all(token < (term.token or 0) for token, _, _ in found)
        assert pidfd_ended(worker, 0)
        os.close(worker)
        program.send(signal.SIGCONT)
        # It has lost, and is a standby again: neither an error nor a second holder. "stuck" is said
        # where the clock, which is past the deadline, is looked at before the end of the work.
        line = program.line()
        while line != "standby":
            assert line in ("stopping", "release-late", "stuck"), line
            line = program.line()
        assert marks(path) == found
    program.expect("elected")
    until(lambda: marks(path)[-1][0] > found[-1][0], "it works again")
    assert_no_overlap(path)


def test_we_are_killed_and_the_work_dies_with_us(start: Start, url: str, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    program = start(LEAD, url, "20", f"works.Marking({str(path)!r}, deaf=True)")
    program.expect("elected")
    until(lambda: len(marks(path)) > 3, "it works")
    worker = os.pidfd_open(_outer_pid(program, path))
    began = time.monotonic()
    program.send(signal.SIGKILL)
    with Election("e", store=url, ttl_s=20).hold(timeout_s=LIMIT_S):
        assert pidfd_ended(worker, 0)
        assert time.monotonic() - began < 10
    os.close(worker)


@each_face
@each_mode
def test_the_guard_is_killed_and_the_work_is_dead_before_the_lease_goes(
    face: str, contain: str, start: Start, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "marks"
    work = f"works.Marking({str(path)!r}, deaf=True)"
    program = start(LEAD, url, "20", work, face, contain)
    program.expect("elected")
    until(lambda: len(marks(path)) > 3, "it works")
    worker = os.pidfd_open(_outer_pid(program, path))
    os.kill(_guard(program), signal.SIGKILL)
    with Election("e", store=url, ttl_s=20).hold(timeout_s=10) as term:
        assert pidfd_ended(worker, 0)
        assert marks(path)[-1][0] < (term.token or 0)
    os.close(worker)
    program.expect("closed")
    program.expect("error IncumbentError the isolated work ended with status 137")


@each_face
@pytest.mark.parametrize("asked", [False, True])
def test_work_whose_end_cannot_be_confirmed_is_never_released(
    face: str, asked: bool, start: Start, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "marks"
    work = f"works.Marking({str(path)!r}, deaf=True)"
    program = start(LEAD, url, "20", work, face, "group")
    program.expect("elected")
    until(lambda: len(marks(path)) > 3, "it works")
    (subreaper,) = _children(_guard(program))
    if asked:
        program.tell()
        program.expect("stopping")
    os.kill(subreaper, signal.SIGKILL)
    rival = Election("e", store=url, ttl_s=20)
    found = [program.line(), program.line()]
    while not any(line.startswith(("error", "stuck")) for line in found[-2:]):
        found.append(program.line())
    assert any(line.startswith("error WorkStuck") for line in found), found
    assert "closed" not in found
    with pytest.raises(NotElected, match="is held by"), rival.hold(timeout_s=0):
        pytest.fail("it was released")
    program.send(signal.SIGKILL)
    assert "cannot be confirmed" in program.errors()


def test_the_terminals_signals_are_for_us_alone(start: Start, url: str, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    program = start(LEAD, url, "20", f"works.Marking({str(path)!r})")
    program.expect("elected")
    until(lambda: len(marks(path)) > 3, "it works")
    guard = _guard(program)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard, number)
    before = len(marks(path))
    until(lambda: len(marks(path)) > before + 20, "it works on")
    assert os.getsid(guard) != os.getsid(program.pid)
    program.tell()
    program.expect("stopping")


def test_an_asynchronous_one_is_cancelled_and_says_nothing(
    start: Start, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "marks"
    program = start(LEAD, url, "20", f"works.CancelledLater({str(path)!r})")
    program.expect("elected")
    until(lambda: len(marks(path)) == 1, "it works")
    program.tell()
    with Election("e", store=url, ttl_s=20).hold(timeout_s=LIMIT_S):
        assert len(marks(path)) == 2
        program.expect("stopping")
        program.expect("standby")
        program.send(signal.SIGKILL)
    assert "Traceback" not in program.errors()


def test_what_cannot_work_leaves_no_guard_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotElected), Election("e", store=url, ttl_s=5).hold():
        Election("e", store=url, ttl_s=5).lead(works.answer, isolate=True, timeout_s=0)
    monkeypatch.delenv("INCUMBENT_STORE", raising=False)
    election = Election("e", store=url, ttl_s=5)
    monkeypatch.setattr(election, "_settings", _refuse)
    before = _children(os.getpid())
    with pytest.raises(ZeroDivisionError):
        election.lead(works.answer, isolate=True)
    assert _children(os.getpid()) == before


def _refuse(**_: object) -> None:
    raise ZeroDivisionError


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return sorted(found)


def _guard(program: Program) -> int:
    return next(
        pid
        for pid in _children(program.pid)
        if b"incumbent.runtime.guard" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )


def _outer_pid(program: Program, path: Path) -> int:
    """The pid of the worker as we see it: in its namespace it has another one."""
    found = [program.pid]
    for pid in found:
        found += _children(pid)
    return next(pid for pid in found if _has_open(pid, path))


def _has_open(pid: int, path: Path) -> bool:
    try:
        return any(os.readlink(fd) == str(path) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
