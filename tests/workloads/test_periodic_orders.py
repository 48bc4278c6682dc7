"""Orders that wait, checkpoints that are deleted, and what a pause leaves alone."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from incumbent.stores.api import MAX_CHECKPOINT_BYTES
from incumbent.workloads.periodic import Choices
from incumbent.workloads.periodic.document import Document, Run
from incumbent.workloads.periodic.orders import MOST_WAITING, PART, Orders
from tests.workloads.periodic_world import EPOCH_S, NAME, Host, World
from tests.workloads.test_periodic_clocks import EVERY, played, ticks
from tests.workloads.test_periodic_runs import attempts


def ms(at_s: float) -> int:
    return round((EPOCH_S + at_s) * 1000)


async def _asked(world: World, *ids: str) -> None:
    served = {"main": world.noted().served}
    for each in ids:
        now = Orders.of(await world.store.checkpoint(NAME, PART))
        after = now.with_ask(each, "main", 0, served)
        await world.order(lambda _, after=after: after)  # type: ignore[misc]  # bound now


async def _paused(world: World) -> None:
    at_ms = ms(world.now_s)
    await world.order(lambda orders: orders.with_pause("main", at_ms))


async def _resumed(world: World) -> None:
    at_ms = ms(world.now_s)
    await world.order(lambda orders: orders.without_pause("main", at_ms))


def orders_run(world: World) -> list[str]:
    return [tick for tick in world.begun() if tick.startswith("now-")]


# -- checkpoints that are deleted


def test_an_order_after_the_orders_were_deleted_is_carried_out() -> None:
    """Its number would else be one that was served long ago."""

    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(1)
        await _asked(world, "o1", "o2", "o3")
        await world.until(5)
        del world.store.shelf.checkpoints[NAME, PART]
        await _asked(world, "urgent", "more")
        await world.until(9)
        await host.step_down()

    assert orders_run(played(World(EVERY), story)) == [
        *("now-o1", "now-o2", "now-o3"),
        *("now-urgent", "now-more"),
    ]


def test_orders_from_before_the_notes_were_deleted_are_not_carried_out_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(1)
        await _asked(world, "o1", "o2")
        await world.until(5)
        await host.step_down()
        del world.store.shelf.checkpoints[NAME, "job.main"]
        await host.elect()
        await world.until(7)
        await _asked(world, "o3")
        await world.until(9.5)
        await host.step_down()

    with caplog.at_level(logging.WARNING, "incumbent"):
        world = played(World(EVERY), story)
    assert orders_run(world) == ["now-o1", "now-o2", "now-o3"]
    assert "o1, o2" in caplog.text


def test_an_id_is_known_for_many_orders_and_all_of_them_find_room() -> None:
    orders, served = Orders().with_ask("deploy-7", "main", 0, {}), {"main": 0}
    for n in range(199):
        served["main"] = orders.serial
        orders = orders.with_ask(f"o{n}", "main", 0, served)
    assert orders.with_ask("deploy-7", "main", 0, {"main": orders.serial}) is orders
    job = "j" * 150
    for n in range(300):
        if n < 200:
            served = {"main": orders.serial, job: orders.serial}
        orders = orders.with_ask(f"{n}".zfill(200), job, 0, served)
    assert len(orders.encode()) < MAX_CHECKPOINT_BYTES
    assert sum(ask.serial > served[job] for ask in orders.asks) == MOST_WAITING


# -- pauses


@pytest.mark.parametrize("replaced", [False, True], ids=["one-holder", "a-successor"])
def test_a_pause_drops_no_tick_that_came_before_it(*, replaced: bool) -> None:
    """While what was missed is made up for, also if the holder dies while it is paused."""

    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 3
        host, other = Host(world, "a"), Host(world, "b")
        await host.elect()
        await world.until(15)
        await host.die()
        await world.until(61)
        await host.elect()
        await world.until(66)
        await _paused(world)
        await world.until(85)
        if replaced:
            await host.die()
            await other.elect()
        await world.until(105)
        await _resumed(world)
        await world.until(135)
        await (other if replaced else host).step_down()

    world = played(World(EVERY, Choices(missed="all")), story)
    assert world.begun() == ticks(10, 20, 30, 40, 50, 60, 110, 120, 130)
    (row,) = [row for row in world.noted().rows if row.outcome == "paused"]
    assert (row.id, row.count) == (World.tick(100), 4)


def test_ticks_of_a_pause_at_which_nobody_led_are_nobody_s() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(12)
        await host.die()
        await world.until(25)
        await _paused(world)
        await world.until(45)
        await host.elect()
        await world.until(55)
        await _resumed(world)
        await world.until(64)
        await host.step_down()

    assert played(World(EVERY, Choices(missed="all")), story).begun() == ticks(10, 20, 60)


def test_ticks_after_the_end_of_a_pause_are_run_however_late_it_is_seen() -> None:
    async def story(world: World) -> None:
        host = Host(world, "a")
        await host.elect()
        await world.until(12)
        await _paused(world)
        await world.until(15)
        await host.die()
        await world.until(35)
        await _resumed(world)
        await world.until(65)
        await host.elect()
        await world.until(74)
        await host.step_down()

    assert played(World(EVERY, Choices(missed="all")), story).begun() == ticks(10, 40, 50, 60, 70)


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_a_wrong_clock_of_an_operator_moves_a_pause_to_the_last_look_at_most(
    off_s: int,
) -> None:
    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 3
        host = Host(world, "a")
        await host.elect()
        await world.until(5)
        await host.die()
        await world.until(41)
        await host.elect()
        await world.until(46)
        at_ms = ms(world.now_s + off_s)
        await world.order(lambda orders: orders.with_pause(None, at_ms))
        await world.until(75)
        await world.order(lambda orders: orders.without_pause(None))
        await world.until(99)
        await host.step_down()

    begun = played(World(EVERY, Choices(missed="all")), story).begun()
    assert begun == ticks(10, 20, 30, 40, 80, 90)


def test_an_interrupted_tick_is_not_begun_again_while_it_is_paused() -> None:
    """An order is carried out meanwhile, and does not push the tick out."""

    async def story(world: World) -> None:
        world.lasts_s = lambda tick: 5
        host, other, last = (Host(world, name) for name in "abc")
        await host.elect()
        await world.until(12)
        await _paused(world)
        await host.die()
        await other.elect()
        await world.until(18)
        assert attempts(world) == [(World.tick(10), 1)]
        await _asked(world, "o1")
        await world.until(28)
        await other.die()
        await last.elect()
        await world.until(35)
        assert world.begun() == [World.tick(10), "now-o1"]
        await _resumed(world)
        await world.until(49)
        await last.step_down()

    world = played(World(EVERY, Choices(missed="all")), story)
    assert attempts(world) == [
        *((World.tick(10), 1), ("now-o1", 1), (World.tick(10), 2), (World.tick(40), 1)),
    ]
    assert world.outcomes() == [
        ("now-o1", "done"),
        (World.tick(30), "paused"),
        (World.tick(10), "interrupted"),
        *((World.tick(10), "done"), (World.tick(40), "done")),
    ]


def test_a_retry_waits_for_the_end_of_a_pause() -> None:
    async def story(world: World) -> None:
        world.fails = lambda tick: ValueError("no") if tick.attempt == 1 else None
        host = Host(world, "a")
        await host.elect()
        await world.until(11)
        await _paused(world)
        await world.until(18)
        assert attempts(world) == [(World.tick(10), 1)]
        await _resumed(world)
        await world.until(29)
        await host.step_down()

    world = played(World(EVERY, Choices(retries=1, backoff_s=3)), story)
    assert attempts(world)[:2] == [(World.tick(10), 1), (World.tick(10), 2)]


def test_a_retry_does_not_overlook_a_pause_of_just_now() -> None:
    async def story(world: World) -> None:
        world.fails = lambda tick: ValueError("no") if tick.attempt == 1 else None
        host = Host(world, "a")
        await host.elect()
        await world.until(12.95)
        await _paused(world)
        await world.until(18)
        await host.step_down()

    world = played(World(EVERY, Choices(retries=1, backoff_s=3)), story)
    assert attempts(world) == [(World.tick(10), 1)]


def test_an_order_that_fails_while_it_is_paused_is_tried_again() -> None:
    async def story(world: World) -> None:
        world.fails = lambda tick: ValueError("no") if tick.attempt == 1 else None
        host = Host(world, "a")
        await host.elect()
        await world.until(1)
        await _paused(world)
        await _asked(world, "o1")
        await world.until(9)
        await host.step_down()

    world = played(World(EVERY, Choices(retries=1, backoff_s=1)), story)
    assert attempts(world) == [("now-o1", 1), ("now-o1", 2)]


# -- what is noted


def test_a_long_text_ends_no_note() -> None:
    """It would be encoded for ever; what does not find room is cut."""
    long = Document(run=Run("x", 0, text="ValueError: " + "x" * 70_000))
    assert len(long.encode(100)) < MAX_CHECKPOINT_BYTES
    kept = Document.decode(long.encode(100), "the test").run
    assert kept is not None
    assert kept.text.startswith("ValueError: xxx")


def test_a_tick_that_was_put_aside_is_read_as_it_was_written() -> None:
    """And refused by a program that would forget it."""
    held = Document(held=Run("x", 5), since_ms=7, paused=True)
    assert Document.decode(held.encode(0), "the test") == held
    assert b'"v":2,' in held.encode(0)


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error", [ValueError("x" * 200_000), Unspeakable(), ValueError("\udcff")], ids=type
)
def test_whatever_a_run_has_raised_it_is_tried_again(error: Exception) -> None:
    async def story(world: World) -> None:
        world.fails = lambda tick: error if tick.id == World.tick(10) else None
        host = Host(world, "a")
        await host.elect()
        await world.until(29)
        await host.step_down()

    world = played(World(EVERY, Choices(retries=1)), story)
    found: Sequence[tuple[str, str]] = world.outcomes()
    assert found == [(World.tick(10), "failed"), (World.tick(20), "done")]


# -- whole histories

LATE_S = 5.0
"""How long a claim may be on its way, if its answers are lost."""
UNSEEN_S = 30.0
"""A pause that begins so soon after another may be one with it to a holder."""


@pytest.mark.parametrize("seed", range(25))
def test_no_history_of_pauses_and_orders_loses_or_repeats_anything(seed: int) -> None:
    """Holders die and step down, answers are lost, and an operator pauses, resumes and orders."""
    dice = random.Random(seed)
    choices = Choices(
        missed="all", missed_limit=10_000, reruns=1000, retries=dice.choice([0, 2]), backoff_s=1
    )
    world = World(EVERY, choices, seed=seed, latency_s=0.1, lost=dice.choice([0.0, 0.2]))
    world.lasts_s = lambda tick: dice.uniform(0, 6) if world.now_s < 350 else 0
    if choices.retries:
        world.fails = lambda tick: ValueError("no") if tick.attempt == 1 else None
    pauses: list[list[float]] = []
    asked: list[str] = []

    async def operate(until_s: float) -> None:
        while world.now_s < until_s:
            await world.until(world.now_s + dice.uniform(1, 25))
            paused = bool(pauses) and len(pauses[-1]) == 1
            if dice.random() < 0.4:
                asked.append(f"o{len(asked)}")
                await _asked(world, asked[-1])
            elif paused:
                pauses[-1].append(world.now_s)
                await _resumed(world)
            else:
                pauses.append([world.now_s])
                await _paused(world)

    async def story(world: World) -> None:
        first = Host(world, "a")
        await first.elect()
        await world.until(3)
        operator = asyncio.ensure_future(operate(300))
        await world.until(7)
        await first.die()
        while not operator.done():
            host = Host(world, dice.choice("abc"))
            await host.elect()
            await world.until(world.now_s + dice.uniform(0.1, 60))
            await (host.die() if dice.random() < 0.5 else host.step_down())
            await world.until(world.now_s + dice.choice([0.0, 0.3, 15.0]))
        if pauses and len(pauses[-1]) == 1:
            pauses[-1].append(world.now_s)
            await _resumed(world)
        last = Host(world, "last")
        await last.elect()
        await world.until(697)
        await last.step_down()

    played(world, story)
    runs = attempts(world)
    assert len(runs) == len(set(runs)), "no attempt is begun twice"
    assert [event for event in world.log if event.what == "unclaimed"] == []
    began = {tick for tick, _ in runs}
    assert {f"now-{each}" for each in asked} == {tick for tick in began if tick[:4] == "now-"}
    ended = {event.tick for event in world.log if event.what == "end"}
    assert began <= ended, "what was begun came to an end"
    spans = [*pauses]
    for (_, end), (begin, _) in pairwise(pauses):
        if begin - end < UNSEEN_S:
            spans.append([end, begin])
    for at in range(10, 690, 10):
        paused = any(begin - 3 < at <= end + 3 for begin, end in spans)
        assert paused or World.tick(at) in began, at
    for event in world.log:
        paused = any(begin + LATE_S < event.at_s < end for begin, end in pauses)
        assert not (event.what == "begin" and event.tick[:4] != "now-" and paused), event
