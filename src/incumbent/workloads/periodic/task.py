"""One periodic task in the hands of one term: from tick to tick.

One run per tick: the theory
----------------------------
All that matters stands in the task's document (`document`), which is written under a sealed token,
so that at any time only the latest term can write it, and each write rests on all that were before.

1. **Claim, then run.** Before a tick is run, it is noted which one it is, under which token, and
   that everything up to it is done with (`through_ms`). The note is known to be written before the
   user's function is called. After the run its end is noted.
2. **Never back.** Only ticks later than `through_ms` are begun, whatever a clock shows. That number
   never falls under a claim, so no tick has two claims, but for those of rule 4. It falls for an
   operator who says so (`stretches`): then up to a tick that was never claimed, and what may have
   been claimed between there and where it was is barred in the same write.
3. **A clock decides when, and never whether.** Which instants are ticks follows from the rule
   alone. So of two holders, one after the other, whose clocks differ:
   the later one's is *behind*: it finds ticks behind it that its clock has not reached. They are
   done with (2); it waits until its clock has reached the next one;
   the later one's is *ahead*: it finds ticks in its past that nobody ran. They count as missed, and
   under "all" each is run; under "latest" the last one. Under "skip" it is run as well unless it is
   later than `late_s`, which is to be more than clocks differ by.
   A step of one holder's own clock is the same to it, and is seen within a second.
4. **An unfinished claim** found by a later term was *interrupted*: the run may have had any part of
   its effect. `on_interrupted` says whether the tick is begun again, as a further attempt that is
   claimed in its turn, or left. Only a resource that checks the token, or records the tick with
   the effect, can make more of it than "at least once" and "at most once".
5. **The end of a term, by plan.** What has not begun is given back: its claim is noted as pending,
   and the next holder begins it. What runs in a thread is waited for, and if it returns in time
   its end is noted as usual. A claim or a note that is on its way is always waited for, since an
   unknown one would be an interruption.
6. **A pause is for what comes.** Ticks that come while a task is paused are nobody's. Those that
   came before, and wait, are begun after it, and so is a tick that was interrupted, given back, or
   is to be tried again. An order is carried out all the same; such a tick is put aside for it
   (`held`), in the write that claims the order.

Overruns: a task runs once at a time. Ticks that come while it runs (its retries and the pauses
between them included) are judged by `on_overrun` at its end; all others by `missed`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from incumbent.errors import LeadershipLost, StaleToken
from incumbent.workloads.env import Env
from incumbent.workloads.periodic.agenda import Agenda
from incumbent.workloads.periodic.document import PENDING, RETRY, RUNNING, Document, Row, Run
from incumbent.workloads.periodic.judging import Judgement, judge, ripe_ms
from incumbent.workloads.periodic.orders import Ask, Desk, Orders
from incumbent.workloads.periodic.spec import MAIN, Spec
from incumbent.workloads.periodic.stretches import Stretch, leapt, rewound, without
from incumbent.workloads.periodic.tick import RunFailed, RunTimedOut, Tick
from incumbent.workloads.reason import said
from incumbent.workloads.schedule import Schedule, id_of, instant_of

__all__ = ["PART", "Task"]

T = TypeVar("T")

PART = "job."
_FAR_MS = 60_000
_OURS = ("incumbent.", "asyncio.")

log = logging.getLogger("incumbent")


class _NotBegun(Exception):
    """The term was to end before the user's function was called."""


