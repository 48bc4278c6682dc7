"""One run per tick, with clocks that are driven by hand: who is behind, who is ahead, who steps."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest

from incumbent.workloads.periodic import Choices
from incumbent.workloads.schedule import Interval
from tests.workloads.periodic_world import Host, World
from tests.workloads.virtual import run

EVERY_S = 10
EVERY = Interval(EVERY_S * 1000)


def played(world: World, story: Callable[[World], Awaitable[None]]) -> World:
    """Play `story`, and return the world as it is then."""

    async def main() -> None:
        await story(world)

    run(main())
    return world


def ticks(*at_s: float) -> list[str]:
    return [World.tick(at) for at in at_s]


def test_each_tick_is_run_once_while_one_leads() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await world.until(5)
        await host.elect()
        await world.until(45)
        await host.step_down()

    world = played(World(EVERY), story)
    assert world.begun() == ticks(10, 20, 30, 40)
    assert world.outcomes() == [(tick, "done") for tick in ticks(10, 20, 30, 40)]


def test_a_successor_whose_clock_is_behind_runs_no_tick_again() -> None:
    """And none early: it waits until its own clock has come to the next one."""

    async def story(world: World) -> None:
        ahead, behind = Host(world, "ahead", 3.0), Host(world, "behind", -3.0)
        await ahead.elect()
        await world.until(18)  # Its clock shows 21: it has run the tick of 20.
        await ahead.step_down()
        await behind.elect()
        await world.until(34)
        await behind.step_down()

    world = played(World(EVERY, Choices(missed="all")), story)
    assert world.begun() == ticks(10, 20, 30)
    assert [round(event.at_s) for event in world.log if event.what == "begin"] == [7, 17, 33]


def test_a_successor_whose_clock_is_ahead_skips_no_tick() -> None:
    """To its clock the tick came while nobody led: it is run all the same, also under skip."""

    async def story(world: World) -> None:
        right, ahead = Host(world, "right"), Host(world, "ahead", 3.0)
        await right.elect()
        await world.until(18)
        await right.step_down()
        await ahead.elect()  # It shows 21, and nobody has run the tick of 20.
        await world.until(28)
        await ahead.step_down()

    for missed in ("skip", "latest", "all"):
        world = played(World(EVERY, Choices(missed=missed)), story)
        assert world.begun() == ticks(10, 20, 30), missed


def test_a_clock_that_is_far_ahead_skips_no_tick_under_all() -> None:
    async def story(world: World) -> None:
        right, ahead = Host(world, "right"), Host(world, "ahead", 60.0)
        await right.elect()
        await world.until(12)
        await right.die()
        await ahead.elect()
        await world.until(14)
        await ahead.step_down()

    world = played(World(EVERY, Choices(missed="all")), story)
    assert world.begun() == ticks(10, 20, 30, 40, 50, 60, 70)


def test_a_clock_that_steps_back_repeats_nothing() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(25)
        host.offset_s = -17  # It shows 8 again.
        await world.until(60)
        await host.step_down()

    world = played(World(EVERY), story)
    assert world.begun() == ticks(10, 20, 30, 40)


def test_a_clock_that_steps_forward_is_noticed_within_a_second() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(3)
        host.offset_s = 30
        await world.until(4.5)
        await host.step_down()

    assert played(World(EVERY, Choices(missed="all")), story).begun() == ticks(10, 20, 30)
    assert played(World(EVERY), story).begun() == ticks(30)


def test_whoever_leads_says_so_when_its_clock_was_far_ahead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing runs until it has caught up: that must not be a riddle."""

    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(12)
        host.offset_s = 86_400
        await world.until(15)
        host.offset_s = 0
        await world.until(200)
        await host.step_down()

    with caplog.at_level(logging.WARNING, "incumbent"):
        world = played(World(EVERY), story)
    assert len(world.begun()) == 2
    said = [text for text in caplog.messages if "resume --from-now" in text]
    assert len(said) == 1
    assert "nightly: ticks up to 2026-03-02T00:00:10Z" in said[0]


def test_what_has_begun_of_a_millisecond_is_not_waited_for_again() -> None:
    offset_s = 0.0006

    async def story(world: World) -> None:
        host = Host(world, "a", offset_s)
        await world.until(5)
        await host.elect()
        await world.until(25)
        await host.step_down()

    world = played(World(EVERY, latency_s=0.0), story)
    late_s = [
        event.at_s + offset_s - at
        for event, at in zip(
            (event for event in world.log if event.what == "begin"), (10, 20), strict=True
        )
    ]
    assert all(abs(late) < 0.0003 for late in late_s), late_s


def test_nothing_is_run_before_the_first_start() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await world.until(95)
        await host.elect()
        await world.until(99)
        await host.step_down()

    assert played(World(EVERY, Choices(missed="all")), story).begun() == []


def test_another_rule_begins_at_the_present() -> None:
    """Its ticks of the past were nobody's, and those of the old rule are not run any more."""

    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(12)
        await host.step_down()
        world.schedule = Interval(7_000)
        await world.until(50)
        await host.elect()
        await world.until(60)
        await host.step_down()

    world = played(World(EVERY, Choices(missed="all")), story)
    assert world.begun() == [*ticks(10), World.tick(52), World.tick(59)]
