"""The dialogues themselves: played by two of ours, and by one that keeps to no rule."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.partners.member import Member
from tests.partners.passing import passes_on

LAWLESS = """
import json, sys, time
def say(event, **more):
    print(json.dumps({"event": event, "at": time.monotonic(), **more}), flush=True)
say("waiting")
say("holding", token=int(sys.argv[1]))
while True:
    time.sleep(0.1)  # sleep: it is the beat
    say("beat")
"""


def ours(folder: Path, name: str) -> Member:
    url = f"sqlite://{folder}/incumbent.db"
    return Member(
        name, [sys.executable, "-m", "tests.partners.ours", url, "jobs", name, "2"], folder
    )


def lawless(folder: Path, token: int) -> Member:
    return Member("lawless", [sys.executable, "-c", LAWLESS, str(token)], folder)


@pytest.mark.parametrize("how", ["release", "crash"])
def test_two_of_ours(tmp_path: Path, how: str) -> None:
    passed = passes_on(ours(tmp_path, "a"), ours(tmp_path, "b"), how, beats=30, limit_s=20)
    kinds = [event["event"] for event in passed.second if event["event"] != "note"]
    assert kinds[:2] == ["waiting", "holding"]
    assert "(30 beats)" in passed.transcript("a", "b") or how == "crash"


def test_one_that_does_not_stay_out_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="two hold"):
        passes_on(ours(tmp_path, "a"), lawless(tmp_path, 7), "release", beats=5, limit_s=20)
