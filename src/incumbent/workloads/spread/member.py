"""One replica of a spread: a candidate in every election, and in the turn when it wants to ask.

Everything here runs on the keeper's event loop, but what is said to be callable from any thread.
Users' work is run by a face, which is told when to begin and when to stop, and says what came of it
(`Seat.ended`).

What becomes of a term when its work ends, in both faces:

| the work                                    | then                                             |
| returned, and its term goes on              | it is done: this replica leaves that election    |
| ended because its term did                  | the replica goes on as a candidate               |
| raised an exception                         | logged; the term is given up, and this replica   |
|                                             | contends again after a pause, doubled each time  |
| raised what is no `Exception`, `SystemExit` | the replica leaves all, and `run()` raises it    |
| say, or was no work at all (`Misuse`)       |                                                  |

A work that fails wherever it runs must not end one replica after the other: that is why an
exception ends a term and nothing else.

What becomes of an election that is away from its home, which is here:

| it went away because                        | then it is asked home                            |
|---------------------------------------------|--------------------------------------------------|
| we were gone, or lost it                    | as soon as we have the turn                      |
| we were asked to hand it over               | after a pause, doubled each time: two replicas   |
|                                             | may each take themselves for the home            |
| the work failed here                        | not at all, while another holds it: it may be    |
|                                             | well there, and each try would interrupt it      |

It counts from the last time that it was held here. What has no holder is taken all the same.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from incumbent.clock import boottime
from incumbent.core.events import Why
from incumbent.core.records import Holding, Snapshot, StepDownRequest, same_candidate
from incumbent.errors import LeadershipLost, StoreError
from incumbent.runtime.candidacy import Candidacy, Observer
from incumbent.runtime.driver import Driver, TermFactory
from incumbent.runtime.keeper import Keeper
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.workloads.spread.balance import Place, Rules, View
from incumbent.workloads.spread.gate import HOLD_BACK_S, Gate
from incumbent.workloads.spread.pauses import Pauses

__all__ = ["Member", "Misuse", "Runner", "Seat"]

logger = logging.getLogger("incumbent")

SETTLE_S = 0.1
"""From winning the turn to asking: what was moved in the turn before is heard of by then."""
THINK_S = 0.05
"""How soon after a change the loads are looked at: a thousand changes are looked at once."""
LESS_PAUSES = 4
"""For how many pauses more nothing must have changed before somebody asks who sees one with less
than it has itself. That one may not want more; else it is its turn first."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Before an election whose work failed here is contended for again. A term that lasts as long as
the longest pause makes the next one short again."""
FIRST_ABSENCE_S = 1.0
LONGEST_ABSENCE_S = 3600.0
"""Before an election that was asked away from here is asked home. No long term makes it short:
where two replicas ask one another, the terms are as long as this."""


class Misuse(TypeError):
    """What was given as the work can be run nowhere."""


class Runner(Protocol):
    """What runs the work: a face. Called on the keeper's loop; never blocks."""

    def begin(self, seat: Seat, term: Term) -> None:
        """Start the work of a term; `Seat.ended` tells what came of it."""
        ...

    def stop(self, seat: Seat, term: Term) -> None:
        """Have the work of a term stop; `term.lost` is set already."""
        ...

    def gone(self, error: BaseException | None) -> None:
        """Hear that this replica is a candidate for nothing any more."""
        ...