class Task:
    """A task, and the term that has it."""

    def __init__(
        self,
        spec: Spec,
        env: Env,
        agenda: Agenda,
        desk: Desk,
        gate: AbstractAsyncContextManager[Any],
    ) -> None:
        self._spec = spec
        self._env = env
        self._agenda = agenda
        self._desk = desk
        self._gate = gate
        self._progress = env.progress(PART + spec.name)
        self._doc = Document()
        self._schedule: Schedule = spec.schedule
        self._judged_ms = 0
        self._backlog: deque[int] = deque()
        self._retry_at_s: float | None = None
        self._ahead_ms = 0
        self._title = env.term.name if spec.name == MAIN else f"{env.term.name}/{spec.name}"

    async def run(self) -> None:
        """Run it whenever it is due, for ever.

        Raises:
            LeadershipLost, StaleToken: the term is over.
            Exception: what a run raised at last, with errors="raise".
        """
        await self._open()
        while True:
            orders = self._desk.orders
            if await self._rewind(orders) or await self._obey(orders):
                continue
            left = self._left()
            if left is not None:
                await self._regain(left)
                continue
            ask = orders.next_ask(self._spec.name, self._doc.served)
            if ask is not None:
                await self._serve(ask)
            elif self._doc.paused:
                await self._agenda.until(None)
            elif self._due():
                await self._next_tick()
            else:
                self._say_if_far_ahead()
                await self._agenda.until(self._next_ms())

    # -- what is due ------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Take over what was noted. A new rule, or none before, begins at the present."""
        value = await self._progress.open()
        self._doc = Document.decode(value, f"{PART}{self._spec.name} of {self._env.term.name!r}")
        if not value:
            self._doc = replace(self._doc, served=self._served_before())
        self._judged_ms = self._doc.through_ms
        now_ms = self._agenda.now_ms()
        self._schedule = without(self._spec.schedule, self._doc.barred)
        if self._doc.rule != self._spec.schedule.text:
            self._judged_ms = max(self._judged_ms, now_ms)
            self._pass_over((self._doc.through_ms, self._judged_ms))
            await self._save(replace(self._doc, rule=self._spec.schedule.text))

    def _say_if_far_ahead(self) -> None:
        """Say, once for each time that it is so, why nothing will run for long."""
        now_ms = self._agenda.now_ms()
        if self._judged_ms in (self._ahead_ms, min(self._judged_ms, now_ms + _FAR_MS)):
            return
        self._ahead_ms = self._judged_ms
        log.warning(
            "%s: ticks up to %s are done with already, which is %d s ahead of this host's clock: "
            "nothing is run until it has caught up. If a clock was wrong, see "
            "`incumbent resume --from-now`",
            self._title,
            id_of(self._judged_ms),
            (self._judged_ms - now_ms) // 1000,
        )

    def _served_before(self) -> int:
        """Return the number of the last order, which nobody carries out if nothing was noted yet.

        An order is given to a task that is noted. So the notes were deleted, and with them which
        orders were carried out.
        """
        orders = self._desk.orders
        before = [ask.id for ask in orders.asks if ask.job == self._spec.name]
        if before:
            log.warning(
                "%s: nothing is noted of this task, so nobody knows which of the orders %s were "
                "carried out: none of them is any more. Order again what is wanted",
                self._title,
                ", ".join(before),
            )
        return orders.serial

    def _left(self) -> Run | None:
        """Return what was claimed and has no end, if it is to be decided on now: see rule 6."""
        run = self._doc.run
        if run is not None and run.order:
            return run
        if self._doc.paused:
            return None
        return run or self._doc.held

    def _due(self) -> bool:
        """Tell whether there is a tick to run, after judging those that have come."""
        if not self._backlog:
            self._take_in(self._judge(self._agenda.now_ms()))
        return bool(self._backlog)

    def _judge(self, now_ms: int, *, overrun: bool = False) -> Judgement:
        spec = self._spec
        return judge(
            spec.name,
            self._schedule,
            spec.choices,
            after_ms=self._judged_ms,
            now_ms=now_ms,
            overrun=overrun,
        )

    def _take_in(self, found: Judgement, *, outcome: str = "missed") -> None:
        self._backlog.extend(found.chosen)
        if found.dropped and outcome != "overrun":
            self._pass_over((self._judged_ms, found.dropped[-1]))
        self._judged_ms = found.through_ms
        if found.dropped:
            self._doc = self._doc.with_row(self._dropped(found, outcome))

    def _pass_over(self, stretch: Stretch) -> None:
        """Remember that no tick of it was claimed."""
        self._doc = replace(self._doc, free=leapt(self._doc.free, stretch, self._doc.barred))

    def _dropped(self, found: Judgement, outcome: str) -> Row:
        last = found.dropped[-1]
        count = 0 if found.many else len(found.dropped)
        level = logging.WARNING if outcome == "missed" else logging.INFO
        log.log(level, "%s: ticks up to %s were not run: %s", self._title, id_of(last), outcome)
        return Row(id_of(last), last, 0, self._token, self._agenda.now_ms(), 0, outcome, "", count)

    def _next_ms(self) -> int | None:
        tick = self._schedule.after(self._judged_ms)
        return None if tick is None else ripe_ms(self._spec.name, self._spec.choices, tick)

    # -- what operators order ---------------------------------------------------------------------

    async def _obey(self, orders: Orders) -> bool:
        """Note a pause, or its end, and tell whether there was one; meanwhile more may be ordered.

        Ticks that come while it is paused are nobody's; see rule 6.
        """
        paused = orders.pauses(self._spec.name)
        if paused == self._doc.paused:
            return False
        since_ms = self._desk.paused_since_ms(self._spec.name) if paused else 0
        if not paused:
            until_ms = self._desk.paused_until_ms(self._spec.name)
            self._take_in(self._judge(min(self._doc.since_ms, until_ms)))
            found = self._judge(until_ms)
            dropped = (*found.dropped, *found.chosen)
            self._take_in(replace(found, dropped=dropped, chosen=()), outcome="paused")
        await self._save(replace(self._doc, paused=paused, since_ms=since_ms))
        return True

    async def _rewind(self, orders: Orders) -> bool:
        """Begin at the present again, if that was ordered and is not done; tell whether it was.

        Nothing runs now, and nothing is claimed without its end: what is noted is all there is.
        What waits for the end of a pause is claimed, so it has its turn before.
        """
        order = orders.fresh.get(self._spec.name, "")
        if order in ("", self._doc.rewound) or self._doc.run or self._doc.held:
            return False
        now_ms, doc = self._agenda.now_ms(), replace(self._doc, rewound=order)
        found = rewound(doc.free, doc.barred, now_ms, doc.through_ms)
        if found is None:
            text = "they go on as they were, for no stretch is known in which none was claimed"
        else:
            text = f"ticks up to {id_of(doc.through_ms)} were done with"
            doc = replace(doc, free=found[0], barred=found[1], through_ms=now_ms)
            self._schedule = without(self._spec.schedule, doc.barred)
            self._judged_ms = now_ms
            self._backlog.clear()
        log.warning("%s: it was ordered to begin at the present: %s", self._title, text)
        row = Row(order, now_ms, 0, self._token, now_ms, 0, "resumed", text)
        await self._save(doc.with_row(row))
        return True

    async def _serve(self, ask: Ask) -> None:
        run = Run(f"now-{ask.id}", ask.at_ms, order=ask.serial)
        held = self._doc.held or self._doc.run
        await self._perform(run, replace(self._doc, served=ask.serial, held=held))

    async def _next_tick(self) -> None:
        """Run the first of the backlog, unless it is paused by now."""
        if (await self._desk.fresh()).pauses(self._spec.name):
            return
        tick_ms = self._backlog.popleft()
        await self._perform(Run(id_of(tick_ms), tick_ms), self._doc)

    async def _regain(self, run: Run) -> None:
        """Decide on what was claimed, and has no end: by an earlier term, or a retry of this one.

        Not if it is paused by now, unless it was ordered.
        """
        choices = self._spec.choices
        if run.state == RETRY:
            await self._rest(choices.pause_s(run.failures))
        if not run.order and (await self._desk.fresh()).pauses(self._spec.name):
            return
        self._retry_at_s = None
        doc = self._doc if self._doc.run is not None else replace(self._doc, held=None)
        if run.state != RUNNING:
            await self._perform(run, doc)
            return
        interruptions = run.interruptions + 1
        row = self._row(run, "interrupted", 0)
        doc = replace(doc.with_row(row), run=None)
        if choices.on_interrupted == "skip":
            await self._save(doc)
        elif interruptions > choices.reruns:
            text = f"it was interrupted {interruptions} times, and is not begun again"
            log.error("%s: %s: %s", self._title, run.id, text)
            await self._save(doc.with_row(self._row(run, "failed", 0, text)))
        else:
            await self._perform(replace(run, interruptions=interruptions), doc)

    # -- one run ----------------------------------------------------------------------------------

    async def _rest(self, pause_s: float) -> None:
        """Wait until the retry is due; its pause begins at the failure, or with the term."""
        now_s = self._env.clock.now()
        if self._retry_at_s is None:
            self._retry_at_s = now_s + pause_s
        await self._env.clock.sleep(self._retry_at_s - now_s)

    async def _perform(self, run: Run, before: Document) -> None:
        """Claim and run it, and note its end, or that it is to be tried again."""
        choices = self._spec.choices
        async with self._gate:
            run = replace(
                run,
                attempt=run.failures + run.interruptions + 1,
                token=self._token,
                begun_ms=self._agenda.now_ms(),
                state=RUNNING,
            )
            error, took_s = await self._claimed(run, before)
        if error is None or run.failures >= choices.retries:
            await self._ended(run, error, took_s)
            return
        run = replace(run, state=RETRY, failures=run.failures + 1, text=_said(error))
        await self._save(replace(self._doc, run=run))
        self._retry_at_s = self._env.clock.now() + choices.pause_s(run.failures)

    async def _claimed(self, run: Run, before: Document) -> tuple[Exception | None, float]:
        """Claim it, call the function, and return what that raised and how long it took."""
        self._doc = replace(before, run=run)
        stage = _Stage(self._env, self._spec)
        began_s = self._env.clock.now()
        try:
            await self._uncut(self._save(self._doc))
            error = await self._call(stage, run)
        except asyncio.CancelledError:
            await self._at_the_end(stage, run, began_s)
            raise
        return error, self._env.clock.now() - began_s

    async def _call(self, stage: _Stage, run: Run) -> Exception | None:
        choices = self._spec.choices
        tick = Tick(
            id=run.id,
            due=instant_of(run.due_ms, self._spec.schedule.zone),
            attempt=run.attempt,
            job=self._spec.name,
            manual=bool(run.order),
            term=self._env.term,
            timeout_s=choices.timeout_s,
            clock=self._env.clock.now,
        )
        call = stage.begin(tick)
        if choices.timeout_s is not None:
            limit = asyncio.ensure_future(self._env.clock.sleep(choices.timeout_s))
            try:
                await asyncio.wait([call, limit], return_when=asyncio.FIRST_COMPLETED)
            finally:
                limit.cancel()
                await asyncio.wait([limit])
            if not call.done() and self._spec.awaited:
                call.cancel()
                await asyncio.wait([call])
                if call.cancelled():
                    return RunTimedOut(f"it was stopped after {choices.timeout_s:g} s")
            elif not call.done() and not getattr(self._spec.func, "ends_in_time", False):
                text = (
                    "%s: %s has had its %g s; a thread ends by itself, as at its next tick.check()"
                )
                log.warning(text, self._title, run.id, choices.timeout_s)
        await asyncio.wait([call])
        return stage.outcome(call)

    async def _ended(self, run: Run, error: Exception | None, took_s: float) -> None:
        if error is None:
            outcome = "done"
        else:
            outcome = "timed out" if isinstance(error, TimeoutError) else "failed"
            told = isinstance(error, RunFailed)
            text = "%s: %s has failed: %s"
            log.error(
                text, self._title, run.id, _said(error), exc_info=None if told else _theirs(error)
            )
        row = self._row(run, outcome, took_s, _said(error))
        doc = replace(self._doc.with_row(row), run=None)
        self._doc = doc
        if not self._backlog:
            found = self._judge(self._agenda.now_ms(), overrun=True)
            self._take_in(found, outcome="overrun")
        await self._uncut(self._save(self._doc))
        if error is not None and self._spec.choices.errors == "raise":
            raise error

    async def _at_the_end(self, stage: _Stage, run: Run, began_s: float) -> None:
        """The term is to end while this is claimed; see rule 5."""
        if await stage.end():
            row = self._row(run, "done", self._env.clock.now() - began_s)
            self._doc = replace(self._doc.with_row(row), run=None)
        elif stage.begun:
            again = self._spec.choices.on_interrupted == "rerun"
            text = "the next holder begins it again" if again else "it is left"
            log.warning(
                "%s: %s was cut short by the end of the term: %s", self._title, run.id, text
            )
            return
        else:
            self._doc = replace(self._doc, run=replace(run, state=PENDING))
        with suppress(LeadershipLost):
            await self._uncut(self._save(self._doc))

    # -- notes ------------------------------------------------------------------------------------

    @property
    def _token(self) -> int:
        return self._env.term.token or 0

    def _row(self, run: Run, outcome: str, took_s: float, text: str = "") -> Row:
        took_ms = round(took_s * 1000)
        return Row(run.id, run.due_ms, run.attempt, run.token, run.begun_ms, took_ms, outcome, text)

    async def _save(self, doc: Document) -> None:
        """Note it, with everything up to the first tick of the backlog as done with."""
        through_ms = self._backlog[0] - 1 if self._backlog else self._judged_ms
        if doc.run is None or doc.run.order:
            through_ms = max(doc.through_ms, through_ms)
        else:
            through_ms = max(doc.through_ms, doc.run.due_ms, through_ms)
        next_ms = self._backlog[0] if self._backlog else self._next_ms()
        barred = tuple(stretch for stretch in doc.barred if stretch[1] > through_ms)
        self._doc = replace(doc, through_ms=through_ms, next_ms=next_ms, barred=barred)
        await self._progress.save(self._doc.encode(self._spec.choices.history))

    async def _uncut(self, work: Awaitable[T]) -> T:
        """Await `work` to its end, also if this is cancelled; and only then be cancelled."""
        task = asyncio.ensure_future(work)
        cancelled = False
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                cancelled = True
        if cancelled and task.exception() is None:
            raise asyncio.CancelledError
        return task.result()


