"""Between a face and the keeper: one candidate, as a user's thread or loop sees it.

The keeper calls the methods of `Seat` on its own thread; each is logged here and handed to one of
the `on_...` hooks, which a face overrides to wake its user. Methods without that prefix may be
called from any thread.

Whatever a hook raises is logged and goes no further: the keeper keeps other elections too. That is
said of SystemExit as well: it would end the keeper's loop and not the process, and nobody would be
told any more that a lease was lost.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from incumbent.core.events import Why
from incumbent.core.records import Holding, Snapshot
from incumbent.core.table import State
from incumbent.errors import IncumbentError, PermissionDenied
from incumbent.runtime.driver import Driver, TermFactory
from incumbent.runtime.keeper import Keeper
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.runtime.watchdog import Timer
from incumbent.threads import on_keepers_thread

__all__ = ["Candidacy", "Observer", "Sighting"]

logger = logging.getLogger("incumbent")


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something that happened to a candidate, for whoever observes it.

    Attributes:
        event: "standby", "elected", "stopping", "ended", "stuck", "closed", or the code of a note.
        name: the election.
        identity: this candidate; "" before it has one.
        token: fencing token of the term concerned, if any.
        text: for people.
    """

    event: str
    name: str
    identity: str
    token: int | None
    text: str


Observer = Callable[[Sighting], None]

_LEVELS = {
    "standby": logging.DEBUG,
    "elected": logging.INFO,
    "stopping": logging.INFO,
    "ended": logging.INFO,
    "closed": logging.DEBUG,
    "evidence": logging.INFO,
    "rebalance": logging.INFO,
}


