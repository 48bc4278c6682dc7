"""What becomes of ticks that were missed, overrun, interrupted or failed, and what is ordered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from incumbent.errors import ConfigError, LeadershipLost, StaleToken, StoreUnusable
from incumbent.workloads.periodic import Choices, Periodic, Spec, Tick
from incumbent.workloads.periodic.document import Document
from incumbent.workloads.periodic.orders import MOST_WAITING, Orders
from incumbent.workloads.schedule import Interval
from tests.workloads.periodic_world import NAME, Host, World
from tests.workloads.test_periodic_clocks import EVERY, played, ticks
from tests.workloads.virtual import run

Story = Callable[[World], Awaitable[None]]


def attempts(world: World, what: str = "begin") -> list[tuple[str, int]]:
    return [(event.tick, event.attempt) for event in world.log if event.what == what]


# -- missed


def away_from_12_to_55(world: World) -> Awaitable[None]:
    async def story() -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(12)
        await host.die()
        await world.until(55)
        await host.elect()
        await world.until(64)
        await host.step_down()

    return story()


@pytest.mark.parametrize(
    ("choices", "runs", "dropped"),
    [
        (Choices(missed="latest"), (10, 50, 60), [(40, 3)]),
        (Choices(missed="all"), (10, 20, 30, 40, 50, 60), []),
        (Choices(missed="all", missed_limit=2), (10, 40, 50, 60), [(30, 2)]),
        (Choices(missed="skip"), (10, 50, 60), [(40, 3)]),
        (Choices(missed="skip", late_s=4), (10, 60), [(50, 4)]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_was_missed(
    choices: Choices, runs: tuple[int, ...], dropped: list[tuple[int, int]]
) -> None:
    world = played(World(EVERY, choices), away_from_12_to_55)
    assert world.begun() == ticks(*runs)
    rows = [row for row in world.noted().rows if row.outcome == "missed"]
    assert [(row.id, row.count) for row in rows] == [(World.tick(at), n) for at, n in dropped]


# -- overruns


@pytest.mark.parametrize(
    ("word", "runs", "dropped"),
    [
        ("skip", (10, 50), [(40, 3)]),
        ("latest", (10, 40, 50), [(30, 2)]),
        ("all", (10, 20, 30, 40, 50), []),
    ],
)
def test_ticks_that_come_during_a_run(
    word: str, runs: tuple[int, ...], dropped: list[tuple[int, int]]
) -> None:
    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 35 if tick.id == World.tick(10) else 0.5
        host = Host(world, "a")
        await host.elect()
        await world.until(58)
        await host.step_down()

    world = played(World(EVERY, Choices(on_overrun=word)), story)
    assert world.begun() == ticks(*runs)
    rows = [row for row in world.noted().rows if row.outcome == "overrun"]
    assert [(row.id, row.count) for row in rows] == [(World.tick(at), n) for at, n in dropped]


# -- interruptions


def killed_during_the_tick_of_10(world: World) -> Awaitable[None]:
    async def story() -> None:
        world.lasts_s = lambda tick: 5
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(12)
        await host.die()
        await world.until(13)
        await other.elect()
        await world.until(19)
        await other.step_down()

    return story()


def test_an_interrupted_tick_is_begun_again_as_a_further_attempt() -> None:
    world = played(World(EVERY), killed_during_the_tick_of_10)
    tick = World.tick(10)
    assert attempts(world) == [(tick, 1), (tick, 2)]
    assert attempts(world, "end") == [(tick, 2)]
    assert world.outcomes() == [(tick, "interrupted"), (tick, "done")]
    assert [row.token for row in world.noted().rows] == [1, 2]


def test_or_it_is_left() -> None:
    world = played(World(EVERY, Choices(on_interrupted="skip")), killed_during_the_tick_of_10)
    tick = World.tick(10)
    assert attempts(world) == [(tick, 1)]
    assert world.outcomes() == [(tick, "interrupted")]


def test_a_tick_that_kills_its_process_each_time_is_given_up() -> None:
    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 5 if tick.id == World.tick(10) else 0
        for n in range(5):
            host = Host(world, f"h{n}")
            await host.elect()
            await world.until(12 + n)
            await host.die()
        last = Host(world, "last")
        await last.elect()
        await world.until(25)
        await last.step_down()

    world = played(World(EVERY, Choices(reruns=2)), story)
    tick = World.tick(10)
    assert attempts(world) == [(tick, 1), (tick, 2), (tick, 3), (World.tick(20), 1)]
    assert [outcome for _, outcome in world.outcomes()] == [*["interrupted"] * 3, "failed", "done"]


def test_at_a_planned_end_what_has_not_begun_is_given_back() -> None:
    """Its claim was on its way: also where interrupted ticks are left, the next one runs it."""

    async def story(world: World) -> None:
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(10.3)
        await host.step_down()
        await other.elect()
        await world.until(19)
        await other.step_down()

    world = played(World(EVERY, Choices(on_interrupted="skip"), latency_s=0.2), story)
    assert [(event.tick, event.host) for event in world.log if event.what == "begin"] == [
        (World.tick(10), "b")
    ]
    assert world.outcomes() == [(World.tick(10), "done")]


@pytest.mark.parametrize("seed", range(6))
def test_at_a_planned_end_the_note_of_a_run_s_end_is_waited_for(seed: int) -> None:
    """The successor would else find an interruption, and begin the tick again."""

    async def story(world: World) -> None:
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        while not attempts(world, "end"):
            await world.until(world.now_s + 0.01)
        await host.step_down()
        await other.elect()
        await world.until(19)
        await other.step_down()

    world = played(World(EVERY, seed=seed, latency_s=0.2), story)
    assert attempts(world) == [(World.tick(10), 1)]
    assert world.outcomes() == [(World.tick(10), "done")]


@pytest.mark.parametrize(
    ("word", "says"), [("rerun", "the next holder begins it again"), ("skip", "it is left")]
)
def test_that_a_run_was_cut_short_is_said(
    word: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 5
        host = Host(world, "a")
        await host.elect()
        await world.until(12)
        await host.step_down()

    with caplog.at_level("WARNING", "incumbent"):
        played(World(EVERY, Choices(on_interrupted=word)), story)
    (said,) = caplog.messages
    assert said == f"nightly: {World.tick(10)} was cut short by the end of the term: {says}"


def test_a_late_claim_of_a_dead_holder_changes_nothing() -> None:
    """It was sent, its sender died, the next one has sealed: then it arrives."""

    async def story(world: World) -> None:
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(9.9)
        before = await world.store.checkpoint(NAME, "job.main")
        await host.die()
        await other.elect()
        await world.until(10.5)
        with pytest.raises(Exception, match="token 2"):
            await world.store.advance(before, b"late", 1)
        await world.until(25)
        await other.step_down()

    assert played(World(EVERY), story).begun() == ticks(10, 20)


def test_a_holder_that_was_followed_is_told_so_at_its_next_tick() -> None:
    failures: list[BaseException | None] = []

    async def story(world: World) -> None:
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(5)
        await other.elect()
        failures.append(await host.failure())
        await world.until(15)
        await other.step_down()

    world = played(World(EVERY), story)
    assert isinstance(failures[0], StaleToken)
    assert [event.host for event in world.log if event.what == "begin"] == ["b"]


# -- failures


def test_a_failed_run_is_tried_again_and_then_the_tick_has_failed() -> None:
    async def story(world: World) -> None:
        world.fails = lambda tick: ValueError("no") if tick.id == World.tick(10) else None
        host = Host(world, "a")
        await host.elect()
        await world.until(29)
        await host.step_down()

    world = played(World(EVERY, Choices(retries=2, backoff_s=1)), story)
    tick = World.tick(10)
    begun = [event for event in world.log if event.tick == tick]
    assert [(event.attempt, round(event.at_s)) for event in begun] == [(1, 10), (2, 11), (3, 13)]
    assert world.outcomes() == [(tick, "failed"), (World.tick(20), "done")]
    assert world.noted().rows[0].text == "ValueError: no"


def test_a_retry_outlives_its_term_also_where_interrupted_ticks_are_left() -> None:
    async def story(world: World) -> None:
        world.fails = lambda tick: ValueError("no") if tick.attempt == 1 else None
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(11)
        await host.die()
        await other.elect()
        await world.until(19)
        await other.step_down()

    choices = Choices(retries=1, backoff_s=3, on_interrupted="skip")
    world = played(World(EVERY, choices), story)
    assert attempts(world) == [(World.tick(10), 1), (World.tick(10), 2)]
    assert world.outcomes() == [(World.tick(10), "done")]


def test_an_error_may_end_the_work() -> None:
    failures: list[BaseException | None] = []

    async def story(world: World) -> None:
        world.fails = lambda tick: KeyError("k")
        host = Host(world, "a")
        await host.elect()
        failures.append(await host.failure())

    world = played(World(EVERY, Choices(errors="raise")), story)
    assert isinstance(failures[0], KeyError)
    assert world.outcomes() == [(World.tick(10), "failed")]


@pytest.mark.parametrize("error", [StaleToken("later"), LeadershipLost("over")])
def test_a_lost_term_is_never_a_failure_of_the_tick(error: Exception) -> None:
    failures: list[BaseException | None] = []

    async def story(world: World) -> None:
        world.fails = lambda tick: error
        host = Host(world, "a")
        await host.elect()
        failures.append(await host.failure())

    world = played(World(EVERY, Choices(retries=5)), story)
    assert failures == [error]
    assert world.outcomes() == []
    assert world.noted().run is not None, "it is the next term's to decide on"


def test_a_run_that_has_had_its_time_is_cancelled() -> None:
    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 100
        host = Host(world, "a")
        await host.elect()
        await world.until(15)
        await host.step_down()

    world = played(World(EVERY, Choices(timeout_s=2)), story)
    assert [(event.what, round(event.at_s)) for event in world.log] == [("begin", 10), ("cut", 12)]
    assert world.outcomes() == [(World.tick(10), "timed out")]


# -- jitter


def test_jitter_is_the_tick_s_own_and_the_same_on_every_host() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(59)
        await host.step_down()

    first, second = (played(World(EVERY, Choices(jitter_s=5)), story) for _ in range(2))
    delays = [round(event.at_s % 10, 1) for event in first.log if event.what == "begin"]
    assert delays == [round(event.at_s % 10, 1) for event in second.log if event.what == "begin"]
    assert len(set(delays)) > 2
    assert max(delays) < 5.1
    assert first.begun() == ticks(10, 20, 30, 40, 50)


# -- orders


def test_a_pause_drops_its_ticks_and_a_restart_does_not_bring_them_back() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(12)
        await world.order(lambda orders: orders.with_pause("main"))
        await world.until(25)
        await host.die()
        await world.until(30)
        await world.order(lambda orders: orders.without_pause("main"))
        await world.until(36)
        await host.elect()
        await world.until(44)
        await host.step_down()

    world = played(World(EVERY, Choices(missed="all")), story)
    assert world.begun() == ticks(10, 40)
    assert [(row.outcome, row.count) for row in world.noted().rows] == [
        ("done", 1),
        ("paused", 2),
        ("done", 1),
    ]


def test_a_pause_counts_from_the_next_tick_on_however_late_it_comes() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(9.999)
        await world.order(lambda orders: orders.with_pause(None))
        await world.until(25)
        await host.step_down()

    assert played(World(EVERY), story).begun() == []


def test_an_order_to_run_now_is_carried_out_once_also_while_paused() -> None:
    async def story(world: World) -> None:
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(1)
        await world.order(lambda orders: orders.with_pause("main"))
        await world.order(lambda orders: orders.with_ask("x", "main", 1, {}))
        await world.until(4)
        await host.die()
        await other.elect()
        await world.order(lambda orders: orders.with_ask("x", "main", 1, {}))
        await world.until(8)
        await world.order(lambda orders: orders.with_ask("y", "main", 1, {"main": 2}))
        await world.until(15)
        await other.step_down()

    world = played(World(EVERY), story)
    assert [(event.tick, event.host) for event in world.log if event.what == "begin"] == [
        ("now-x", "a"),
        ("now-y", "b"),
    ]


def test_orders_that_wait_are_never_dropped_for_later_ones() -> None:
    orders = Orders()
    for n in range(MOST_WAITING + 5):
        orders = orders.with_ask(f"id{n}", "main", n, {})
    assert [ask.id for ask in orders.asks] == [f"id{n}" for n in range(MOST_WAITING)]
    later = orders.with_ask("more", "main", 0, {"main": 60})
    assert [ask.serial for ask in later.asks] == [*range(1, 102)]


# -- what is noted


def test_the_history_is_bounded_and_the_document_stays_small() -> None:
    async def story(world: World) -> None:
        world.fails = lambda tick: ValueError("ü" * 5000)
        host = Host(world, "a")
        await host.elect()
        await world.until(305 * 10)
        await host.step_down()

    world = played(World(EVERY, Choices(history=250)), story)
    rows = world.noted().rows
    assert rows[-1].id == World.tick(304 * 10)
    assert len(world.store.shelf.checkpoints[NAME, "job.main"].value) < 65_536
    assert 100 < len(rows) <= 250


def test_a_document_of_another_version_is_left_alone() -> None:
    failures: list[BaseException | None] = []

    async def story(world: World) -> None:
        now = await world.store.checkpoint(NAME, "job.main")
        await world.store.advance(now, b'{"v":3}', 0)
        host = Host(world, "a")
        await host.elect()
        failures.append(await asyncio.wait_for(host.failure(), 60))

    world = played(World(EVERY), story)
    assert isinstance(failures[0], StoreUnusable)
    assert world.store.shelf.checkpoints[NAME, "job.main"].value == b'{"v":3}'


def test_a_document_is_read_as_it_was_written() -> None:
    world = played(World(EVERY, Choices(missed="all")), away_from_12_to_55)
    found = world.noted()
    assert Document.decode(found.encode(100), "the test") == found


# -- what is refused


async def takes_two(one: Tick, two: int) -> None:
    raise AssertionError((one, two))


async def takes_none() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda: Choices(missed="al"), "'skip' or 'latest' or 'all'"),
        (lambda: Choices(retries=-1), "from 0 to 1000"),
        (lambda: Choices(timeout_s=0), "leave it out"),
        (lambda: Choices(late_s=float("nan")), "number of seconds"),
        (lambda: Spec("a", EVERY, takes_two, Choices(), awaited=True), "gets the tick alone"),
        (lambda: Spec("A b", EVERY, takes_none, Choices(), awaited=True), "A b"),
        (
            lambda: Spec("a", EVERY, takes_none, Choices(jitter_s=10), awaited=True),
            "not less than the 10 s between two ticks",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(bad: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        bad()


def test_two_tasks_of_one_name_are_refused_and_none_at_all() -> None:
    periodic = Periodic()
    periodic.add(Spec("a", EVERY, takes_none, Choices(), awaited=True))
    with pytest.raises(ConfigError, match="two tasks are called 'a'"):
        periodic.add(Spec("a", Interval(1000), takes_none, Choices(), awaited=True))

    async def story(world: World) -> BaseException | None:
        world.specs = lambda host: []  # type: ignore[method-assign]  # a world without tasks
        host = Host(world, "a")
        await host.elect()
        return await host.failure()

    async def main() -> BaseException | None:
        return await story(World(EVERY))

    assert "there is no task" in str(run(main()))


def test_whoever_wants_every_tick_loses_none_to_the_making_up() -> None:
    """While one tick is made up for the next one comes, and counts as overrun."""

    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 4
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(5)
        await host.die()
        await world.until(28)
        await other.elect()
        await world.until(59)
        await other.step_down()

    assert played(World(EVERY, Choices(missed="all")), story).begun() == ticks(10, 20, 30, 40, 50)
