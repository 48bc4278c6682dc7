"""What a decoration checks, and what it leaves to the run: options' names, and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import incumbent
from incumbent import ConfigError, aio
from incumbent.errors import StoreRequired


async def nothing() -> None:
    """What is decorated."""


async def handle(row: incumbent.Row, db: Any) -> None:
    """What handles rows."""


OPTIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "every": (
        lambda: incumbent.every("2s", mised="all")(print),  # type: ignore[call-arg]
        r"^incumbent\.every\(\) or cron\(\) has no option mised=: did you mean missed=\?$",
    ),
    "aio.cron": (
        lambda: aio.cron("@daily", stroe="x")(nothing),  # type: ignore[call-arg]
        r"^incumbent\.aio\.every\(\) or cron\(\) has no option stroe=: did you mean store=\?$",
    ),
    "Jobs": (
        lambda: incumbent.Jobs("j", thread=4),
        r"^incumbent\.Jobs\(\) has no option thread=: did you mean threads=\?$",
    ),
    "Jobs.every": (
        lambda: incumbent.Jobs("j").every("2s", mised="all"),  # type: ignore[call-arg]
        r"^every\(\) or cron\(\) of Jobs has no option mised=: did you mean missed=\?$",
    ),
    "Directory": (
        lambda: incumbent.Directory("/tmp", print, name="d", backoff_s=1),
        r"^incumbent\.Directory\(\) has no option backoff_s=: did you mean backoff=\?$",
    ),
    "Rows": (
        lambda: aio.Rows("sqlite:///x", handle, name="d", table="t", wher="x"),
        r"^incumbent\.aio\.Rows\(\) has no option wher=: did you mean where=\?$",
    ),
    "poll": (
        lambda: incumbent.poll("2s", colour="red")(print),
        r"^incumbent\.poll\(\) or Poller\(\) has no option colour=$",
    ),
    "Consumer": (
        lambda: incumbent.Consumer("o", "redis://h?stream=o", efects="sqlite:///x"),
        r"^incumbent\.Consumer\(\) has no option efects=: did you mean effects=\?$",
    ),
    "Spread": (
        lambda: incumbent.Spread("s", ["a"], print, prefered={}),  # type: ignore[call-arg]
        r"^Spread\.__init__\(\) got an unexpected keyword argument 'prefered'",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_there_is_not_is_named_with_the_nearest_one(name: str) -> None:
    call, text = OPTIONS[name]
    with pytest.raises(TypeError, match=text):
        call()


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A container in which nobody has named a store."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.delenv("INCUMBENT_STORE", raising=False)
    return monkeypatch


def test_a_store_is_needed_to_run_and_not_to_decorate(
    pod: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @incumbent.every("50ms", name="w")
    def job(tick: incumbent.Tick) -> None:
        job.stop()

    with pytest.raises(StoreRequired):
        job.run()
    with pytest.raises(StoreRequired):
        job.start()
    assert job.standing.role == "stopped"
    pod.setenv("INCUMBENT_STORE", f"sqlite://{tmp_path}/incumbent.db")
    assert job.run() is None


def test_the_same_on_a_loop_and_for_a_spread(pod: pytest.MonkeyPatch) -> None:
    @aio.every("50ms", name="w")
    async def job() -> None:
        raise AssertionError("not to be run")

    with pytest.raises(StoreRequired):
        asyncio.run(job.run())
    with pytest.raises(StoreRequired):
        asyncio.run(job.start())
    spread = incumbent.Spread("s", ["a"], print)
    with pytest.raises(StoreRequired):
        spread.run()
    pod.setenv("INCUMBENT_STORE", "zookeeper://h/x?recipe=kazoo-lock")
    with pytest.raises(ConfigError, match="queue"):
        spread.run()


def test_all_else_is_still_checked_at_the_decoration(pod: pytest.MonkeyPatch) -> None:
    for settings in ({"ttl_s": -1}, {"grace_s": 99}, {"require": "speed"}, {"as_": 7}):
        with pytest.raises(ConfigError):
            incumbent.every("1m", **settings)(print)
    with pytest.raises(ConfigError):
        incumbent.every("1m", store="dapr://127.0.0.1:3500/l", ttl_s=60)(print)


def test_work_that_begins_at_the_import_says_so_there(pod: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreRequired):
        incumbent.every("1m", background=True)(print)
