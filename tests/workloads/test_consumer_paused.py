"""A handler that outlives its term, in a real process that is stopped before its commit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.postgresql import Postgres
from tests.workloads.queues import Queue, names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def queue(postgres: Postgres) -> Iterator[Queue]:
    made = Queue(postgres)
    yield made
    made.drop()


def start(queue: Queue, folder: Path, held: str) -> subprocess.Popen[str]:
    words = (f"sqlite://{folder}/elections.db", queue.source, queue.effects, held)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.workloads.pausing", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )


def said(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def test_what_was_paused_before_its_commit_commits_nothing(queue: Queue, tmp_path: Path) -> None:
    """Its effect is written, and its term is over before it gets back to its instructions."""
    queue.put(*names(20))
    first = start(queue, tmp_path, "i3")
    with first:
        try:
            said(first, "ready")
            said(first, "holding")
            os.kill(first.pid, signal.SIGSTOP)
            with start(queue, tmp_path, "") as second:
                try:
                    queue.until_empty()
                    os.kill(first.pid, signal.SIGCONT)
                    assert first.stdin is not None
                    first.stdin.write("\n")
                    first.stdin.flush()
                    said(first, "going on")
                    queue.put(*names(3, 20))
                    queue.until_empty()
                finally:
                    second.kill()
        finally:
            first.kill()
    assert queue.rows() == names(23)
    tokens = queue.rows("SELECT token FROM effect ORDER BY n")
    assert tokens == sorted(tokens)
    assert len(set(tokens[:3])) == 1
    assert len(set(tokens[3:])) == 1
    assert tokens[3] > tokens[2]


def test_what_is_killed_in_a_handler_is_done_by_the_next_one(queue: Queue, tmp_path: Path) -> None:
    queue.put(*names(10))
    with start(queue, tmp_path, "i5") as first:
        said(first, "ready")
        said(first, "holding")
        first.kill()
    with start(queue, tmp_path, "") as second:
        queue.until_empty()
        second.kill()
    assert queue.rows() == names(10)
