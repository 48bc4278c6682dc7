"""After a clock that was far ahead: ticks begin at the present again, and none is claimed twice."""

from __future__ import annotations

import random

import pytest

from incumbent.workloads.periodic import Choices
from incumbent.workloads.periodic.document import Document
from incumbent.workloads.periodic.stretches import leapt, rewound, without
from incumbent.workloads.schedule import Interval
from tests.workloads.periodic_world import Host, World
from tests.workloads.test_periodic_clocks import played, ticks
from tests.workloads.virtual import run

EVERY_S = 10
EVERY = Interval(EVERY_S * 1000)
AHEAD_S = 3600


async def _led(host: Host, until_s: float) -> None:
    await host.elect()
    await host.world.until(until_s)
    await host.step_down()


async def _from_now(world: World, order: str) -> None:
    await world.order(lambda orders: orders.with_fresh(order, ["main"]))


@pytest.mark.parametrize("missed", ["latest", "skip", "all"])
def test_ticks_begin_at_the_present_again(missed: str) -> None:
    """For those that the wrong host has run there is no second claim, when their time comes."""

    async def story(world: World) -> None:
        await _led(Host(world, "right"), 35)
        await _led(Host(world, "ahead", AHEAD_S), 65)
        right = Host(world, "right")
        await right.elect()
        await world.until(95)
        await _from_now(world, "o1")
        await world.until(135)
        await right.step_down()
        await _led(Host(world, "right"), 155)
        await world.until(AHEAD_S + 35)
        await _led(Host(world, "right"), AHEAD_S + 95)

    world = played(World(EVERY, Choices(missed=missed, missed_limit=2)), story)
    begun = world.begun()
    assert len(begun) == len(set(begun))
    early = [event.tick for event in world.log if event.host == "ahead" and event.what == "begin"]
    late = [tick for tick in begun if tick not in early]
    assert set(ticks(10, 20, 30, 100, 110, 120, 130, 140, 150)) <= set(late)
    assert early
    last = max(early)
    assert [tick for tick in late if tick > ticks(155)[0]][-3:] == ticks(
        *(AHEAD_S + at for at in (70, 80, 90))
    )
    assert not [tick for tick in late if min(early) <= tick <= last]
    assert ("o1", "resumed") in world.outcomes()


def test_without_an_order_successors_wait() -> None:
    async def story(world: World) -> None:
        await _led(Host(world, "ahead", AHEAD_S), 35)
        await _led(Host(world, "right"), 135)

    world = played(World(EVERY), story)
    assert {event.host for event in world.log} == {"ahead"}


def test_an_order_is_obeyed_once() -> None:
    """Also by later terms: they would else go back again after the next leap."""

    async def story(world: World) -> None:
        await _led(Host(world, "right"), 35)
        await _led(Host(world, "ahead", AHEAD_S), 65)
        await _from_now(world, "o1")
        await _led(Host(world, "right"), 135)
        await _led(Host(world, "ahead", 2 * AHEAD_S), 165)
        await _led(Host(world, "right"), 235)

    world = played(World(EVERY), story)
    assert world.outcomes().count(("o1", "resumed")) == 1
    assert world.log[-1].host == "ahead"


def test_the_same_host_may_have_been_put_right() -> None:
    async def story(world: World) -> None:
        await _led(Host(world, "a"), 35)
        host = Host(world, "a", AHEAD_S)
        await host.elect()
        await world.until(65)
        host.offset_s = 0
        await world.until(85)
        await _from_now(world, "o1")
        await world.until(125)
        await host.step_down()

    world = played(World(EVERY), story)
    assert world.begun()[-3:] == ticks(100, 110, 120)


