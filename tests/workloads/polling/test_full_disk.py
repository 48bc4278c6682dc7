"""A disk without room: the work waits for it, and loses and repeats nothing."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import pytest

import incumbent
from incumbent import testing
from incumbent.workloads.polling.directory import File
from tests.workloads.faces import LIMIT_S, Face


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k,nr_inodes=16", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def filled(folder: Path) -> list[Path]:
    made: list[Path] = []
    with suppress(OSError):
        while True:
            made.append(folder / f".fill-{len(made)}")
            made[-1].touch()
    return made[:-1]


def test_a_retry_for_which_there_is_no_room_is_made_when_there_is(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on: it would else end with an error of the operating system."""
    handled: SimpleQueue[int] = SimpleQueue()
    waiting: SimpleQueue[str] = SimpleQueue()
    fill: list[Path] = []

    def handler(file: File) -> None:
        handled.put(file.attempt)
        if file.attempt == 1:
            fill.extend(filled(small_disk))
            raise ValueError("no")

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "no room" in record.getMessage():
                waiting.put(record.getMessage())

    (small_disk / "a").write_text("the text of a")
    work = incumbent.Directory(
        *(small_disk, handler),
        name="files",
        store=testing.memory_store(),
        settle=0,
        retries=1,
        backoff="10ms",
        every="1h",
        deadman=False,
    )
    logger, told = logging.getLogger("incumbent"), Told()
    logger.addHandler(told)
    runner = Face("sync")
    try:
        runner.start(work)
        assert handled.get(timeout=LIMIT_S) == 1
        assert "'a' is not tried again" in waiting.get(timeout=LIMIT_S)
        assert runner.failure is None
        for path in fill:
            path.unlink()
        assert handled.get(timeout=LIMIT_S) == 2
    finally:
        runner.stop()
        logger.removeHandler(told)
    assert handled.empty()
    assert waiting.empty(), "it is said once"
