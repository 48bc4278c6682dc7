"""`incumbent every`, `work`, `runs`, `run-now`, `pause` and `resume`, in processes of their own."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from incumbent.cli import app, orders, periodic_sections
from incumbent.stores import open_store
from incumbent.workloads.config import Section
from tests.cli.conftest import Start
from tests.cli.processes import LIMIT_S, ROOT, run

TTL = ("--ttl", "1")


def shown(url: str, name: str = "tidy") -> list[dict[str, Any]]:
    """Return the tasks of `name` as `incumbent runs --json` has them; none before the first."""
    store = open_store(url)

    async def main() -> list[dict[str, Any]]:
        await store.open(create=False)
        try:
            found, documents = await orders._read(store, name)
            return [orders._plain(job, document, found) for job, document in documents.items()]
        finally:
            await store.close()

    return asyncio.run(main())


def until(url: str, meets: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
    """Return the first state of the tasks that is as wanted."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found = shown(url)
        if found and meets(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)  # sleep: a store on a disk tells nobody of checkpoints


def outcomes(found: list[dict[str, Any]]) -> list[str]:
    return [row["outcome"] for row in found[0]["runs"]]


def test_a_command_runs_once_per_tick_through_the_death_of_its_host(
    url: str, start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    write = f'echo "$INCUMBENT_TICK $INCUMBENT_ATTEMPT $INCUMBENT_TOKEN" >> {log}'
    line = ("every", "300ms", "tidy", "--missed", "all", "--store", url, *TTL)
    first = start(*line, "--", "sh", "-c", write)
    until(url, lambda found: outcomes(found).count("done") >= 2)
    start(*line, "--", "sh", "-c", write)
    first.signal(signal.SIGKILL)
    token = shown(url)[0]["runs"][-1]["token"]
    until(
        url,
        lambda found: sum(row["token"] > token for row in found[0]["runs"]) >= 3,
    )
    ran = [line.split() for line in log.read_text().splitlines()]
    again = {tick for tick, count in Counter(tick for tick, *_ in ran).items() if count > 1}
    interrupted = {row["tick"] for row in shown(url)[0]["runs"] if row["outcome"] == "interrupted"}
    assert again <= interrupted
    assert len({token for *_, token in ran}) == 2
    ticks = [row["tick"] for row in shown(url)[0]["runs"] if row["outcome"] == "done"]
    assert len(ticks) == len(set(ticks))


def test_when_it_is_told_to_end_the_tree_ends_and_the_tick_is_handed_over(
    url: str, start: Start, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    endless = f"trap '' TERM; while :; do date >> {alive}; sleep 0.05; done"
    process = start("every", "300ms", "tidy", "--store", url, *TTL, "--", "sh", "-c", endless)
    until(url, lambda found: found[0]["unfinished"] and alive.exists())
    process.signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    size = alive.stat().st_size
    assert run("status", "tidy", "--store", url, "--json").json["state"] == "vacant"
    (found,) = shown(url)
    assert found["unfinished"]["state"] == "running", "the next holder decides on it"
    assert alive.stat().st_size == size
    assert "interrupted?" in run("runs", "tidy", "--store", url).out
    found = run("runs", "tidy", "--store", url, "--json").json["jobs"][0]
    assert found["unfinished"]["holder_gone"] is True


def test_a_run_that_has_had_its_time_is_killed_with_all_that_it_started(
    url: str, start: Start, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    child = f"(trap '' TERM; while :; do date >> {alive}; sleep 0.05; done) & wait"
    options = ("--timeout", "500ms", "--grace", "0.1", "--store", url, *TTL)
    start("every", "1s", "tidy", *options, "--", "sh", "-c", child)
    found = until(url, outcomes)
    assert outcomes(found)[0] == "timed out"
    assert "ended after 0.5 s" in found[0]["runs"][0]["text"]


def test_a_command_that_fails_is_tried_again_and_shown(url: str, start: Start) -> None:
    options = ("--retries", "1", "--backoff", "0.05", "--store", url, *TTL)
    start("every", "1s", "tidy", *options, "--", "sh", "-c", "exit 3")
    until(url, outcomes)
    ordered = run("run-now", "tidy", "--wait", "--store", url)
    assert (ordered.code, "failed: now-" in ordered.out) == (1, True)
    done = run("runs", "tidy", "--store", url)
    assert "failed" in done.out
    assert "the command ended with 3" in done.out
    assert shown(url)[0]["runs"][0]["attempt"] == 2


def test_operators_pause_order_and_resume(url: str, start: Start) -> None:
    start("every", "300ms", "tidy", "--store", url, *TTL, "--", "true")
    until(url, lambda found: "done" in outcomes(found))
    assert run("pause", "tidy", "--store", url).out == "paused: tidy\n"
    assert shown(url)[0]["paused"] is True
    for _ in range(2):
        done = run("run-now", "tidy", "--id", "by-hand", "--store", url, "--json")
        assert done.json["tick"] == "now-by-hand"
    found = until(url, lambda found: any(row["tick"] == "now-by-hand" for row in found[0]["runs"]))
    before = len(found[0]["runs"])
    assert run("resume", "tidy", "--store", url).out == "resumed: tidy\n"
    found = until(url, lambda found: len(found[0]["runs"]) > before + 1)
    assert [row["tick"] for row in found[0]["runs"]].count("now-by-hand") == 1
    assert "paused" in outcomes(found)
    done = run("run-now", "tidy", "--id", "waited", "--wait", "--store", url)
    assert (done.code, done.out.splitlines()[-1]) == (0, "done: now-waited")
    done = run("run-now", "tidy", "--id", "by-hand", "--wait", "--store", url, "--json")
    assert done.json["run"]["outcome"] == "done", "it has run already, and is not ordered again"
    order = run("resume", "tidy", "--from-now", "--store", url, "--json").json["order"]
    found = until(url, lambda found: "resumed" in outcomes(found))
    assert [row["tick"] for row in found[0]["runs"] if row["outcome"] == "resumed"] == [order]
    told = run("resume", "tidy", "main", "--from-now", "--store", url).out
    assert told.startswith("resumed: main of tidy, from now (order ")
    assert run("resume", "nothing", "--from-now", "--store", url).code == 2


def test_a_file_describes_work(url: str, start: Start, tmp_path: Path) -> None:
    file, log = tmp_path / "work.toml", tmp_path / "log"
    file.write_text(
        f"""
        store = "{url}"
        ttl_s = 1

        [[periodic]]
        name = "one"
        election = "tidy"
        every = "300ms"
        command = ["sh", "-c", "echo one >> {log}"]

        [[periodic]]
        name = "two"
        election = "tidy"
        cron = "* * * * * *"
        call = "tests.cli.processes:command"
        """
    )
    assert run("work", str(file), "--check").out == f"{file} describes tidy\n"
    process = start("work", str(file))
    until(url, lambda found: len(found) == 2 and all(job["runs"] for job in found))
    process.signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert "one\n" in log.read_text()
    done = run("run-now", "tidy", "--store", url)
    assert (done.code, "several jobs, name one: one, two" in done.err) == (2, True)


def test_the_page_has_each_key_of_a_file_and_no_other() -> None:
    page = (ROOT / "docs" / "periodic.md").read_text()
    table = page.split("| key of `[[periodic]]` |")[1].split("\n\n")[0]
    told = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    values = {"name": "x", "every": "1s", "command": ["true"]}
    section = Section("periodic", "here", values)
    periodic_sections._read(section)
    assert sorted(told) == sorted({"name", *section._asked})


EACH = "[[periodic]]\nname = 'x'\nevery = '1s'\n"
POLLER = "[[poller]]\nname = 'x'\ndirectory = '.'\ncommand = ['true', '{}']\n"


async def asynchronous() -> None:
    raise AssertionError


def generating() -> Iterator[None]:
    yield


def test_a_function_is_found_in_the_folder_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (tmp_path / "app_of_the_test.py").write_text("def beat(): ...\n")
    (tmp_path / "work.toml").write_text(f"{EACH}call = 'app_of_the_test:beat'\nstore = '{url}'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert app.main(["work", "work.toml", "--check"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("every", "30", "x", "--", "true"), 2, "'30' is no duration"),
        (("every", "61 * * * *", "x", "--", "true"), 2, "Bad minute"),
        (("every", "30s", "x", "--tz", "Nowhere", "--", "true"), 2, "no time zone 'Nowhere'"),
        (("every", "30s", "x", "--jitter", "40", "--", "true"), 2, "not less than the 30 s"),
        (("every", "30s", "x", "--", "no-such-command"), 127, "command not found"),
        (("every", "30s", "x", "--store", "memory://", "--", "true"), 2, "one process only"),
        (("every", "30s", "x", "--tz", "Europe/Vienna", "--", "true"), 2, "--tz: a time zone is"),
        (("every", "30s", "x", "--late", "5", "--", "true"), 2, "late_s is for missed='skip'"),
        (("every", "1s", "x", "--missed-limit", "5", "--", "true"), 2, "is for missed='all'"),
        (("pause", "x"), 2, "nothing periodic has run for 'x'"),
        (("resume", "x"), 2, "nothing periodic has run for 'x'"),
        (("runs", "x"), 1, "nothing periodic has run for 'x'"),
        (("run-now", "x"), 2, "nothing periodic has run for 'x'"),
        (("pause", "x", "job"), 2, "nothing periodic has run for 'x'"),
        (("work", "no-such-file"), 2, "No such file"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INCUMBENT_STORE", url)
    assert app.main([*arguments]) == code
    out, errors = capsys.readouterr()
    assert not out
    assert says in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{EACH}comand = ['true']", "is comand meant to be command?"),
        (f"{EACH}cron = '* * * * *'", "every and cron are both there: keep one"),
        (f"{EACH}command = ['true']\ncall = 'a:b'", "command and call are both there: keep one"),
        (f"{EACH}command = ['true']\ntimeout = '5s'", "is timeout meant to be timeout_s?"),
        (f"{EACH}command = ['true']\ntz = 'Europe/Vienna'", "a time zone is for a line of cron"),
        (f"{EACH}command = ['true']\nlate_s = 5", "late_s is for missed='skip'"),
        (f"{EACH}command = ['true']\n{EACH}command = ['true']", "another section of this file has"),
        (f"{EACH}command = ['true']\n{POLLER}", "several sections are called 'x'"),
        (f"{EACH}call = 'tests.cli.test_every:asynchronous'", "is a coroutine function"),
        (f"{EACH}call = 'tests.cli.test_every:generating'", "cannot run the generator function"),
        (f"sore = 'x'\n{EACH}command = ['true']", "'sore'; is store meant? there are [[consumer]]"),
        (f"store = 'kafka://x'\n{EACH}command = ['true']", "work.toml: "),
        (f"{EACH}call = 'no.such:thing'", "it is looked for in this folder"),
        ("[[periodic]]\nname = 'x'", "say when"),
        ("[[periodic]]\nname = 'x'\nevery = '1s'", "say what"),
        ("[[periodic]]\nname = 'x'\nevery = '1s'\ncommand = ['true']\nretrys = 3", "knows retrys"),
        ("[[periodic]]\nname = 'x'\nevery = '1s'\ncommand = 'true'", "must be a list"),
        ("[[periodic]]\nevery = '1s'\ncommand = ['true']", "has no name"),
        ("[periodic]\nname = 'x'", "two brackets"),
        ("[[perodic]]\nname = 'x'", "nobody knows 'perodic'"),
        ("store = 'x", "no TOML"),
        ("", "describes no work"),
        ("[[periodic]]\nname = 'x'\nevery = '1s'\ncall = 'no.such:thing'", "no module named"),
        ("[[periodic]]\nname = 'x'\nevery = '1s'\ncommand = ['true']\nmissed = 'al'", "'latest'"),
        ("[[periodic]]\nname = 'x'\nevery = '1s'\ncommand = ['true']\nretries = true", "a number"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    text: str,
    says: str,
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INCUMBENT_STORE", url)
    file = tmp_path / "work.toml"
    file.write_text(text)
    assert app.main(["work", str(file), "--check"]) == 2
    assert says.lower() in capsys.readouterr().err.lower()
