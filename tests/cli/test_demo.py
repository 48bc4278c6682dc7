"""The demo as people run it, and what it leaves behind."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from incumbent.cli.demo_log import judge, parse
from incumbent.cli.demo_worker import Poller, job_path, log_path
from incumbent.clock import boottime
from incumbent.core.fence import Trust
from incumbent.runtime.term import Term
from tests.cli.conftest import Start
from tests.cli.processes import run, run_in_terminal

JOBS = 20


def of(folder: Path) -> list[int]:
    """Every worker of the demo in `folder` that lives."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "incumbent.cli.demo_worker" in words and str(folder) in words:
            found.append(int(file.parent.name))
    return found


def test_the_demo_ends_by_itself_with_a_verdict_for_programs(tmp_path: Path) -> None:
    started_s = boottime()
    done = run("demo", "--json", "--keep", extra={"TMPDIR": str(tmp_path)})
    assert done.code == 0, done.err
    assert boottime() - started_s < 45
    found = done.json
    assert found["outcome"] == "kept"
    assert found["takeovers"] == 3
    assert [gap["fault"] for gap in found["gaps"]] == ["kill", "pause", "handover"]
    assert found["jobs"] > 50
    assert (found["duplicates"], found["missing"], found["overlaps"]) == ([], [], [])
    assert found["stale_lines"] == 0
    tokens = [term["token"] for term in found["terms"]]
    assert tokens == sorted(set(tokens))

    folder = Path(found["folder"])
    assert folder.parent == tmp_path
    assert of(folder) == []
    lines, unreadable = parse(log_path(folder).read_text())
    again = judge(lines, unreadable=unreadable, least_takeovers=3)
    assert (again.outcome, again.jobs, again.lines) == ("kept", found["jobs"], found["log_lines"])

    said = done.err
    assert "own kernel timer ended it" in said
    assert "does not wake up" in said
    times = [float(time) for time in re.findall(r"^ *([\d.]+)  ", said, re.MULTILINE)]
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.5


def test_the_demo_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code, screen = run_in_terminal("demo", "--ttl", "2", columns=80)
    assert code == 0, screen
    assert "\x1b[" in screen
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert "The promise was kept" in plain
    assert "ACTIVE" in plain
    for row in re.split(r"[\r\n]+", plain):
        assert len(row) <= 80, row
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    demo = start("demo")
    while "is active" not in demo.line():
        pass
    (folder,) = tmp_path.iterdir()
    assert len(of(folder)) == 3
    demo.process.send_signal(number)
    assert demo.wait() == 130
    assert of(folder) == []
    assert list(tmp_path.iterdir()) == []


def test_the_replicas_of_a_demo_that_is_killed_die_with_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    demo = start("demo")
    while "is active" not in demo.line():
        pass
    (folder,) = tmp_path.iterdir()
    replicas = [os.pidfd_open(pid) for pid in of(folder)]
    assert len(replicas) == 3
    demo.process.kill()
    demo.wait()
    for replica in replicas:
        assert select.select([replica], [], [], 10)[0]
        os.close(replica)


def test_pollers_that_are_not_elected_do_every_job_each(tmp_path: Path) -> None:
    """The work is such that two of them break it, and the verdict says so."""
    (tmp_path / "inbox").mkdir()
    for number in range(1, JOBS + 1):
        job_path(tmp_path, number).write_text(str(number))
    trust = Trust()
    trust.confirm(boottime(), 60)
    terms = [
        Term(name="demo", identity=name, token=token, term=name, trust=trust)
        for name, token in (("a", 1), ("b", 2))
    ]
    read = threading.Barrier(len(terms), timeout=10)

    class Alone(Poller):
        def first_open_job(self) -> int:
            job = super().first_open_job()
            read.wait()
            return job

        def _write(self, term: Term, what: str, job: int = 0) -> None:
            super()._write(term, what, job)
            if job == JOBS:
                term.end("the test is over")

    threads = [
        threading.Thread(target=Alone(term.identity, tmp_path).work, args=(term,)) for term in terms
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines, _ = parse(log_path(tmp_path).read_text())
    found = judge(lines, least_takeovers=1)
    assert found.outcome == "broken"
    assert found.duplicates == tuple(range(1, JOBS + 1))
    assert found.stale


def test_a_lease_that_would_take_too_long_is_refused() -> None:
    done = run("demo", "--ttl", "60")
    assert done.code == 2
    assert done.err.startswith("incumbent: error: ")
    assert done.out == ""
