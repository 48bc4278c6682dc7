"""What marks tell, on marks made by hand, and on those of a process that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import reader
from tests.cluster.marks import MARK_BYTES, mark, open_file
from tests.cluster.reader import Overlap, Span
from tests.cluster.site import HERE


def _span(pod: str, first: int, last: int, token: int = 0) -> Span:
    return Span(pod, "node1", 1, token, first, last)


def test_a_process_killed_in_the_middle_leaves_whole_marks(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    environment = {**os.environ, "POD_UID": "a-uid", "NODE_NAME": "node1", "INCUMBENT_TOKEN": "7"}
    words = [sys.executable, "-I", "-S", str(HERE / "marks.py"), str(path)]
    with subprocess.Popen(words, env=environment) as worker:
        deadline_s = time.monotonic() + 10
        while len(reader.read(path)) < 3:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)  # sleep: the worker says nothing but its marks
        worker.send_signal(signal.SIGKILL)
    assert path.stat().st_size % MARK_BYTES == 0
    (span,) = reader.spans(reader.read(path))
    assert (span.pod, span.node, span.pid, span.token) == ("a-uid", "node1", worker.pid, 7)
    assert span.first_ns < span.last_ns


def test_a_worker_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    with subprocess.Popen([sys.executable, HERE / "marks.py", path]) as worker:
        deadline_s = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)  # sleep: the worker says nothing but its marks
        worker.terminate()
        assert worker.wait(10) == 0


def test_there_are_no_marks_before_the_first(tmp_path: Path) -> None:
    assert reader.read(tmp_path / "nothing") == []


def test_states_and_tokens_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    file = open_file(str(path))
    for state, token in (("serving", 0), ("active", 3), ("active", 3), ("active", 5)):
        mark(file, state, token)
    os.close(file)
    marks = reader.read(path)
    assert [span.token for span in reader.spans(marks)] == [3, 5]
    assert [span.token for span in reader.spans(marks, "serving")] == [0]


@pytest.mark.parametrize(
    ("spans", "found", "most"),
    [
        ([], [], 0),
        ([_span("a", 0, 10)], [], 1),
        ([_span("a", 0, 10), _span("b", 11, 20)], [], 1),
        ([_span("a", 0, 10), _span("b", 10, 20)], [Overlap(10, 10, 2)], 2),
        ([_span("a", 0, 10), _span("b", 4, 20)], [Overlap(4, 10, 2)], 2),
        ([_span("a", 0, 30), _span("b", 4, 8), _span("c", 9, 12)], [(4, 8), (9, 12)], 2),
        (
            [_span("a", 0, 30), _span("b", 4, 20), _span("c", 9, 12)],
            [Overlap(4, 9, 2), Overlap(9, 12, 3), Overlap(12, 20, 2)],
            3,
        ),
    ],
)
def test_overlaps(spans: list[Span], found: list[Overlap | tuple[int, int]], most: int) -> None:
    wanted = [Overlap(*one, 2) if isinstance(one, tuple) else one for one in found]
    assert reader.overlaps(spans) == wanted
    assert reader.most_at_once(spans) == most


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ([], [(5, 25)]),
        ([_span("a", 0, 30)], []),
        ([_span("a", 0, 10), _span("b", 12, 30)], [(10, 12)]),
        ([_span("a", 0, 20), _span("b", 8, 10)], [(20, 25)]),
        ([_span("a", 7, 10), _span("b", 40, 50)], [(5, 7), (10, 25)]),
    ],
)
def test_gaps(spans: list[Span], found: list[tuple[int, int]]) -> None:
    assert reader.gaps(spans, 5, 25) == found