class Member:
    """One replica.

    Args:
        settings: of the election that is the turn; the others are alike, but for their names.
        names: the elections.
        rules: what the user wants.
        runner: runs the work.
        term_factory: makes the face's kind of term.
        pause_s: how long this replica waits at least before it asks for one more.
        observer: the user's.
        chance: a number from 0 to 1, so that replicas do not act in step.
    """

    def __init__(
        self,
        settings: Settings,
        names: Collection[str],
        rules: Rules,
        runner: Runner,
        term_factory: TermFactory,
        *,
        pause_s: float,
        observer: Observer | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.identity = ""
        self._settings = settings
        self._rules = rules
        self._runner = runner
        self._term_factory = term_factory
        self._pause_s = pause_s
        self._observer = observer
        self._chance = chance
        self._names = dict.fromkeys(names)
        self._seats: dict[str, Seat] = {}
        self._places: dict[str, Place] = {}
        self._view: View | None = None
        self._unseen: set[str] = set()
        self._seen_by = math.inf
        self._changes = 0
        self._changes_before = 0
        self._taking: set[str] = set()
        self._held: dict[str, Term] = {}
        self._failing = Pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._unwilling: set[str] = set()
        self._absences = Pauses(FIRST_ABSENCE_S, LONGEST_ABSENCE_S)
        self._left_away: dict[str, asyncio.TimerHandle | None] = {}
        self._gate: Gate | None = None
        self._turn: _Turn | None = None
        self._asked: tuple[str, str] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._leaving = False
        self._error: BaseException | None = None
        self._keeper = Keeper.current()

    # -- from any thread --------------------------------------------------------------------------

    def start(self) -> None:
        """Become a candidate in every election, unless `leave` was said already."""
        self._later(self._start)

    def leave(self, error: BaseException | None = None) -> None:
        """Stop all work, give everything up, and be no candidate any more; `Runner.gone` follows.

        Args:
            error: why, if there is a reason that shall be raised.
        """
        self._later(self._leave, error)

    def update(self, names: Collection[str]) -> None:
        """Be a candidate in these elections and in no others."""
        self._later(self._update, dict.fromkeys(names))

    @property
    def held(self) -> list[str]:
        """The elections whose work is done here, for tools beside it."""
        return sorted(self._held.copy())

    def _later(self, call: Callable[..., None], *values: Any) -> None:
        if self._keeper.here:
            self._keeper.loop.call_soon_threadsafe(call, *values)

    # -- candidates -------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._leaving:
            return
        self._gate = Gate(
            rank=self._rank,
            late=self._late,
            may=self._may_take,
            went=self._taking.add,
            limit_s=min(HOLD_BACK_S, self._settings.timing.attempt_s / 2),
        )
        self._seen_by = boottime() + self._settings.timing.ttl_s
        self._enter(self._names)

    def _enter(self, names: Collection[str]) -> None:
        for name in names:
            seat = Seat(self, replace(self._settings, name=name), self._observer)
            self._seats[name] = seat
            self._places[name] = Place()
            self._view = None
            self._unseen.add(name)
            seat.enter()

    def _update(self, names: dict[str, None]) -> None:
        if self._leaving:
            return
        self._names = names
        for name in [name for name in self._seats if name not in names]:
            self._seats[name].close()
        self._enter([name for name in names if name not in self._seats])

    def _leave(self, error: BaseException | None) -> None:
        self._error = self._error or error
        if self._leaving:
            return
        self._leaving = True
        for alarm in (self._alarm, self._deadline):
            if alarm is not None:
                alarm.cancel()
        if self._turn is not None:
            self._turn.leave()
        for seat in self._seats.values():
            seat.close()
        if self._gate is not None:
            # The seats' own closing is on its way to the loop: what they gave up stands no more.
            asyncio.get_running_loop().call_soon(self._gate.close)
        self._go()

    def closed(self, seat: Seat, error: BaseException | None) -> None:
        """Hear that a seat is no candidate any more."""
        name = seat.settings.name
        if self._seats.get(name) is seat:
            del self._seats[name]
            del self._places[name]
            self._view = None
            self._unseen.discard(name)
            self._taking.discard(name)
        if error is not None:
            self._leave(error)
        elif not self._leaving and name in self._names and not seat.finished:
            self._enter([name])  # It was given up, and then wanted again, before that was done.
        else:
            self._names.pop(name, None)
        self._go()
        self.reconsider()

    def _go(self) -> None:
        """Tell that all is over, if it is."""
        if not self._seats and not self._names:
            self._leaving = True
        if self._leaving and not self._seats and self._turn is None:
            runner, self._runner = self._runner, _Gone()
            runner.gone(self._error)

    # -- what is seen -----------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """What is known now; counted once after each change, as a thousand may ask for it."""
        if self._view is None:
            self._view = View(
                self.identity, self._places, self._rules, self._unwilling, self._left_away
            )
        return self._view

    def knows(self, identity: str) -> None:
        """Hear who we are: the same in every election of this process."""
        self.identity = identity
        self._view = None

    def saw(self, name: str, place: Place) -> None:
        """Take in where an election is."""
        self._taking.discard(name)
        if name not in self._places:
            return
        news = self._places[name] != place or name in self._unseen
        self._unseen.discard(name)
        self._places[name] = place
        if news:
            self._changes += 1
            self._view = None
            self._conclude()
            self.reconsider()

    def began(self, seat: Seat, term: Term) -> None:
        """Begin the work of a term."""
        name = seat.settings.name
        self._held[name] = term
        self._let_home(name)
        self.saw(name, Place(self.identity, term.id))
        self._runner.begin(seat, term)

    def stops(self, seat: Seat, term: Term, why: Why) -> None:
        """Have it stop."""
        name = seat.settings.name
        if why is Why.STEP_DOWN:
            loop = asyncio.get_running_loop()
            absence_s = self._absences.next(name)
            self._leave_away(name, loop.call_later(absence_s, self._homesick, name))
        self.saw(name, Place(self.identity, term.id, leaving=True))
        self._runner.stop(seat, term)

    def ended(self, name: str, term: Term) -> None:
        """Take note that no work of a term goes on."""
        if self._held.get(name) is term:
            del self._held[name]

    def failed(self, name: str, lasted_s: float) -> None:
        """Contend for it no more for a while."""
        pause_s = self._failing.next(name, anew=lasted_s >= LONGEST_PAUSE_S)
        self._leave_away(name, None)
        self._unwilling.add(name)
        asyncio.get_running_loop().call_later(pause_s, self._willing, name)

    def _willing(self, name: str) -> None:
        self._unwilling.discard(name)
        self.reconsider()

    def _leave_away(self, name: str, until: asyncio.TimerHandle | None) -> None:
        """Do not ask it home: until that, or until it was held here again."""
        self._let_home(name)
        self._left_away[name] = until

    def _let_home(self, name: str) -> None:
        before = self._left_away.pop(name, None)
        if before is not None:
            before.cancel()

    def _homesick(self, name: str) -> None:
        self._let_home(name)
        self.reconsider()

    # -- what is taken ----------------------------------------------------------------------------

    async def hold_back(self, name: str, over: Snapshot | None, stands: Callable[[], bool]) -> bool:
        """Wait until an election may be taken; see `gate`. What is meant for us waits for nobody.

        That it was asked for was decided under the turn, with `at_most` in view.
        """
        self._taking.discard(name)
        meant = over is not None and over.successor
        if self._gate is None or self._leaving:
            return stands()
        if meant and same_candidate(meant, self.identity) and name not in self._unwilling:
            return True
        to_the_last = self.view.leaves_to_home(name)
        return await self._gate.hold_back(name, stands, to_the_last=to_the_last)

    def _rank(self, name: str) -> Any:
        return self.view.rank(name)

    def _late(self) -> int:
        return self.view.excess

    def _may_take(self, name: str) -> bool:
        if name in self._unwilling:
            return False
        at_most = self._rules.at_most
        # What is being handed over is no load of ours any more, and its work may go on yet.
        have = max(self.view.load, len(self._held)) if at_most is not None else 0
        return at_most is None or have + len(self._taking) < at_most

    # -- what is moved ----------------------------------------------------------------------------

    def reconsider(self) -> None:
        """Look at the loads soon, and contend for the turn if they are uneven."""
        if self._alarm is None and self._turn is None and not self._leaving:
            self._alarm = asyncio.get_running_loop().call_later(THINK_S, self._think)

    def _think(self) -> None:
        self._alarm = None
        if self._unseen and (wait_s := self._seen_by - boottime()) > 0:
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._think)
            return
        view = self.view
        if view.next_move() is not None:
            wait_s = self._pause_s * (1 + 2 * view.patience() + self._chance() / 2)
            if view.somebody_has_less:
                wait_s += LESS_PAUSES * self._pause_s
            self._changes_before = self._changes
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._want)

    def _want(self) -> None:
        self._alarm = None
        if self.view.somebody_has_less and self._changes != self._changes_before:
            self._think()  # Whoever has less is at it, it seems.
        elif self.view.next_move() is not None:
            self._turn = _Turn(self, self._settings)
            self._turn.enter()

    def has_turn(self) -> None:
        """Ask soon for what should be moved."""
        self._deadline = asyncio.get_running_loop().call_later(SETTLE_S, self._ask)

    def _ask(self) -> None:
        self._deadline = None
        name = self.view.next_move()
        if name is None:
            self.end_turn()
            return
        place, seat = self._places[name], self._seats[name]
        self._asked = name, place.term
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._settings.timing.ttl_s, self.end_turn)
        self._asking = loop.create_task(self._request(seat, place))

    async def _request(self, seat: Seat, place: Place) -> None:
        try:
            await seat.ask(place.term, self.identity)
            seat.tell(f"asked {place.holder!r} to hand {seat.settings.name!r} over to us")
        except (StoreError, TimeoutError) as error:
            # Refused: it is held by another by now. Unknown: we shall see, or not.
            logger.debug("%r was not asked for: %s", seat.settings.name, error)
            self.end_turn()

    def _conclude(self) -> None:
        """Give the turn back when what was asked for has come, or has gone elsewhere."""
        if self._asked is None:
            return
        name, term = self._asked
        place = self._places.get(name)
        if place is None or (place.holder and place.term != term):
            self.end_turn()

    def end_turn(self) -> None:
        """Give the turn back."""
        self._asked = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._turn is not None:
            self._turn.leave()

    def turn_over(self) -> None:
        """Hear that we are no candidate for the turn any more."""
        self._turn = None
        self._go()
        self.reconsider()