def test_what_waits_for_the_end_of_a_pause_has_its_turn_before() -> None:
    """Claimed by a wrong clock, and begun later, it would put off all others once more."""

    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 20 if tick.attempt == 1 and tick.token == 2 else 0
        await _led(Host(world, "right"), 35)
        ahead = Host(world, "ahead", AHEAD_S)
        await ahead.elect()
        await world.until(45)
        await world.order(lambda orders: orders.with_pause("main"))
        await ahead.die()
        right = Host(world, "right")
        await right.elect()
        await world.until(55)
        await world.order(lambda orders: orders.with_ask("o1", "main", 0, {}))
        await _from_now(world, "o2")
        await world.until(75)
        await world.order(lambda orders: orders.without_pause("main"))
        await world.until(99)
        await right.step_down()
        await _led(Host(world, "right"), 115)

    world = played(World(EVERY), story)
    begun = [event.tick for event in world.log if event.what == "begin"]
    assert [tick for tick in begun if tick.startswith("now-")] == ["now-o1"]
    (cut,) = [event.tick for event in world.log if event.host == "ahead" and event.what == "cut"]
    assert begun[-5:] == [cut, *ticks(80, 90, 100, 110)]


def test_where_every_tick_was_run_there_is_nothing_to_go_back_to() -> None:
    async def story(world: World) -> None:
        await _led(Host(world, "right"), 35)
        await _led(Host(world, "ahead", 300), 65)
        await _from_now(world, "o1")
        await _led(Host(world, "right"), 135)

    world = played(World(EVERY, Choices(missed="all")), story)
    begun = world.begun()
    assert len(begun) == len(set(begun))
    (row,) = [row for row in world.noted().rows if row.outcome == "resumed"]
    assert "no stretch is known in which none was claimed" in row.text


def test_who_does_not_know_of_barred_stretches_leaves_them_alone() -> None:
    """A program of before would claim there: it refuses what it cannot understand."""
    plain, barring = Document(), Document(through_ms=5, barred=((10, 20),))
    assert b'"v":1,' in plain.encode(0)
    assert b'"v":2,' in barring.encode(0)
    assert Document.decode(barring.encode(0), "here") == barring


def test_stretches() -> None:
    barred = ((1_000_000, 2_000_000),)
    assert leapt((), (0, 3_000_000), barred) == ((0, 1_000_000), (2_000_000, 3_000_000))
    assert leapt((), (1_500_000, 3_000_000), barred) == ((2_000_000, 3_000_000),)
    assert leapt((), (1_200_000, 1_900_000), barred) == ()
    assert leapt((), (0, 50_000), ()) == ()
    free = ((0, 100), (200, 300), (400, 500))
    assert rewound(free, (), 250, 600) == (((0, 100), (200, 250)), ((300, 600),))
    assert rewound(free, ((700, 800),), 250, 300) == (((0, 100), (200, 250)), ((700, 800),))
    assert rewound(free, (), 350, 600) is None
    assert rewound(free, (), 450, 430) is None
    schedule = without(Interval(10), ((20, 50), (30, 60)))
    assert [schedule.after(at) for at in (0, 10, 20, 45, 60)] == [10, 20, 70, 70, 70]


@pytest.mark.parametrize("seed", range(60))
def test_no_history_claims_a_tick_twice(seed: int) -> None:
    """Clocks leap, hosts die, answers are lost, and somebody orders it again and again."""
    dice = random.Random(seed)
    choices = Choices(
        missed=dice.choice(["all", "latest", "skip"]),
        on_interrupted="skip",
        missed_limit=dice.choice([2, 100]),
        history=dice.choice([0, 100]),
    )
    lost = dice.choice([0.0, 0.2])
    world = World(Interval(EVERY_S * 1000), choices, seed=seed, latency_s=0.1, lost=lost)

    async def story() -> None:
        for number in range(dice.randint(4, 10)):
            ahead_s = dice.choice([0, 0, 0, 100, 400, 2000]) + dice.uniform(-3, 3)
            host = Host(world, "abc"[number % 3], ahead_s)
            await host.elect()
            await world.until(world.now_s + dice.uniform(1, 80))
            if dice.random() < 0.5:
                await _from_now(world, f"o{number}")
            if dice.random() < 0.3:
                host.offset_s = dice.choice([0, 500])
            await world.until(world.now_s + dice.uniform(3, 120))
            await (host.die() if dice.random() < 0.5 else host.step_down())
            await world.until(world.now_s + dice.choice([0.0, 12.0, 300.0]))

    run(story())
    begun = world.begun()
    assert begun
    assert len(begun) == len(set(begun)), sorted(tick for tick in begun if begun.count(tick) > 1)
    assert [event for event in world.log if event.what == "unclaimed"] == []
