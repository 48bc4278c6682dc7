"""`incumbent migrate` as users have it, and what other commands say of an election on its way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.processes import Process, Result, run

TTL = ("--ttl", "2")


@pytest.fixture
def urls(url: str, tmp_path: Path) -> tuple[str, str]:
    return url, f"file://{tmp_path}/to"


@pytest.fixture
def follower(urls: tuple[str, str]) -> Iterator[Start]:
    """Start a candidate of the new configuration."""
    started: list[Process] = []

    def starting(as_: str, url: str = urls[1]) -> Process:
        argv = [sys.executable, "-m", "tests.cli.candidate", "bill", url, as_, "2.0", "good"]
        started.append(Process(argv))
        return started[-1]

    yield starting
    for process in started:
        process.close()


def migrate(urls: tuple[str, str], *options: str) -> Result:
    return run("migrate", *urls, "bill", *TTL, *options)


def test_the_whole_procedure(urls: tuple[str, str], candidate: Start, follower: Start) -> None:
    before = candidate("old").event("elected")
    done = migrate(urls, "--prepare")
    assert (done.code, f"{urls[1]}?tokens_from=" in done.err) == (2, True)
    assert run("status", "bill", "--store", urls[1], "--json").json["state"] == "barred"
    urls = (urls[0], done.err.split()[-1])
    done = migrate(urls, "--prepare")
    assert (done.code, [line.split(": ")[1] for line in done.out.splitlines()]) == (
        0,
        ["begun"],
    )
    new = follower("new", urls[1])
    new.event("barred")

    told = run("status", "bill", "--store", urls[1], "--json")
    assert (told.code, told.json["state"], told.json["holder"]) == (1, "barred", None)
    assert told.json["why"].startswith("comes from sqlite:///")
    told = run("status", "--store", urls[1])
    assert "barred" in told.out
    assert "comes from" in told.out
    told = run("doctor", "bill", "--store", urls[1])
    assert "barred: comes from" in " ".join(told.out.split())
    assert "finish or undo" in told.out
    told = run("watch", "--count", "1", "--store", urls[1])
    assert "(barred)" in told.out
    told = run("step-down", "bill", "--store", urls[1])
    assert (told.code, "nobody was asked: 'bill' is barred: comes" in told.err) == (1, True)

    done = migrate(urls, "--json")
    assert done.code == 0, done.err
    assert done.json["result"] == "done"
    assert done.json["to_token"] > done.json["from_token"] > before["token"]
    assert new.event("elected")["token"] >= done.json["to_token"]
    told = run("status", "bill", "--store", urls[0], "--json")
    assert told.json["why"].startswith("moved to file:///")

    assert migrate(urls, "-q").out == ""
    told = migrate(urls, "--undo")
    assert (told.code, told.out) == (1, "")
    assert "it was finished; to go back, migrate TO FROM" in told.err


def test_what_is_undone_goes_on(urls: tuple[str, str], candidate: Start, follower: Start) -> None:
    old = candidate("old")
    old.event("elected")
    assert migrate(urls, "--prepare").code == 2
    assert migrate(urls, "--undo").code == 0
    new = follower("new")
    new.event("barred")
    assert run("status", "bill", "--store", urls[0], "--json").json["state"] == "held"
    new.close()
    assert migrate(urls, "--abandon").code == 0
    assert run("status", "bill", "--store", urls[1], "--json").json["state"] == "vacant"


def test_what_is_refused(urls: tuple[str, str], candidate: Start, follower: Start) -> None:
    candidate("old").event("elected")
    follower("new").event("elected")
    told = migrate(urls)
    assert told.code == 1
    assert "TO: 'bill' is held by 'new_" in told.err
    assert "stop its candidates" in told.err
    told = run("migrate", urls[0], urls[0], "bill")
    assert (told.code, "are the same store" in told.err) == (2, True)
    told = migrate(urls, "--undo", "--prepare")
    assert (told.code, "exclude each other" in told.err) == (2, True)
    told = run("migrate", urls[0] + ".absent", urls[1], "bill")
    assert told.code == 69
    told = run("migrate", urls[0], urls[1] + "?tokens_from=x", "bill")
    assert (told.code, "tokens_from=x" in told.err) == (2, True)


def test_a_name_with_a_typing_error_bars_nothing(urls: tuple[str, str], candidate: Start) -> None:
    candidate("old").event("elected")
    for option in ("--prepare", "--undo"):
        told = run("migrate", *urls, "bil", *TTL, option)
        assert (told.code, told.out) == (2, "")
        assert "neither FROM nor TO has an election 'bil': change NAME" in told.err
    told = run("status", "--store", urls[1], "--json")
    assert told.json == {"elections": []}
    told = run("migrate", *urls, "bil", *TTL, "--allow-absent", "--json")
    assert (told.code, told.json["result"]) == (0, "done"), told.err


def test_tokens_that_would_fall_name_the_url(urls: tuple[str, str]) -> None:
    source = urls[0] + "?tokens_from=4000000000000"
    told = migrate((source, urls[1]), "--allow-absent")
    assert told.code == 2
    assert f"{urls[1]}?tokens_from=" in told.err
    url = told.err.split()[-1]
    told = migrate((source, url), "--allow-absent")
    assert told.code == 0, told.err
