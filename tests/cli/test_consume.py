"""`incumbent consume`, and `[[consumer]]` sections, in processes of their own, on a real Redis."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Start
from tests.cli.processes import run
from tests.servers.ports import claim_port
from tests.servers.redis import Redis
from tests.workloads.consuming import until

TTL = ("--ttl", "1", "--backoff", "0.01")


class Stream:
    """A stream that is consumed, and what the commands have written."""

    def __init__(self, server: Redis, client: Any, folder: Path) -> None:
        self.client = client
        self.url = server.url("stream=lines", database=0)
        self.log = folder / "log"

    def put(self, *bodies: bytes) -> None:
        for body in bodies:
            self.client.xadd("lines", {"body": body})

    def until_done(self) -> None:
        """Wait until nothing is pending or undelivered."""

        def done() -> bool:
            groups: Any = self.client.xinfo_groups("lines")
            return bool(groups and groups[0]["pending"] == 0 and groups[0]["lag"] == 0)

        until(done, "all are done")

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def stream(redis_server: Redis, tmp_path: Path) -> Iterator[Stream]:
    with closing(redis_server.client(db=0)) as client:
        client.delete("lines", "lines:dead")
        yield Stream(redis_server, client, tmp_path)


def test_each_item_is_a_run_of_the_command_through_the_death_of_its_host(
    url: str, start: Start, stream: Stream
) -> None:
    stream.put(*(b"%d" % number for number in range(6)), b"\xff\xfe")
    script = f'cat >> {stream.log}; test "$INCUMBENT_ITEM" && test "$INCUMBENT_TOKEN"'
    line = ("consume", stream.url, "lines", "--store", url, *TTL, "--", "sh", "-c", script)
    first = start(*line)
    until(lambda: stream.log.exists() and len(stream.lines()) >= 2, "the first one is at work")
    start(*line)
    first.signal(signal.SIGKILL)
    stream.until_done()
    stream.put(b"last")
    until(lambda: stream.lines()[-1].get("body") == "last", "the second one goes on")
    told = stream.lines()
    bodies = [item.get("body") or item["body_base64"] for item in told]
    once = list(dict.fromkeys(bodies))
    assert once == ["0", "1", "2", "3", "4", "5", "//4=", "last"]
    assert len(bodies) <= len(once) + 1, "what was in hand may come again"
    tokens = [item["token"] for item in told]
    assert tokens == sorted(tokens)


def test_what_does_not_end_with_0_is_tried_again_and_buried(
    url: str, start: Start, stream: Stream
) -> None:
    stream.put(b"good", b"bad", b"good, too")
    script = f"grep -v '\"bad\"' >> {stream.log} || exit 3"
    words = ("--retries", "1", "--dead-letter", "graves", "--", "sh", "-c", script)
    start("consume", stream.url, "lines", "--store", url, *TTL, *words)
    stream.until_done()
    assert [item["body"] for item in stream.lines()] == ["good", "good, too"]
    ((_, fields),) = stream.client.xrange("graves")
    assert fields[b"body"] == b"bad"
    assert fields[b"incumbent-reason"] == b"CommandFailed: the command ended with 3"
    stream.client.delete("graves")


def test_a_section_of_a_file(url: str, start: Start, stream: Stream, tmp_path: Path) -> None:
    path = tmp_path / "work.toml"
    path.write_text(
        f'store = "{url}"\nttl_s = 1\n[[consumer]]\nname = "lines"\nsource = "{stream.url}"\n'
        f'command = ["sh", "-c", "cat >> {stream.log}"]\n'
    )
    stream.put(b"one")
    start("work", str(path))
    stream.until_done()
    assert [item["body"] for item in stream.lines()] == ["one"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "a"\ncommand = ["true"]', "say from where"),
        ('name = "a"\nsource = "redis://h/0?stream=s"', "say what"),
        (
            'name = "a"\nsource = "redis://h/0?stream=s"\ncommand = ["true"]\neffects = "x:/y"',
            "no part in a transaction",
        ),
        ('name = "a"\nsource = "redis://h/0"\ncommand = ["true"]', "which stream"),
        ('name = "a"\nsource = "redis://h/0?stream=s"\ncall = "os:nothing"', "os:nothing"),
        ('name = "a"\nsource = "redis://h/0?stream=s"\ncommand = ["true"]\nretry = 1', "retry"),
    ],
)
def test_a_section_that_cannot_be_meant(url: str, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "work.toml"
    path.write_text(f'store = "{url}"\n[[consumer]]\n{text}\n')
    done = run("work", "--check", str(path))
    assert done.code == 2
    assert words in done.err


def test_a_source_that_is_none_is_refused_at_once(url: str) -> None:
    done = run("consume", "nats://h", "lines", "--store", url, "--", "true")
    assert done.code == 2
    assert "no source answers to nats://" in done.err


@pytest.mark.parametrize("loud", [[], ["-vv"]])
def test_that_the_broker_is_away_is_said_and_nothing_is_said_twice(
    url: str, start: Start, loud: list[str]
) -> None:
    source = f"redis://127.0.0.1:{claim_port()}/0?stream=lines"
    process = start("consume", source, "lines", "--store", url, *TTL, *loud, "--", "true")
    assert process.process.stderr is not None
    told: list[str] = []
    while not told or "tried again until this is over" not in told[-1]:
        told.append(process.process.stderr.readline())
        assert told[-1], told
    process.signal(signal.SIGTERM)
    told += process.process.stderr.readlines()
    assert process.wait() == 128 + signal.SIGTERM
    for words in ("elected: 'lines'", f"lines: {source}: ", "stopping the work of 'lines'"):
        assert sum(words in line for line in told) == 1, told


def test_a_failed_command_is_one_line_for_each_attempt(
    url: str, start: Start, stream: Stream
) -> None:
    stream.put(b"bad")
    words = ("--retries", "1", "--", "sh", "-c", "exit 3")
    process = start("consume", stream.url, "lines", "--store", url, *TTL, *words)
    stream.until_done()
    process.signal(signal.SIGTERM)
    told = process.errors()
    for number in (1, 2):
        said = f"failed, attempt {number} of 2: CommandFailed: the command ended with 3\n"
        assert told.count(said) == 1, told
    assert "Traceback" not in told


def test_a_name_in_the_place_of_the_source_is_refused(url: str) -> None:
    done = run("consume", "orders", "lines", "--store", url, "--", "true")
    assert done.code == 2
    assert "'orders' is no URL of a queue. SOURCE comes first" in done.err