class Seat(Candidacy):
    """This replica's candidate in one election.

    Attributes:
        finished: whether its work is done, so that the candidate leaves.
    """

    def __init__(self, member: Member, settings: Settings, observer: Observer | None) -> None:
        super().__init__(settings, observer, member._term_factory)
        self.finished = False
        self._member = member
        self._began_s = 0.0

    def ended(self, term: Term, error: BaseException | None) -> None:
        """Say what came of the work, all of which has ended. From any thread."""
        if not self.here:
            return
        name, over = self.settings.name, self.is_over(term)
        self._on_loop(lambda: self._member.ended(name, term))
        if error is None and not over:
            self.finished = True
            self.leave()
            return
        if isinstance(error, Misuse) or not isinstance(error, Exception | None):
            self._member.leave(error)
        elif error is not None and not (isinstance(error, LeadershipLost) and over):
            logger.error("the work of %r failed; it is given up here", name, exc_info=error)
            self._on_loop(lambda: self._member.failed(name, boottime() - self._began_s))
        self.work_ended(term)

    async def ask(self, term: str, to: str) -> None:
        """Ask whoever holds the election under `term` to hand over to us.

        Raises:
            StoreError: it was not asked, or nobody knows.
        """
        if self._driver is not None:
            await self._driver.ask(StepDownRequest(term, to))

    def tell(self, text: str) -> None:
        """Tell the log, and the user's observer, that something is moved."""
        self._report("rebalance", None, text)

    def seated(self, driver: Driver) -> None:
        """Take the driver, and have its takes held back."""
        super().seated(driver)
        self._member.knows(driver.identity)
        driver.hold_back = partial(self._hold_back, driver)

    async def _hold_back(self, driver: Driver, stands: Callable[[], bool]) -> bool:
        return await self._member.hold_back(self.settings.name, driver.watched, stands)

    def on_elected(self, term: Term) -> None:
        """Have the work begun."""
        self._began_s = boottime()
        self._member.began(self, term)

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Have the work stop."""
        self._member.stops(self, term, why)

    def on_waiting(self, snapshot: Snapshot | None, until: float) -> None:
        """Take in who holds."""
        self._member.saw(self.settings.name, _place(snapshot))

    def on_closed(self, error: BaseException | None) -> None:
        """Be a seat no more."""
        self._member.closed(self, error)


class _Turn(Candidacy):
    """This replica's candidate for the turn. No work is done under it but to ask once.

    If it is lost meanwhile, another may ask at the same time: that costs a move at most.
    """

    def __init__(self, member: Member, settings: Settings) -> None:
        super().__init__(replace(settings, armed=False))
        self._member = member

    def on_elected(self, term: Term) -> None:
        """Ask soon."""
        self._member.has_turn()

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Ask no more."""
        self._member.end_turn()

    def on_closed(self, error: BaseException | None) -> None:
        """Have no turn."""
        self._member.turn_over()


class _Gone:
    """What runs the work of a replica that has gone: nothing is to be run any more."""

    def begin(self, seat: Seat, term: Term) -> None:
        """Hear of no term."""

    def stop(self, seat: Seat, term: Term) -> None:
        """Hear of no end."""

    def gone(self, error: BaseException | None) -> None:
        """Have told it already."""


def _place(snapshot: Snapshot | None) -> Place:
    """Return where an election is, according to a record; None if another candidate is first."""
    if snapshot is None:
        return Place()
    match snapshot.holding:
        case Holding.HELD:
            request = snapshot.request
            asked = request is not None and request.term == snapshot.term
            to = request.to if request is not None and asked else ""
            return Place(snapshot.holder, snapshot.term, leaving=asked, to=to)
        case Holding.VACANT if snapshot.successor:
            return Place(leaving=True, to=snapshot.successor)
        case _:
            return Place()
