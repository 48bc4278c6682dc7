"""`incumbent runs`, `run-now`, `pause` and `resume`: periodic tasks, from outside.

None of these is a candidate. What has run is read from what the holder has noted; an order is left
beside it, by compare and swap, and stays until the holder has claimed it. So an order can be given
while nobody leads.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import require_rich, show, write_json
from incumbent.cli.progress import Progress
from incumbent.cli.session import requested, with_store, written
from incumbent.core.records import Holding, Snapshot, check_name
from incumbent.errors import (
    CheckpointMoved,
    ConfigError,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
)
from incumbent.stores.api import Store
from incumbent.workloads.periodic.document import RUNNING, Document, Row, Run
from incumbent.workloads.periodic.orders import MOST_WAITING, PART, Orders
from incumbent.workloads.periodic.task import PART as TASK_PART

__all__ = ["pause", "resume", "run_now", "runs"]

_TRIES = 50
_LOOK_EVERY_S = 0.5

_state = click.option(
    "--state", metavar="URL", help="Where ticks are noted; else INCUMBENT_STATE [store]."
)


@click.command("runs")
@click.argument("name")
@click.argument("job", required=False)
@click.option("--last", type=int, default=20, metavar="N", help="Show N runs of each [20].")
@_state
@common()
def runs(options: Options, name: str, job: str | None, last: int, state: str | None) -> int:
    """Show what has run for NAME, what runs, and what is due."""
    if not options.json:
        require_rich()

    async def work(store: Store) -> tuple[Orders, dict[str, Document], Snapshot | None]:
        orders, found = await _read(store, name)
        record = None
        elsewhere = state or os.environ.get("INCUMBENT_STATE")
        if any(document.run for document in found.values()) and not elsewhere:
            with suppress(StoreError):  # Whoever may read notes need not have a right to this.
                record = await requested(store, store.read(name))
        return orders, found, record

    orders, found, record = _with(options, state, name, work)
    if job is not None:
        found = {_chosen(name, job, found): found[job]}
    if options.json:
        write_json(
            {"election": name, "jobs": [_plain(j, d, orders, record) for j, d in found.items()]}
        )
    else:
        _draw(found, orders, last, record)
    if not found and not options.quiet:
        click.echo(f"nothing periodic has run for {name!r}", err=True)
    return codes.OK if found else codes.NOT_SO


@click.command("run-now")
@click.argument("name")
@click.argument("job", required=False)
@click.option("--id", "id_", metavar="ID", help="Of the order; one that was given is not again.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit with 1 if it has failed.")
@_state
@common()
def run_now(
    options: Options, name: str, job: str | None, id_: str | None, wait: bool, state: str | None
) -> int:
    """Order JOB of NAME to run now; while nobody leads, or it runs already, it waits its turn.

    JOB may be left out if there is one alone. An --id is known for the last 200 orders, and for as
    long as its run is among those that `incumbent runs` shows.
    """
    order = id_ or secrets.token_hex(4)
    try:
        check_name(order)
    except ConfigError as error:
        raise click.UsageError(f"--id: {error}") from None

    async def work(store: Store) -> str:
        _, found = await _read(store, name)
        task = _chosen(name, job, found)
        served = {each: document.served for each, document in found.items()}
        at_ms = int(time.time() * 1000)
        if _outcome(found[task], order) is not None:
            return task
        after = await _change(store, name, lambda o: o.with_ask(order, task, at_ms, served))
        given = [ask.job for ask in after.asks if ask.id == order]
        if given and given[0] != task:
            raise ConfigError(f"--id {order} is that of an order to {given[0]!r}: choose another")
        if not given:
            raise StoreUnavailable(
                f"{MOST_WAITING} orders wait for {name!r} already, and nobody carries them out: "
                "see `incumbent status`"
            )
        return task

    task = _with(options, state, name, work)
    told = {"election": name, "job": task, "order": order, "tick": f"now-{order}"}
    if not options.quiet and not options.json:
        click.echo(f"ordered: {task} of {name} runs as now-{order}")
    if not wait:
        if options.json:
            write_json(told)
        return codes.OK
    row = _with(options, state, name, lambda store: _ended(store, name, task, order))
    if options.json:
        write_json({**told, "run": _row(row)})
    elif not options.quiet:
        click.echo(f"{row.outcome}: now-{order}{f': {row.text}' if row.text else ''}")
    return codes.OK if row.outcome == "done" else codes.NOT_SO


async def _ended(store: Store, name: str, task: str, order: str) -> Row:
    """Wait for the end of an ordered run, and return what is noted of it."""
    async with Progress(f"waiting for now-{order}"):
        while True:
            orders, found = await _read(store, name)
            document = found.get(task, Document())
            row = _outcome(document, order)
            if row is not None:
                return row
            waits = any(a.id == order and a.serial > document.served for a in orders.asks)
            runs = document.run is not None and document.run.id == f"now-{order}"
            if not waits and not runs:
                raise StoreUnavailable(
                    f"what became of now-{order} is not noted any more: see `incumbent runs`, and "
                    "have the task remember more (history)"
                )
            await asyncio.sleep(_LOOK_EVERY_S)


def _outcome(document: Document, order: str) -> Row | None:
    """Return the end of an ordered run, if it is noted; an interrupted one may be begun again."""
    if document.run is not None and document.run.id == f"now-{order}":
        return None
    return next((row for row in reversed(document.rows) if row.id == f"now-{order}"), None)


@click.command("pause")
@click.argument("name")
@click.argument("job", required=False)
@_state
@common()
def pause(options: Options, name: str, job: str | None, state: str | None) -> int:
    """Let no ticks of NAME run, or of its JOB alone, until `resume`. What runs goes on."""
    return _set_pause(options, name, job, state, paused=True)


@click.command("resume")
@click.argument("name")
@click.argument("job", required=False)
@click.option(
    "--from-now",
    is_flag=True,
    help="Begin at the present again, after a host whose clock was far ahead has led.",
)
@_state
@common()
def resume(options: Options, name: str, job: str | None, from_now: bool, state: str | None) -> int:
    """End the pause of JOB, or all pauses of NAME. Ticks that came meanwhile are not run."""
    return _set_pause(options, name, job, state, paused=False, from_now=from_now)


def _set_pause(
    options: Options,
    name: str,
    job: str | None,
    state: str | None,
    *,
    paused: bool,
    from_now: bool = False,
) -> int:
    order = secrets.token_hex(4)
    at_ms = int(time.time() * 1000)

    async def work(store: Store) -> Orders:
        _, found = await _read(store, name)
        before = Orders.of(await requested(store, store.checkpoint(name, PART)))
        if job is not None or not (found or before.pausing):
            _chosen(name, job, found)
        if paused:
            return await _change(store, name, lambda orders: orders.with_pause(job, at_ms))
        jobs = () if not from_now else found if job is None else (job,)

        def edit(orders: Orders) -> Orders:
            return orders.without_pause(job, at_ms).with_fresh(order, jobs)

        return await _change(store, name, edit)

    orders = _with(options, state, name, work)
    if not paused and job is not None and orders.all_paused:
        raise ConfigError(
            f"all of {name!r} is paused, so {job!r} is, too: `incumbent resume {name}` ends that"
        )
    what = name if job is None else f"{job} of {name}"
    if options.json:
        told = {"order": order} if from_now else {}
        write_json({"election": name, "job": job, "paused": paused, **told})
    elif not options.quiet:
        more = f", from now (order {order}; `incumbent runs {name}` says what came of it)"
        click.echo(f"{'paused' if paused else 'resumed'}: {what}{more if from_now else ''}")
    return codes.OK


# -- the store


def _with(
    options: Options, state: str | None, name: str, work: Callable[[Store], Awaitable[Any]]
) -> Any:
    check_name(name)
    url = state or os.environ.get("INCUMBENT_STATE") or options.url()
    return with_store(Options(url, options.json, options.verbosity), work)


async def _read(store: Store, name: str) -> tuple[Orders, dict[str, Document]]:
    found = {}
    orders = Orders()
    for checkpoint in await requested(store, store.checkpoints(name)):
        if checkpoint.part == PART:
            orders = Orders.of(checkpoint)
        elif checkpoint.part.startswith(TASK_PART):
            job = checkpoint.part.removeprefix(TASK_PART)
            found[job] = Document.decode(checkpoint.value, f"{checkpoint.part} of {name!r}")
    return orders, found


async def _change(store: Store, name: str, edit: Callable[[Orders], Orders]) -> Orders:
    """Change the orders by compare and swap, over and over until it is known to have happened.

    An edit of what it has changed already changes nothing, so it does not matter which try it was.
    """
    for _ in range(_TRIES):
        now = await requested(store, store.checkpoint(name, PART))
        before = Orders.of(now)
        after = edit(before)
        if after == before:
            return after
        try:
            await written(store, store.advance(now, after.encode(), 0))
        except (CheckpointMoved, OutcomeUnknown):
            continue
        return after
    raise StoreUnavailable(f"the orders for {name!r} could not be changed: too much is under way")


def _chosen(name: str, job: str | None, found: dict[str, Document]) -> str:
    if not found:
        raise ConfigError(
            f"nothing periodic has run for {name!r} in this store: start it, or name the store "
            "that it uses (--store, --state)"
        )
    if job is None:
        if len(found) > 1:
            raise ConfigError(f"{name!r} has several jobs, name one: {', '.join(found)}")
        return next(iter(found))
    if job not in found:
        raise ConfigError(f"{name!r} has no job {job!r}: there are {', '.join(found)}")
    return job


# -- what is shown


def _plain(
    job: str, document: Document, orders: Orders, record: Snapshot | None = None
) -> dict[str, Any]:
    run = document.run or document.held
    waiting = [ask.id for ask in orders.asks if ask.job == job and ask.serial > document.served]
    return {
        "job": job,
        "rule": document.rule,
        "paused": orders.pauses(job),
        "through": _time(document.through_ms),
        "next": _time(document.next_ms),
        "ordered": waiting,
        "unfinished": None
        if run is None
        else {
            "tick": run.id,
            "attempt": run.attempt,
            "token": run.token,
            "began": _time(run.begun_ms),
            "state": run.state,
            "holder_gone": _gone(run, record),
        },
        "runs": [_row(row) for row in document.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "tick": row.id,
        "due": _time(row.due_ms),
        "attempt": row.attempt,
        "token": row.token,
        "began": _time(row.begun_ms),
        "took_s": row.took_ms / 1000,
        "outcome": row.outcome,
        "text": row.text,
        "count": row.count,
    }


def _gone(run: Run, record: Snapshot | None) -> bool | None:
    """Tell whether the term that claimed a run is over; None if that cannot be told."""
    if record is None or record.holding is Holding.FOREIGN:
        return None
    if record.holding is not Holding.HELD:
        return True
    return None if record.token is None else record.token != run.token


def _draw(
    found: dict[str, Document], orders: Orders, last: int, record: Snapshot | None = None
) -> None:
    rows: list[list[str]] = []
    for job, document in found.items():
        for row in document.rows[-last:] if last > 0 else ():
            ran = row.attempt > 0
            many = f"{row.count or 'many'} up to here" if not ran and row.count != 1 else ""
            rows.append(
                [
                    job,
                    row.id,
                    row.outcome,
                    str(row.attempt) if ran else "",
                    str(row.token) if ran else "",
                    f"{row.took_ms / 1000:.3f} s" if ran else "",
                    row.text or many,
                ]
            )
        for run in filter(None, (document.run, document.held)):
            state = "runs" if run.state == RUNNING else run.state
            if run is document.held:
                state = "put aside"
            elif run.state == RUNNING and _gone(run, record):
                state = "interrupted?"
            rows.append([job, run.id, state, str(run.attempt), str(run.token), "", run.text])
        due = _time(document.next_ms) or "never"
        state = "paused" if orders.pauses(job) else "due"
        rows.append([job, due, state, "", "", "", document.rule])
    if rows:
        heads = ("job", "tick", "outcome", "attempt", "token", "took", "note")
        show(rows, *heads, wrap=("note",))


def _time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(".000Z", "Z")
