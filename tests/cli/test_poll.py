"""`incumbent poll`, and pollers of `incumbent work`, in processes of their own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from incumbent.cli import app, codes
from tests.cli.conftest import Start
from tests.cli.processes import LIMIT_S, Process, command

TTL = ("--ttl", "1")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def put(inbox: Path, *names: str) -> None:
    for name in names:
        (inbox / name).write_text(f"the text of {name}")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # sleep: the files are moved by another process


def test_a_command_handles_each_file_through_the_death_of_its_host(
    url: str, start: Start, inbox: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    script = (
        'echo "$INCUMBENT_NAME $INCUMBENT_ATTEMPT $INCUMBENT_TOKEN $(cat "$1")" >> "$2"; '
        'test "$INCUMBENT_NAME:$INCUMBENT_ATTEMPT" != b-hangs:1 || exec sleep 60'
    )
    line = ("poll", str(inbox), "files", "--settle", "0s", "--store", url, *TTL)
    words = ("--", "sh", "-c", script, "sh", "{}", str(log))
    first = start(*line, *words)
    put(inbox, "a")
    until((inbox / "done" / "a").exists)
    put(inbox, "b-hangs")
    until(lambda: "b-hangs 1" in log.read_text())
    start(*line, *words)
    first.signal(signal.SIGKILL)
    until((inbox / "done" / "b-hangs").exists)
    ran = [text.split(" ", 3) for text in log.read_text().splitlines()]
    assert [(name, attempt, text) for name, attempt, _, text in ran] == [
        ("a", "1", "the text of a"),
        ("b-hangs", "1", "the text of b-hangs"),
        ("b-hangs", "2", "the text of b-hangs"),
    ]
    assert int(ran[2][2]) > int(ran[1][2])


def test_a_command_that_fails_or_takes_too_long_puts_its_file_aside(
    url: str, start: Start, inbox: Path
) -> None:
    put(inbox, "fails", "takes-long")
    options = ("--settle", "0s", "--retries", "0", "--timeout", "0.3", "--store", url, *TTL)
    script = 'test "$INCUMBENT_NAME" != fails || exit 3; sleep 60'
    process = start("poll", str(inbox), "files", *options, "--", "sh", "-c", script)
    failed = inbox / "failed"
    until(lambda: (failed / "fails.error").exists() and (failed / "takes-long.error").exists())
    assert (failed / "fails.error").read_text() == "the command ended with 3\n"
    assert "it was ended after 0.3 s" in (failed / "takes-long.error").read_text()
    process.signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM


def test_a_file_in_hand_is_handed_over_without_a_strike(
    url: str, start: Start, inbox: Path
) -> None:
    options = ("--settle", "0s", "--delete", "--store", url, *TTL)
    process = start("poll", str(inbox), "files", *options, "--", "sh", "-c", "sleep 60")
    put(inbox, "a")
    until(lambda: list(inbox.glob(".incumbent/files/*/1-1/a")))
    process.signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert list(inbox.glob(".incumbent/files/*/1-0/a"))


def test_pollers_that_a_file_describes(url: str, inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import pathlib, incumbent\n"
        "@incumbent.poll('1h', store='memory://unused')\n"
        f"def look(poll): pathlib.Path({str(tmp_path / 'looked')!r}).write_text(str(poll.token))\n"
    )
    described = tmp_path / "work.toml"
    described.write_text(
        f"""
        store = "{url}"
        ttl_s = 1

        [[poller]]
        name = "files"
        directory = "{inbox}"
        command = ["rm", "{{}}"]
        settle = 0

        [[poller]]
        name = "look"
        every = "30ms"
        call = "mine:look"
        """
    )
    put(inbox, "a")
    with closing(Process(command("work", str(described)), {"PYTHONPATH": str(tmp_path)})):
        until(lambda: (tmp_path / "looked").exists() and not (inbox / "a").exists())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("poll", "absent", "files", "--", "true"), "is no folder"),
        (("poll", ".", "files", "--settle", "long", "--", "true"), "'long' is no duration"),
        (("poll", ".", "files", "--done", ".", "--", "true"), "would be new again"),
        (("poll", ".", "Files", "--", "true"), "election name 'Files'"),
        (("poll", ".", "files", "--delete", "--done", "x", "--", "true"), "leave one of them out"),
        (("poll", ".", "files", "--done", "/dev/shm/x", "--", "true"), "on another file system"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: tuple[str, ...], says: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = app.main([*words[:-2], "--store", url, *words[-2:]])
    assert code == codes.USAGE
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ('command = ["true"]', "add directory"),
        ('directory = "."', "say what"),
        ('call = "os:getcwd"', "say how often"),
        ('call = "os:nothing"\nevery = "1s"', "nothing"),
        ('directory = "."\ncommand = ["true"]\nretires = 3', "nobody knows retires"),
        (
            'directory = "."\ncommand = ["true"]\ndone = "x"\ndelete = true',
            "leave one of them out",
        ),
        (
            'directory = "."\ncall = "asyncio:sleep"',
            r"a coroutine function, and work from a file is done in threads",
        ),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(
    section: str, says: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = tmp_path / "work.toml"
    described.write_text(f'store = "{url}"\n[[poller]]\nname = "p"\n{section}\n')
    assert app.main(["work", "--check", str(described)]) == codes.USAGE
    assert says in capsys.readouterr().err