class _Stage:
    """One call of the user's function, and how far it came.

    The lock is for threads: either the function has begun, or it never does.
    """

    def __init__(self, env: Env, spec: Spec) -> None:
        self._env = env
        self._spec = spec
        self._call: asyncio.Future[Any] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.begun = False

    def begin(self, tick: Tick) -> asyncio.Future[Any]:
        """Have it called."""
        body: Callable[[Tick], Any] = self._awaited if self._spec.awaited else self._called
        self._call = asyncio.ensure_future(self._env.call(body, tick))
        return self._call

    def outcome(self, call: asyncio.Future[Any]) -> Exception | None:
        """Return what it raised.

        Raises:
            LeadershipLost, StaleToken: these end the term.
            CancelledError: the term is to end, and it has not begun.
        """
        if call.cancelled():
            return RuntimeError("it was cancelled, and not by incumbent")
        error = call.exception()
        if isinstance(error, _NotBegun):
            raise asyncio.CancelledError
        if error is None:
            return None
        if isinstance(error, LeadershipLost | StaleToken) or not isinstance(error, Exception):
            raise error
        return error

    async def end(self) -> bool:
        """The term is to end: wait for the call, and tell whether it has returned as it should."""
        with self._lock:
            self._closed = True
        if self._call is None:
            return False
        if self._spec.awaited or not self.begun:
            self._call.cancel()
        while not self._call.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._call])
        return not self._call.cancelled() and self._call.exception() is None

    def _called(self, tick: Tick) -> Any:
        self._enter()
        return self._spec.func(*self._spec.arguments(tick))

    async def _awaited(self, tick: Tick) -> Any:
        self._enter()
        return await self._spec.func(*self._spec.arguments(tick))

    def _enter(self) -> None:
        with self._lock:
            if self._closed or self._env.term.ended:
                raise _NotBegun
            self.begun = True


def _theirs(error: Exception) -> tuple[type[Exception], Exception, TracebackType | None]:
    """Return it for a log, with its traceback from the first frame on that is not ours."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.tb_next
    return type(error), error, frame or error.__traceback__


def _said(error: Exception | None) -> str:
    if error is None or isinstance(error, RunFailed):
        return str(error or "")
    return said(error)
