"""Moves a live election from one store to another; candidates of both configurations may run.

A candidate knows one store, so two that know different ones exclude each other only if one of the
two stores lets nobody in. A *bar* (`Store.bar`) does that: it is durable, no candidate takes a
record that has one, and it does not end by itself.

The steps, and who may hold after a kill behind each
----------------------------------------------------
                                                              FROM       TO
    begun             looked at both                          its own    as before
    target held       we hold TO, which nobody held           its own    ourselves, until a TTL
    prepared          TO is barred: "comes from FROM"         its own    nobody
    source held       FROM's holder has handed over to us     nobody *   nobody
    source barred     FROM is barred: "moved to TO"           nobody     nobody
    carried **        TO has FROM's checkpoints               nobody     nobody
    source renewed    that bar was written anew               nobody     nobody
    done              TO's bar is lifted                      nobody     its own
    (* our term there lapses after a TTL, and FROM's own go on)
    (** if there are any; see `carrying`)

So at no step may both hold. What has to be true before the first one, and cannot be seen from
here: no candidate of TO is running until "prepared". What is in the stores says where we are, so to
run it again goes on from there, and nothing has to be remembered elsewhere. The bars carry a number
made of FROM, TO and NAME, by which they are known again.

Theory: one of two bars is lifted, and never both
-------------------------------------------------
`open_side` lifts the bar of one side while the other's stands: of TO to finish, of FROM to undo. It
1. reads both, X that it will lift and Y that it will not;
2. writes Y anew, over exactly the version that it read;
3. lifts X, at exactly the version that it read.
Suppose both were lifted, by two runs or by a write of one that arrived late: A lifted X at version
x and B lifted Y at version y. A wrote Y anew between, so either A's write came after B's lifting,
and then it was refused, for Y was no bar any more; or before it, and then y is A's version or a
later one, and B has read y after A wrote. In the same way A has read x after B wrote. But each
reads before it writes: A read before A wrote, before B read, before B wrote, before A read. A
contradiction. The argument needs that a bar is replaced and lifted at exactly its version, and that
each writing has a version of its own; it needs no clock and no message between the two.

Tokens: TO's bar has the token of a term of TO, so every term to come has a greater one. FROM's bar
has that of our own term in FROM, the last one there. FROM is barred only if the first is greater.

Our terms do no work, so nothing has to be ended when they are over, and a bar is written over one
whether it is trusted still or not: if the record names it, nobody else has the election.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from incumbent import aio
from incumbent.cli.carrying import carried, kept
from incumbent.cli.session import REQUEST_S, following, requested, written
from incumbent.clock import boottime
from incumbent.core.events import Evidence
from incumbent.core.records import Bar, Holding, Snapshot, StepDownRequest, check_name
from incumbent.errors import (
    ConfigError,
    IncumbentError,
    LeadershipLost,
    NotElected,
    OutcomeUnknown,
    Refused,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.runtime.candidacy import Sighting
from incumbent.runtime.term import Term
from incumbent.stores import open_store
from incumbent.stores.api import Store, StoreURL
from incumbent.stores.shifted import GREATEST, OPTION, shift_of

__all__ = ["Migration", "Place", "Step"]

_ATTEMPTS = 5
_PAUSE_S = 0.3
_SECRET = ("pass", "secret", "token")
_LEAST_ROOM, _LEAST_SPARE = 10**6, 10**5
_ROOM, _SPARE = 100, 1000
"""The room for what FROM's tokens grow until it is barred: a hundredth of what they are is given,
and a thousandth has to be there. Where they follow a clock, that is half a year, and three weeks.
"""


class Step(Enum):
    """What was done last; see the head of this module."""

    BEGUN = "begun"
    TARGET_HELD = "target held"
    PREPARED = "prepared"
    SOURCE_HELD = "source held"
    SOURCE_BARRED = "source barred"
    CARRIED = "carried"
    RENEWED = "renewed"
    DONE = "done"
    UNDONE = "undone"
    ABANDONED = "abandoned"


class Place(Enum):
    """Where the election is, according to both records."""

    SOURCE = "in FROM"
    """In FROM; TO is as any other election that nobody has prepared."""
    PREPARED = "in FROM, and TO is barred"
    """In FROM; TO is barred."""
    BETWEEN = "between the two, and both are barred"
    """Nowhere: both are barred."""
    TARGET = "in TO"
    """In TO; FROM is barred."""


@dataclass(slots=True)
class Side:
    """One of the two stores."""

    word: str
    url: str
    store: Store
    seen: Snapshot


Say = Callable[[Step, str], None]
Between = Callable[[Step], Awaitable[None]]


async def _nothing(_: Step) -> None:
    """Go on at once."""


class Migration:
    """One election, on its way from `source` to `target`.

    Args:
        source, target: URLs of stores.
        name: the election.
        ttl_s: of our own terms, in seconds; None for the usual one.
        patience_s: how long to wait for FROM's holder to hand over, and for TO.
        allow_absent: go on with an election of which neither store has a record.
        say: is told what was done, and in words what it means.
        between: awaited after each step, before the next one is begun.
        leave_checkpoints: go on although TO keeps none, and FROM's stay where they are.

    Raises:
        ConfigError: the two are one, or an argument is none.
    """

    def __init__(
        self,
        source: str,
        target: str,
        name: str,
        *,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        allow_absent: bool = False,
        say: Say = lambda *_: None,
        between: Between = _nothing,
        leave_checkpoints: bool = False,
    ) -> None:
        check_name(name)
        self._name = name
        if _same_place(source) == _same_place(target):
            raise ConfigError("FROM and TO are the same store: there is nothing to move")
        self.id = _number(source, target, name)
        way_back = _number(target, source, name)
        self.comes = f"comes from {_shown(source)} (migration {self.id})"
        self.moved = f"moved to {_shown(target)} (migration {self.id})"
        self._prepared_by = (self.comes, f"moved to {_shown(source)} (migration {way_back})")
        self._ttl_s = ttl_s
        self._patience_s = patience_s
        self._allow_absent = allow_absent
        self._say = say
        self._between = between
        self._leave_checkpoints = leave_checkpoints
        nothing = Snapshot(name, Holding.ABSENT, None, 0)
        self.source = Side("FROM", source, open_store(source), nothing)
        self.target = Side("TO", target, open_store(target), nothing)

    @property
    def mark(self) -> str:
        """What the identities of our own candidates begin with."""
        return f"migration-{self.id}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Open both stores, and close them in the end. TO is created if there is none.

        Raises:
            StoreError: one cannot be used.
        """
        for side in (self.source, self.target):
            if not side.store.capabilities.bars:
                raise StoreUnusable(
                    f"{side.word}: {side.store.url} cannot bar an election, in this mode: stop all "
                    "candidates of FROM, wait until nobody holds, and start those of TO"
                )
        if self.source.store.capabilities.token and not self.target.store.capabilities.token:
            raise ConfigError(
                "TO gives no fencing tokens, and FROM does: resources would refuse every holder"
            )
        try:
            for side in (self.source, self.target):
                await requested(side.store, side.store.open(create=side is self.target))
            yield
        finally:
            for side in (self.source, self.target):
                await side.store.close()

    # -- what to do -------------------------------------------------------------------------------

    async def place(self) -> Place:
        """Read both records, and return where the election is.

        Raises:
            IncumbentError: one of them is barred by something else, or cannot be understood.
            ConfigError: they are one record, or there is none and that was not allowed.
        """
        for side in (self.source, self.target):
            side.seen = await self._read(side)
        here, there = self.source.seen, self.target.seen
        if here.holding is there.holding is Holding.ABSENT and not self._allow_absent:
            # Most likely a name with a typing error: its bars would move nothing, and who waits for
            # the right one would never be let in.
            raise ConfigError(
                f"neither FROM nor TO has an election {self._name!r}: change NAME to one that "
                "`incumbent status --store FROM` lists, or add --allow-absent if nobody was "
                "elected yet"
            )
        if here.bar is not None and here.bar == there.bar:
            raise ConfigError("FROM and TO are the same record, by two names")
        for side, ours in ((self.source, (self.moved,)), (self.target, self._prepared_by)):
            if side.seen.holding is Holding.FOREIGN and not _is_one_of(side.seen, ours):
                raise IncumbentError(f"{side.word}: {side.seen.describe()}")
        if here.bar is not None:
            return Place.TARGET if there.bar is None else Place.BETWEEN
        return Place.SOURCE if there.bar is None else Place.PREPARED

    async def prepare(self) -> Place:
        """Bar TO, so that candidates can be started there; return where the election is then.

        Raises:
            IncumbentError: somebody holds TO.
            ConfigError: TO's tokens would not be greater than FROM's; it stays barred.
            StoreError: something went wrong; run it again.
        """
        await self._find_room()
        where = await self._prepared()
        if where is Place.PREPARED:
            last = self.source.seen.token or 0
            self._compare_tokens(max(_LEAST_SPARE, last // _SPARE))
        return where

    async def _prepared(self) -> Place:
        where = await self.place()
        await self._did(Step.BEGUN, f"the election is {where.value}")
        if where is Place.SOURCE:
            await self._bar_target()
            where = Place.PREPARED
        return where

    async def run(self) -> None:
        """Do whatever is left to be done.

        Raises:
            NotElected: FROM's holder did not hand over in time; its term goes on.
            IncumbentError, ConfigError, StoreError: see `prepare`.
        """
        await self._find_room()
        where = await self._prepared()
        if where is Place.PREPARED:
            self._compare_tokens()
            await self._bar_source()
            where = await self.place()
        if where is Place.BETWEEN:
            self._compare_tokens()
            await self._carry()
            await self._open_side(self.target, self.source)
            where = await self.place()
        if where is not Place.TARGET:
            raise IncumbentError(f"somebody undoes this: the election is {where.value}; try again")
        self._say(Step.DONE, f"the election is in TO; {self.target.seen.describe()} there")

    async def undo(self) -> None:
        """Have FROM's candidates go on; TO stays barred.

        Raises:
            IncumbentError: it was finished.
            StoreError: something went wrong; run it again.
        """
        where = await self.place()
        if where is Place.BETWEEN:
            await self._open_side(self.source, self.target)
            where = await self.place()
        if where in (Place.TARGET, Place.BETWEEN):
            raise IncumbentError(
                f"the election is {where.value}: it was finished; to go back, migrate TO FROM"
            )
        self._say(Step.UNDONE, f"the election is in FROM; {self.target.seen.describe()} in TO")

    async def abandon(self) -> None:
        """Undo, and lift the bar of TO: whoever is a candidate there leads then, beside FROM's.

        Raises:
            IncumbentError, StoreError: see `undo`.
        """
        await self.undo()
        seen = self.target.seen
        if _is_one_of(seen, (self.comes,)):
            self.target.seen = await self._lift(self.target, seen)
        self._say(Step.ABANDONED, f"{self.target.seen.describe()} in TO")

    # -- steps ------------------------------------------------------------------------------------

    async def _did(self, step: Step, text: str) -> None:
        self._say(step, text)
        await self._between(step)

    async def _bar_target(self) -> None:
        seen = self.target.seen
        if seen.holding is Holding.HELD and not seen.holder.startswith(self.mark):
            raise IncumbentError(
                f"TO: {seen.describe()}: stop its candidates, and start them when it is prepared"
            )
        async with self._holding(self.target, ask=False) as term:
            await self._did(Step.TARGET_HELD, f"TO is ours, with token {term.token}")
            await self._bar_own(self.target, term, self.comes)
        here = self.source.seen = await self._read(self.source)
        if here.bar is not None and here.bar == self.target.seen.bar:
            await self._lift(self.target, self.target.seen)
            raise ConfigError("FROM and TO are the same record, by two names")
        await self._did(Step.PREPARED, "TO is barred: candidates there wait")

    async def _bar_source(self) -> None:
        async with self._holding(self.source, ask=True) as term:
            await self._did(Step.SOURCE_HELD, f"FROM is ours, with token {term.token}")
            self.source.seen = replace(self.source.seen, token=term.token)
            self.target.seen = await self._read(self.target)
            if not _is_one_of(self.target.seen, self._prepared_by):
                raise IncumbentError(f"somebody undoes this: TO: {self.target.seen.describe()}")
            self._compare_tokens()
            await self._bar_own(self.source, term, self.moved)
        await self._did(Step.SOURCE_BARRED, "FROM is barred: nobody holds until TO is open")

    async def _find_room(self) -> None:
        """See that the checkpoints have a place in TO, before anything is changed.

        Raises:
            ConfigError: they have none.
        """
        if self.target.store.capabilities.checkpoints or self._leave_checkpoints:
            return
        parts = [found.part for found in await kept(self.source.store, self._name)]
        if parts:
            raise ConfigError(
                f"TO keeps no checkpoints, in this mode, and FROM has some ({', '.join(parts)}): "
                "the work would begin afresh in TO. Give its work there state=FROM, so that they "
                "stay where they are, and this command --leave-checkpoints"
            )

    async def _carry(self) -> None:
        """Take the checkpoints along; both bars were read before this."""
        here, there = self.source, self.target
        if not there.store.capabilities.checkpoints:
            return
        if here.seen.token is None or there.seen.token is None:
            return  # Without tokens nothing is noted: see `runtime.checkpoints`.
        tokens = here.seen.token, there.seen.token
        parts = await carried(here.store, tokens[0], there.store, tokens[1], self._name)
        if parts:
            await self._did(Step.CARRIED, f"TO has the checkpoints, {', '.join(parts)}")

    async def _bar_own(self, side: Side, term: Term, text: str) -> None:
        """Make of our own term a bar."""
        seen = await self._read(side)
        if seen.holding is not Holding.HELD or seen.term != term.id:
            raise Refused(seen)
        side.seen = await self._write(side, seen, text)

    async def _open_side(self, side: Side, other: Side) -> None:
        """Lift the bar of `side`, and make sure that the other one's stays; see the theory."""
        seen, stays = side.seen, other.seen
        if seen.bar is None or stays.bar is None:
            raise AssertionError("one of two bars is lifted, and both stand")
        other.seen = await self._write(other, stays, stays.bar.text)
        await self._did(Step.RENEWED, f"{other.word} stays barred: its bar was written anew")
        side.seen = await self._lift(side, seen)

    def _compare_tokens(self, spare: int = 0) -> None:
        """See to it that TO's next token is greater than FROM's last one.

        Args:
            spare: by how much: FROM gives out more until it is barred.

        Raises:
            ConfigError: it would not be; the text has the URL that makes it so.
        """
        last, least = self.source.seen.token, self.target.seen.token
        if not self.source.store.capabilities.token or last is None:
            return  # Nothing has seen one, or it is not known yet, and compared when it is.
        if least is None:
            raise ConfigError("TO's bar has no token: undo, and begin again")
        if least > last + spare:
            return
        raw = least - shift_of(dict(StoreURL.parse(self.target.url).options))
        shift = _rounded(last - raw + max(_LEAST_ROOM, last // _ROOM))
        if shift > GREATEST:
            raise ConfigError(f"FROM's tokens have come to {last}: {OPTION}= has no room above")
        raise ConfigError(
            f"TO's tokens go on from {least}, and FROM's have come to {last}, and grow until it is "
            f"barred: give {OPTION}={shift} in the URL of TO, here and to all its candidates: "
            f"{_with_shift(self.target.url, shift)}"
        )

    # -- our own candidates -----------------------------------------------------------------------

    @asynccontextmanager
    async def _holding(self, side: Side, *, ask: bool) -> AsyncIterator[Term]:
        """Be an ordinary candidate of a store until elected; the body is our term.

        Args:
            side: which store.
            ask: ask whoever holds to hand over to us.

        Raises:
            NotElected: not within our patience.
        """
        loop = asyncio.get_running_loop()
        waiting, ended = asyncio.Event(), asyncio.Event()
        elected: asyncio.Future[Term] = loop.create_future()

        def see(sighting: Sighting) -> None:
            if sighting.event == "standby":
                loop.call_soon_threadsafe(waiting.set)

        async def sit() -> None:
            election = aio.Election(
                self._name, store=side.url, ttl_s=self._ttl_s, as_=self.mark, observer=see
            )
            # Our own bar deposes it; a loss before that is noticed by the bar, which is refused.
            with suppress(LeadershipLost):
                async with election.hold(timeout_s=self._patience_s) as term:
                    elected.set_result(term)
                    await ended.wait()

        sitting = asyncio.create_task(sit())
        try:
            asking = asyncio.create_task(self._ask_all(side, waiting)) if ask else None
            try:
                ends: list[asyncio.Future[Any]] = [sitting, elected]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if asking is not None:
                    asking.cancel()
            if not elected.done():
                await sitting  # Raises what went wrong.
                raise NotElected(f"{side.word}: {self._name!r} was not to be had")
            yield elected.result()
        finally:
            ended.set()
            await asyncio.wait([sitting])
            if not sitting.cancelled():
                sitting.exception()

    async def _ask_all(self, side: Side, waiting: asyncio.Event) -> None:
        """Ask each holder in turn to hand over to us, once we stand by."""
        await waiting.wait()
        asked = ""
        async with following(side.store, [self._name]) as queue:
            while True:
                _, seen = await queue.get()
                if isinstance(seen, Evidence) or seen.holding is not Holding.HELD:
                    continue
                if seen.term in ("", asked) or seen.holder.startswith(self.mark):
                    continue
                with suppress(Refused, StoreUnavailable, OutcomeUnknown):
                    await written(
                        side.store,
                        side.store.ask(self._name, StepDownRequest(seen.term, self.mark)),
                    )
                    asked = seen.term

    # -- requests ---------------------------------------------------------------------------------

    async def _read(self, side: Side) -> Snapshot:
        """Read a record; try again where the store does not answer."""
        give_up_s = boottime() + 2 * REQUEST_S
        while True:
            try:
                return await requested(side.store, side.store.read(self._name))
            except StoreUnavailable:
                if boottime() > give_up_s:
                    raise
            await asyncio.sleep(_PAUSE_S)

    async def _write(self, side: Side, over: Snapshot, text: str) -> Snapshot:
        """Bar a record, and return it when it is certain that it happened.

        Every attempt compares the same, so that at most one has an effect, however late.
        """
        bar = Bar(text, secrets.token_hex(12))
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(REQUEST_S):
                    return await side.store.bar(over, bar)
            except Refused as error:
                if error.snapshot.bar != bar:
                    raise
                return error.snapshot
            except (OutcomeUnknown, StoreUnavailable, TimeoutError):
                await asyncio.sleep(_PAUSE_S)
            found = await self._read(side)
            if found.bar == bar:
                return found
        raise OutcomeUnknown(f"{side.word}: it is not known whether it is barred; run this again")

    async def _lift(self, side: Side, over: Snapshot) -> Snapshot:
        """Lift a bar, and return the record when it is certain that this bar is gone."""
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(REQUEST_S):
                    return await side.store.unbar(over)
            except Refused as error:
                if error.snapshot.bar is not None:
                    raise
                return error.snapshot
            except (OutcomeUnknown, StoreUnavailable, TimeoutError):
                await asyncio.sleep(_PAUSE_S)
            found = await self._read(side)
            if found.bar is None:
                return found
        raise OutcomeUnknown(f"{side.word}: it is not known whether it is open; run this again")


# -- names ----------------------------------------------------------------------------------------


def _is_one_of(seen: Snapshot, texts: tuple[str, ...]) -> bool:
    return seen.bar is not None and seen.bar.text in texts


def _same_place(url: str) -> tuple[object, ...]:
    """Return what tells a store from others: not who asks, nor what its tokens are shifted by."""
    parsed = StoreURL.parse(url)
    options = sorted(
        (option, value)
        for option, value in parsed.options.items()
        if option != OPTION and not any(word in option for word in _SECRET)
    )
    return (parsed.scheme, parsed.host, parsed.port, parsed.path, tuple(options))


def _number(source: str, target: str, name: str) -> str:
    """Return the number of a migration: the same whenever it is run again."""
    text = repr((_same_place(source), _same_place(target), name))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shown(url: str) -> str:
    """Return a URL for people, without who asks and without options."""
    parsed = StoreURL.parse(url)
    port = "" if parsed.port is None else f":{parsed.port}"
    return quote(f"{parsed.scheme}://{parsed.host}{port}{parsed.path}", safe="/:,[]@")[:300]


def _rounded(number: int) -> int:
    """Round up to two digits and zeros, which can be read and copied."""
    unit = int("1" + "0" * max(0, len(str(number)) - 2))
    return -(-number // unit) * unit


def _with_shift(url: str, shift: int) -> str:
    """Return the URL with the option, and without what is secret."""
    parts = urlsplit(url)
    options = [(key, value) for key, value in parse_qsl(parts.query) if key != OPTION]
    shown = [(key, "***" if any(w in key for w in _SECRET) else value) for key, value in options]
    query = urlencode([*shown, (OPTION, str(shift))])
    place = parts.netloc.rpartition("@")
    netloc = f"***@{place[2]}" if place[1] else place[2]
    return f"{parts.scheme}://{netloc}{parts.path}?{query}"
