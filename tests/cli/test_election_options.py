"""The commands that run commands under an election are elected in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest

from incumbent.cli.election_options import elected
from incumbent.cli.options import Options
from incumbent.errors import ConfigError
from tests.cli.processes import run

COMMANDS = ("every", "poll", "consume")
PLAIN = {"ttl_s": None, "grace_s": None, "rho": None, "as_": None}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/store.db"


def test_what_is_said_reaches_the_election_and_the_command(url: str) -> None:
    said = {"ttl_s": 8.0, "grace_s": 0.5, "rho": 0.01, "as_": "here"}
    values = {**said, "contain": "group", "require": "token", "left": "alone"}
    found = elected(Options(store=url), "tidy", values)
    assert values == {"left": "alone"}
    assert {key: found.asked[key] for key in said} == said
    assert (found.asked["store"], found.asked["require"]) == (url, "token")
    assert found.settings.timing.ttl_s == 8.0
    command = found.command(["true"])
    assert (command.grace_s, command.contain) == (0.5, "group")


def test_what_is_not_said_is_as_ever(url: str) -> None:
    values = {**PLAIN, "contain": "auto", "require": None}
    found = elected(Options(store=url), "tidy", values)
    assert found.asked["require"] == ""
    assert found.settings.timing.ttl_s == 15.0


def test_a_store_of_one_process_is_refused() -> None:
    values = {**PLAIN, "contain": "auto", "require": None}
    with pytest.raises(ConfigError, match="use sqlite:///PATH or kubernetes://"):
        elected(Options(store="memory://"), "tidy", values)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "words", "code", "text"),
    [
        ((), ("/no/such/program",), 127, "/no/such/program"),
        (("--ttl", "1", "--grace", "5"), ("true",), 2, "--grace"),
    ],
)
def test_each_refuses_the_same(
    tmp_path: Path,
    url: str,
    command: str,
    options: tuple[str, ...],
    words: tuple[str, ...],
    code: int,
    text: str,
) -> None:
    """On a folder that is empty, and a server that is not there: nothing can be done by mistake."""
    folder = tmp_path / "folder"
    folder.mkdir()
    of_what = {"every": "1m", "poll": str(folder), "consume": "postgresql://nowhere/db?queue=q"}
    done = run(command, of_what[command], "tidy", "--store", url, *options, "--", *words)
    assert (done.code, text in done.err) == (code, True), done.err
