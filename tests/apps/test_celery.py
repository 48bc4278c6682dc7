"""Celery's own beat, several of it, before a real Redis: what is sent, by whom, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from redis import Redis as Client

from incumbent.apps.celery.notes import Note, decode
from incumbent.core.records import Checkpoint
from incumbent.stores import open_store
from tests.apps.serving import LIMIT_S, ROOT, until
from tests.faces.programs import Program
from tests.processes import descendants
from tests.servers import environments
from tests.servers.redis import Redis

QUEUE = "celery"
DATABASE = 7
BEAT = ("celery", "-A", "tests.apps.programs.beat", "beat")


@dataclass(frozen=True)
class Message:
    """One message that a worker would take."""

    id: str
    pid: int
    tick: int
    token: int


@pytest.fixture
def broker(redis_server: Redis) -> Iterator[Client]:
    with contextlib.closing(redis_server.client(db=DATABASE)) as client:
        client.delete(QUEUE)
        yield client


@dataclass
class Site:
    """Where beats run: one store, one broker, one environment that has Celery."""

    folder: Path
    client: Client
    python: Path

    @property
    def store(self) -> str:
        return f"sqlite://{self.folder}/store.db"

    def messages(self) -> list[Message]:
        """Return what was sent, in order."""
        found = [json.loads(text)["headers"] for text in self.client.lrange(QUEUE, 0, -1)]
        return [
            Message(
                headers["id"],
                int(headers["origin"].removeprefix("gen").partition("@")[0]),
                headers["incumbent_tick"],
                headers["incumbent_token"],
            )
            for headers in reversed(found)
        ]

    def note(self) -> Note:
        """Return what is noted of the entry."""

        async def read() -> Checkpoint:
            store = open_store(self.store)
            await store.open(create=False)
            try:
                return await store.checkpoint("celery-beat", "beat")
            finally:
                await store.close()

        return decode(asyncio.run(read()).value, "the notes")["count"]

    def run(self, *words: str, **more: str) -> Program:
        kwargs = self.client.connection_pool.connection_kwargs
        environment = {
            "BROKER": f"redis://{kwargs['host']}:{kwargs['port']}/{DATABASE}",
            "INCUMBENT_STORE": self.store,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            **more,
        }
        return Program([str(self.python), "-m", *words], environment)


@pytest.fixture
def own_site(tmp_path: Path, own_redis: Redis) -> Iterator[Site]:
    with contextlib.closing(own_redis.client(db=DATABASE)) as client:
        yield Site(tmp_path, client, environments.ensure("celery"))


@pytest.fixture
def site(tmp_path: Path, broker: Client) -> Site:
    return Site(tmp_path, broker, environments.ensure("celery"))


def judge(messages: list[Message]) -> None:
    """Fail unless the ticks follow one another, each under one id, and tokens never fall."""
    ids: dict[int, str] = {}
    for message in messages:
        assert ids.setdefault(message.tick, message.id) == message.id, "one tick, one id"
    assert list(ids) == list(range(1, len(ids) + 1)), "in order, none left out"
    assert len(set(ids.values())) == len(ids), "one id, one tick"
    assert all(a.token <= b.token for a, b in pairwise(messages))


def test_one_beat_sends_and_another_goes_on(site: Site) -> None:
    beats = [site.run(*BEAT) for _ in range(2)]
    try:
        leader = until(site.messages, lambda found: len(found) >= 2)[0].pid
        (first,) = [beat for beat in beats if beat.pid == leader]
        (second,) = [beat for beat in beats if beat is not first]
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(LIMIT_S)
        until(site.messages, lambda found: found[-1].pid == second.pid)
        # By plan, nothing is sent again.
        before = len(site.messages())
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(LIMIT_S) == 0
        assert not site.note().message
        beats.append(site.run(*BEAT))
        found = until(site.messages, lambda found: found[-1].pid == beats[-1].pid)
        judge(found)
        assert len({message.id for message in found[before - 1 :]}) == len(found) - before + 1
        turns = [message.pid for message in found]
        assert turns == sorted(turns, key=[beat.pid for beat in (first, second, beats[-1])].index)
    finally:
        for beat in beats:
            beat.close()


@pytest.mark.parametrize(("dies", "sent"), [("before", 1), ("after", 2)])
def test_what_was_on_its_way_is_sent_under_the_same_id(dies: str, sent: int, site: Site) -> None:
    dying = site.run(*BEAT, SCHEDULER="tests.apps.programs.beat:Dying", DIES=dies)
    try:
        assert dying.process.wait(LIMIT_S) == 9
    finally:
        dying.close()
    claimed = site.note()
    assert claimed.count == 1
    assert claimed.message
    beat = site.run(*BEAT)
    try:
        found = until(site.messages, lambda found: bool(found) and found[-1].tick >= 2)
    finally:
        beat.close()
    judge(found)
    assert [message.id for message in found if message.tick == 1] == [claimed.message] * sent


def test_what_the_broker_does_not_take_is_kept(own_site: Site, own_redis: Redis) -> None:
    beat = own_site.run(*BEAT)
    try:
        until(own_site.messages, lambda found: len(found) >= 2)
        own_redis.kill()
        claimed = until(own_site.note, lambda note: bool(note.message))
        own_redis.start()
        found = until(
            own_site.messages, lambda found: bool(found) and found[-1].tick > claimed.count
        )
    finally:
        beat.close()
    judge(found)
    assert {message.id for message in found if message.tick == claimed.count} == {claimed.message}


def test_a_setting_that_cannot_work_ends_beat_at_once(site: Site) -> None:
    beat = site.run(*BEAT, TTL_S="-1")
    try:
        assert beat.process.wait(LIMIT_S) != 0
        assert "ttl_s=-1.0 must be greater than 0" in beat.errors()
    finally:
        beat.close()


def test_any_beat_is_kept_to_one_from_outside(site: Site, tmp_path: Path) -> None:
    words = ("incumbent", "run", "beat", "--ttl", "2", "--", str(site.python), "-m", *BEAT)
    plain = {"SCHEDULER": "celery.beat:PersistentScheduler"}
    schedule = ("--schedule", str(tmp_path / "schedule"))
    wrappers = [site.run(*words, *schedule, **plain) for _ in range(2)]
    try:
        until(lambda: site.client.llen(QUEUE), lambda sent: sent >= 2)
        (busy,) = [wrapper for wrapper in wrappers if beats_below(wrapper.pid)]
        (idle,) = [wrapper for wrapper in wrappers if wrapper is not busy]
        busy.process.send_signal(signal.SIGKILL)
        busy.process.wait(LIMIT_S)
        until(lambda: beats_below(idle.pid), lambda beats: beats == 1)
        before = site.client.llen(QUEUE)
        until(lambda: site.client.llen(QUEUE), lambda sent: sent > before)
        idle.process.send_signal(signal.SIGTERM)
        idle.process.wait(LIMIT_S)
    finally:
        for wrapper in wrappers:
            wrapper.close()


def beats_below(pid: int) -> int:
    """Return how many processes below this one are a beat of Celery."""
    words = [Path(f"/proc/{child}/cmdline") for child in descendants(pid)]
    return sum(path.read_bytes().split(b"\0")[1:3] == [b"-m", b"celery"] for path in words)
