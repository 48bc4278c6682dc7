"""Dapr's lock, with another client on it: through its own SDK over gRPC, and over plain HTTP.

Nothing is renewed, so a dialogue takes place within one term; and what is held by who has crashed
is free when its time is over. The dialogues of one kind are played side by side.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from incumbent import Election
from incumbent.errors import ConfigError
from tests.partners.member import Member
from tests.partners.passing import all_pass_on, ended
from tests.servers.dapr import STORE, Dapr
from tests.servers.faketime import Clock
from tests.servers.redis import Redis
from tests.stores.subjects import eventually

TTL_S = 60
CRASH_S = 20
"""What a crash is waited out for. A dialogue has to fit into four fifths of it."""
LIMIT_S = 60.0
GRACE = {"INCUMBENT_GRACE": "0.5"}
"""Nearly all of a term of ours is for the dialogue."""
BEATS = 10

PROTOCOLS = {"http": "http", "sdk": "grpc"}
"""What we speak beside each of theirs."""


class Stage:
    """One lock, and whom to let in."""

    def __init__(self, dapr: Dapr, folder: Path) -> None:
        self.dapr, self.folder = dapr, folder
        self.name = f"jobs-{secrets.token_hex(4)}"
        folder.mkdir(parents=True, exist_ok=True)

    def ours(self, kind: str, name: str = "ours", ttl_s: int = TTL_S) -> Member:
        url = self.dapr.url(PROTOCOLS[kind], lock="Their_{name}")
        words = ["tests.partners.ours", url, self.name, name, str(ttl_s)]
        return Member(name, [sys.executable, "-m", *words], self.folder, GRACE)

    def theirs(self, kind: str, *how: str, expiry_s: int = TTL_S) -> Member:
        ports = [str(self.dapr.port), str(self.dapr.grpc_port)]
        words = [kind, *ports, STORE, self.lock, str(expiry_s), *how]
        program = "tests.partners.python.dapr_lock"
        return Member("theirs", [sys.executable, "-m", program, *words], self.folder)

    @property
    def lock(self) -> str:
        return f"Their_{self.name}"

    @property
    def key(self) -> str:
        return self.dapr.key(self.lock)


@pytest.fixture
def stage(dapr: Dapr, tmp_path: Path) -> Stage:
    return Stage(dapr, tmp_path / "stage")


@pytest.mark.slow  # A crash is waited out.
@pytest.mark.parametrize("kind", PROTOCOLS)
def test_each_takes_over_from_the_other(dapr: Dapr, tmp_path: Path, kind: str) -> None:
    def makes(name: str) -> tuple[Member, Member]:
        stage = Stage(dapr, tmp_path / name)
        lasts_s = CRASH_S if name.endswith("crash") else TTL_S
        return stage.ours(kind, ttl_s=lasts_s), stage.theirs(kind, expiry_s=lasts_s)

    for passed in all_pass_on(makes, beats=BEATS, limit_s=LIMIT_S).values():
        assert passed.first[0]["event"] == "holding"
        said = [event["event"] for event in passed.second]
        assert said.index("waiting") < said.index("holding") < said.index("beat")


# -- what they can break --------------------------------------------------------------------------


def test_who_overstays_works_beside_us_and_what_would_refuse_it_is_refused_here(
    stage: Stage,
) -> None:
    theirs, ours = stage.theirs("http", "overstay", expiry_s=1), stage.ours("http")
    with ended(theirs, ours):
        theirs.start()
        theirs.wait_for("holding", LIMIT_S)
        ours.start()
        held = ours.wait_for("holding", LIMIT_S)
        still = theirs.wait_for("beat", LIMIT_S, where=lambda beat: beat["at"] > held["at"])
        assert not theirs.all("stopped"), "two work at once"
        assert held["token"] is None, "there is nothing to tell the one from the other by"
        assert still["at"] > held["at"]
    what_would_refuse_it_is_refused_here(stage)


def what_would_refuse_it_is_refused_here(stage: Stage) -> None:
    """No write can be fenced: whoever demands that, or more, is told before anything begins."""
    for what in ("token", "exclusive", "renewal"):
        with pytest.raises(ConfigError, match=f"require='{what}'"):
            Election(stage.name, store=stage.dapr.url(), ttl_s=TTL_S, require=what)


def _delete(stage: Stage, redis: Redis) -> None:
    with contextlib.closing(redis.client()) as client:
        assert client.delete(stage.key) == 1


def _unlock(stage: Stage, redis: Redis) -> None:
    """Give back in our name, which stands in Redis for who may read there."""
    with contextlib.closing(redis.client()) as client:
        owner = client.get(stage.key)
    assert isinstance(owner, bytes)
    answer = stage.dapr.ask("unlock", resourceId=stage.lock, lockOwner=owner.decode())
    assert answer == {"status": 0}


@pytest.mark.parametrize("breaks", [_delete, _unlock])
def test_who_takes_our_lock_away_is_let_in_beside_us(
    stage: Stage, redis_server: Redis, breaks: Callable[[Stage, Redis], None]
) -> None:
    ours, theirs = stage.ours("http"), stage.theirs("http")
    with ended(ours, theirs):
        ours.start()
        ours.wait_for("holding", LIMIT_S)
        theirs.start()
        theirs.wait_for("waiting", LIMIT_S)
        breaks(stage, redis_server)
        held = theirs.wait_for("holding", LIMIT_S)
        ours.wait_for("beat", LIMIT_S, where=lambda beat: beat["at"] > held["at"])
        assert not ours.all("stopped"), "nobody tells us, and we do not ask"
        said = ours.leave(LIMIT_S)
        assert said[-1]["event"] == "stopped"
        assert not theirs.all("stopped"), "what we give back is ours, and theirs stays"
        with contextlib.closing(redis_server.client()) as client:
            assert client.exists(stage.key)


def test_a_clock_of_redis_that_is_set_forward_lets_them_in_beside_us(tmp_path: Path) -> None:
    """Far more of our time is left than the test takes, and the key is over at once."""
    clock = Clock(tmp_path / "clock")
    with (
        Redis(tmp_path / "redis", clock=clock) as redis,
        Dapr(tmp_path / "daprd", f"{redis.host}:{redis.port}") as sidecar,
    ):
        stage = Stage(sidecar, tmp_path / "stage")
        ours = stage.ours("http", ttl_s=10 * TTL_S)
        theirs = stage.theirs("http", expiry_s=10 * TTL_S)
        with ended(ours, theirs), contextlib.closing(redis.client()) as client:
            ours.start()
            ours.wait_for("holding", LIMIT_S)
            theirs.start()
            theirs.wait_for("waiting", LIMIT_S)
            assert client.pttl(stage.key) > 5 * TTL_S * 1000
            clock.set_ahead(11 * TTL_S)
            held = theirs.wait_for("holding", LIMIT_S)
            ours.wait_for("beat", LIMIT_S, where=lambda beat: beat["at"] > held["at"])
            assert not ours.all("stopped"), "two work at once"
            assert ours.all("holding")[0]["token"] is None, "and no token tells them apart"
        what_would_refuse_it_is_refused_here(stage)


# -- what nobody can break, among ours ------------------------------------------------------------


def test_a_term_of_ours_ends_by_itself_while_nobody_answers(
    own_dapr: Dapr, own_redis: Redis, tmp_path: Path
) -> None:
    stage = Stage(own_dapr, tmp_path / "stage")
    ours = stage.ours("http", ttl_s=8)
    with ended(ours):
        ours.start()
        ours.wait_for("holding", LIMIT_S)
        own_dapr.pause()
        own_redis.pause()
        ours.wait_for("stopped", LIMIT_S)
        assert not ours.all("holding")[1:]
        own_redis.resume()
        own_dapr.resume()
        ours.wait_for("holding", LIMIT_S, count=2)


def test_a_holder_that_is_paused_has_stopped_before_another_begins(
    stage: Stage,
) -> None:
    first, second = stage.ours("http", "first", ttl_s=6), stage.ours("http", "second", ttl_s=6)
    with ended(first, second):
        first.start()
        first.wait_for("holding", LIMIT_S)
        first.pause()
        second.start()
        held = second.wait_for("holding", LIMIT_S)
        # The kernel's timer ends what slept through its term; it is no matter when it wakes up.
        assert eventually(lambda: first.exit_status is not None or not first.running, LIMIT_S)
        assert first.exit_status == -signal.SIGKILL
        assert all(event["at"] < held["at"] for event in first.events)