class Candidacy:
    """One candidate. Subclass it and override the hooks; then `start`."""

    def __init__(
        self,
        settings: Settings,
        observer: Observer | None = None,
        term_factory: TermFactory = Term,
        timer: Timer | None = None,
    ) -> None:
        self.settings = settings
        self._observer = observer
        self._term_factory = term_factory
        self._timer = timer
        self._driver: Driver | None = None
        self._keeper: Keeper | None = None
        self._last = ""
        self._standing_by = ""
        self._noted = ""

    # -- from any thread --------------------------------------------------------------------------

    def start(self) -> None:
        """Become a candidate.

        Raises:
            IncumbentError: this is the keeper's own thread, which would wait for itself.
        """
        if on_keepers_thread():
            raise IncumbentError(
                f"{self.settings.name!r}: a callback or an observer cannot wait to be elected; it "
                "runs on the thread that keeps all leases. Do it in a thread of your own"
            )
        self.enter()

    def enter(self) -> None:
        """Become a candidate, for whoever does not wait to be elected: also on the keeper's thread.

        What comes of it is told by the hooks.
        """
        self._keeper = Keeper.current()
        self._keeper.enter(self.settings, self, self._term_factory, self._timer)

    def step_down(self, to: str = "", cause: str = "asked to") -> None:
        """Hand over, if leading."""
        self._call(lambda driver: driver.step_down(to, cause))

    def work_ended(self, term: Term) -> None:
        """Say that all work of `term` has ended: then, and only then, it is released."""
        self._call(lambda driver: driver.work_ended(term))

    def close(self) -> None:
        """Withdraw; `on_closed` tells when it is done."""
        self._on_loop(self._withdraw)

    def leave(self) -> None:
        """Say that no work of this candidate is running, and withdraw, in one step.

        In two, the driver could be elected again in between.
        """
        self._on_loop(lambda: self._withdraw(working=False))

    def give_up(self) -> None:
        """Leave because nobody waits any more; `on_given_up` says why there was no term.

        What is in flight to the store is seen to its end without us: a take that turns out to have
        happened is released at once. Who has a term by now has not waited in vain, and stays.
        """
        self._on_loop(self._give_up)

    def _give_up(self) -> None:
        if self._driver is not None and self._driver.term is not None:
            self._guarded(self.on_given_up, "")
            return
        self._guarded(self.on_given_up, self._why_not())
        self._withdraw(working=False)

    def _withdraw(self, *, working: bool = True) -> None:
        driver = self._driver
        if driver is None:
            if self._keeper is not None:
                self._keeper.withdraw(self)
            return
        if driver.term is not None and not working:
            driver.work_ended(driver.term)
        driver.close()

    def _why_not(self) -> str:
        """Return what has kept this candidate from being elected."""
        name, url = self.settings.name, self.settings.store.url
        if self._driver is None:
            return self._last or f"{name!r}: the store {url} was not opened in time"
        match self._driver.state:
            case State.NEW | State.LOOKING:
                why = f": {self._last}" if self._last else ""
                return f"{name!r}: the store {url} did not answer in time{why}"
            case State.TAKING | State.DOUBT:
                return (
                    f"{name!r}: the store {url} did not say in time whether we are elected; "
                    "if we are, that is released"
                )
            case State.STANDBY if (watched := self._driver.watched) is not None:
                held = watched.holding is Holding.HELD
                why = f"; {self._noted}" if self._noted and not held else ""
                return self._in_words(watched) + why
            case _:
                return self._last or f"{name!r} was not to be had in time"

    def _in_words(self, watched: Snapshot) -> str:
        """Describe what is waited for, and why where that is not plain."""
        vacant = self.settings.store.capabilities.absent_is_vacant and not watched.ttl_s
        if watched.holding is not Holding.ABSENT or vacant:
            return watched.describe()
        wait_s = max(self.settings.timing.ttl_s, watched.ttl_s)
        return (
            f"{watched.describe()} here; waiting one TTL ({wait_s:g} s), because a record could "
            "have been lost under a holder that lives"
        )

    @property
    def denied(self) -> PermissionDenied | None:
        """The missing right because of which there is no term, if that is the reason.

        A candidate that waits tries again, since a right may be granted; whoever stops waiting can
        say by this that it is no matter of time.
        """
        driver = self._driver
        return None if driver is None else driver.denial.reason(driver.watched)

    @property
    def leads(self) -> bool:
        """Whether there is a term, for tools beside the work; over, perhaps, when it is read."""
        return self.term is not None

    @property
    def term(self) -> Term | None:
        """The term that there is, for tools beside the work; over, perhaps, when it is read."""
        driver = self._driver
        return None if driver is None or not self.here else driver.term

    def is_over(self, term: Term) -> bool:
        """Tell whether `term` is to end or is trusted no more, and this process may contend again.

        Whoever wakes up after a pause can ask `check()` before the keeper has noticed anything.
        """
        return self.here and (term.ended or not term.remaining())

    @property
    def here(self) -> bool:
        """Tell whether the candidate is this process's; in a forked child it is the parent's."""
        return self._keeper is not None and self._keeper.here

    def _call(self, what: Callable[[Driver], None]) -> None:
        def on_loop() -> None:
            if self._driver is not None:
                what(self._driver)

        self._on_loop(on_loop)

    def _on_loop(self, what: Callable[[], None]) -> None:
        if self._keeper is not None and self._keeper.here:
            with suppress(RuntimeError):  # The process ends, and the loop was closed just now.
                self._keeper.loop.call_soon_threadsafe(what)

    # -- hooks, on the keeper's thread ------------------------------------------------------------

    def on_elected(self, term: Term) -> None:
        """Start the work."""

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Stop the work."""

    def on_stuck(self, term: Term, cause: str) -> None:
        """Hear that the work did not stop in time."""

    def on_waiting(self, snapshot: Snapshot | None, until: float) -> None:
        """Hear that somebody else holds; None if it is another candidate of this process."""

    def on_note(self, code: str, text: str) -> None:
        """Hear something that people should know."""

    def on_given_up(self, why: str) -> None:
        """Hear why there was no term until now; "" if there is one, and `give_up` came too late."""

    def on_closed(self, error: BaseException | None) -> None:
        """Hear that this is no candidate any more, or never was one."""

    # -- runtime.keeper.Seat ----------------------------------------------------------------------

    def seated(self, driver: Driver) -> None:
        """Take the driver."""
        self._driver = driver

    def queued(self) -> None:
        """Hear that this process has a candidate already."""
        self._last = f"{self.settings.name!r} has a candidate in this process already"
        self._guarded(self.on_waiting, None, math.inf)

    def failed(self, error: BaseException) -> None:
        """Hear that the store could not be opened."""
        self._guarded(self.on_closed, error)

    def begun(self, term: Term) -> None:
        """Hear of the election's win."""
        self._report("elected", term, f"elected: {term.name!r}, token {term.token}")
        self._guarded(self.on_elected, term)

    def stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Hear that the work must stop."""
        self._report("stopping", term, f"stopping the work of {term.name!r} ({why.value}): {cause}")
        self._guarded(self.on_stop, term, why, cause, deadline)

    def stuck(self, term: Term, cause: str) -> None:
        """Hear that it did not."""
        self._report("stuck", term, f"STUCK: {term.name!r}: {cause}; it is never released")
        self._guarded(self.on_stuck, term, cause)

    def waiting(self, snapshot: Snapshot, until: float) -> None:
        """Hear that somebody else holds."""
        text = self._in_words(snapshot)
        if text != self._standing_by:
            self._standing_by = text
            self._report("standby", None, f"standby: {text}")
        self._last = text if self.denied is None else str(self.denied)
        self._guarded(self.on_waiting, snapshot, until)

    def note(self, code: str, text: str) -> None:
        """Hear something that people should know."""
        self._last = self._noted = text
        self._standing_by = ""  # Told anew: what was noted may be over by then.
        self._report(code, None, text)
        self._guarded(self.on_note, code, text)

    def closed(self) -> None:
        """Hear that this is no candidate any more."""
        self._report("closed", None, f"no candidate for {self.settings.name!r} any more")
        self._guarded(self.on_closed, None)

    def _report(self, event: str, term: Term | None, text: str) -> None:
        told = {"observed": self._observer is not None}
        logger.log(_LEVELS.get(event, logging.WARNING), "%s", text, extra=told)
        if self._observer is not None:
            identity = self._driver.identity if self._driver is not None else ""
            token = term.token if term is not None else None
            sighting = Sighting(event, self.settings.name, identity, token, text)
            self._guarded(self._observer, sighting)

    def _guarded(self, hook: Callable[..., None], *values: Any) -> None:
        try:
            hook(*values)
        except BaseException:
            logger.exception("a hook of %r raised", self.settings.name)
