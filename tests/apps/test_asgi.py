"""Work beside FastAPI, in real server processes: endpoints on each, the work on one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from incumbent import ConfigError, testing
from incumbent.apps.asgi import Working, lifespan, status
from incumbent.sync.work import Work
from incumbent.workloads import Env
from tests.apps.serving import LIMIT_S, Web, judge, rows, until

SHOP = "tests.apps.programs.shop:app"
BOTH = ("count", "mail")


@pytest.fixture
def replicas(tmp_path: Path, ledger: Path) -> Iterator[list[Web]]:
    environment = {"LEDGER": str(ledger), "INCUMBENT_STORE": f"sqlite://{tmp_path}/store.db"}
    with ExitStack() as stack:
        webs = [Web("uvicorn", SHOP, tmp_path, environment) for _ in range(2)]
        for web in webs:
            stack.callback(web.kill)
            web.start()
        yield webs


def leader(webs: list[Web], name: str) -> Web | None:
    leading = [web for web in webs if web.running and web.roles()[name] == "leader"]
    assert len(leading) < 2
    return leading[0] if leading else None


def test_every_replica_answers_and_one_does_the_work(replicas: list[Web], ledger: Path) -> None:
    for name in BOTH:
        first = until(partial(leader, replicas, name), lambda web: web is not None)
        assert first is not None
        (other,) = (web for web in replicas if web is not first)
        assert other.roles()[name] == "standby"
        assert other.get("/orders")[0] == 200, "a standby is ready"
    until(lambda: {row[0] for row in rows(ledger)}, lambda kinds: kinds == set(BOTH))

    # One goes by plan, with all that it leads; the other one has it, and the ticks go on.
    gone = leader(replicas, "count")
    assert gone is not None
    gone.stop()
    (left,) = (web for web in replicas if web is not gone)
    until(left.roles, lambda roles: roles == dict.fromkeys(BOTH, "leader"))
    before = len(rows(ledger))
    done = until(lambda: rows(ledger), lambda now: len(now) >= before + 4)
    for name in BOTH:
        judge([row for row in done if row[0] == name])


def test_the_status_is_for_reading(replicas: list[Web]) -> None:
    web = replicas[0]
    assert web.get("/work/", "POST") == (405, {"error": "use GET"})
    assert web.get("/work/", "HEAD") == (200, None)
    told = web.get("/work/")[1]["work"]
    assert [set(work) for work in told] == [{"name", "role", "token", "failure"}] * 2


# -- the protocol ---------------------------------------------------------------------------------


class Wait:
    keeps = False

    async def run(self, env: Env) -> Any:
        await asyncio.Event().wait()


def work(name: str = "w", **settings: Any) -> Work:
    return Work(name, Wait(), store=testing.memory_store(), deadman=False, **settings)


async def live(app: Any) -> list[str]:
    """Play the server's part of a whole life; return what the application said."""
    told: list[str] = []
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        told.append(message["type"])

    await asyncio.wait_for(app({"type": "lifespan"}, receive, send), LIMIT_S)
    return told


BOTH_ENDS = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_application_without_a_life_of_its_own_gets_one() -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])

    one = work()
    assert asyncio.run(live(Working(bare, one))) == BOTH_ENDS
    assert one.standing.role == "stopped"


def test_one_that_has_a_life_keeps_it_around_the_work() -> None:
    seen: list[str] = []
    one = work()

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        seen.append(one.standing.role)
        await send({"type": "lifespan.startup.complete"})
        seen.append(one.standing.role)
        assert (await receive())["type"] == "lifespan.shutdown"
        seen.append(one.standing.role)
        await send({"type": "lifespan.shutdown.complete"})

    assert asyncio.run(live(Working(whole, one))) == BOTH_ENDS
    assert seen[0] == seen[2] == "stopped"
    assert seen[1] in ("standby", "leader")


def test_one_whose_start_fails_begins_no_work() -> None:
    one = work()

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    assert asyncio.run(live(Working(failing, one))) == ["lifespan.startup.failed"]
    assert one.standing.role == "stopped"


def test_one_that_breaks_while_it_lives_ends_the_work() -> None:
    one = work()

    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(live(Working(breaking, one)))
    assert one.standing.role == "stopped"


def test_work_that_cannot_begin_fails_the_start() -> None:
    other, one = work("other"), work()

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    with one:
        assert asyncio.run(live(Working(bare, other, one)))[0] == "lifespan.startup.failed"
    assert other.standing.role == "stopped"


@pytest.mark.parametrize("make", [lifespan, status])
def test_what_is_no_work_is_refused_when_it_is_written(make: Any) -> None:
    with pytest.raises(ConfigError, match="is no work: decorate the function"):
        make(lambda: None)
    with pytest.raises(ConfigError, match="two works have the name 'w'"):
        make(work(), work())
