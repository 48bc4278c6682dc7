"""What every store does whose elections are rows of a database, whatever the rows say.

`BaseStore` owns the connection, whoever follows, and the one task that looks for them; it has the
verbs that are a statement and a judgement of what is there then. A store of this kind adds what it
takes, renews and releases, how a row is judged, and which news it hears.

Rules
-----
1. Whoever changes an election returns what the change left, read in the same transaction: that is
   a look as well, and is reported.
2. A look that began before something was reported may be from before it. What is older than that
   is not reported; another look decides.
3. The follower never ends: a candidate whose store fell silent would wait for ever. What goes wrong
   is said once, and looked at anew.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from incumbent.core.events import Seen
from incumbent.core.records import Bar, Claim, Held, Holding, Snapshot, StepDownRequest
from incumbent.errors import Refused, StoreError
from incumbent.stores.api import Capabilities, Finding, Sink, StoreDefaults
from incumbent.stores.sql.api import Rows, Server

__all__ = ["LONGEST_PAUSE_S", "LOOKS_PER_TTL", "BaseStore", "CommonStatements", "request_limit_s"]

AT_ONCE = 500
"""How many elections one message looks at."""
LOOK_LIMIT_S = 5.0
LONGEST_PAUSE_S = 5.0
SHORTEST_PAUSE_S = 0.1
LOOKS_PER_TTL = 6
"""Where nothing can be heard; a holder renews about as often."""
UNKNOWN_TTL_S = 6.0
"""Assumed where no record that is followed has said its own yet."""

_log = logging.getLogger("incumbent.stores.sql")


class CommonStatements(Protocol):
    """The statements of one way to keep elections, as far as all ways have the same ones."""

    def look(self, names: Sequence[str]) -> list[str]:
        """Return what looks at these elections; `BaseStore._snapshots` is given the results."""
        ...

    def ask(self, name: str, request: StepDownRequest) -> list[str]:
        """Leave a request with that term. The last result is what is there then."""
        ...

    def bar(self, over: Snapshot, bar: Bar | None) -> tuple[list[str], int]:
        """Bar what is held under a term, or replace exactly one bar; None lifts that.

        The result of that number has a row if `over` was still so; the last one is what is there
        then.
        """
        ...


S = TypeVar("S", bound=CommonStatements)


class BaseStore(StoreDefaults, Generic[S]):
    """The outer shape of a store in SQL.

    Args:
        server: the database.
        statements: what is said to it.
        url: for messages, without secrets.
        capabilities: what the store says of itself.
    """

    def __init__(self, server: Server, statements: S, url: str, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.url = url
        self._server = server
        self._statements = statements
        self._sinks: dict[str, list[Sink]] = {}
        self._known: dict[str, Snapshot] = {}
        self._told_at: dict[str, float] = {}
        self._waker = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._complaint = ""

    # -- what each store adds, besides `open`, `take`, `renew`, `release` and `elections` ----------

    @abstractmethod
    def _snapshots(self, names: Sequence[str], results: list[Rows]) -> list[Snapshot]:
        """Return what the results of `CommonStatements.look` for these elections say."""

    @abstractmethod
    def _held(self, claim: Claim, found: Snapshot) -> Held:
        """Return the term of `claim`, which `found` carries."""

    @abstractmethod
    def _is_older(self, found: Snapshot, known: Snapshot) -> bool:
        """Tell whether `found` may be what `known` was before a change that was told of."""

    def _news(self) -> Iterable[str]:
        """Return what is to be looked at now."""
        return self._sinks

    def _ttls(self) -> Iterable[float]:
        """Return the TTLs by which the pauses between looks are chosen."""
        return (seen.ttl_s for seen in self._known.values() if seen.ttl_s)

    # -- the connection ---------------------------------------------------------------------------

    def _begin_to_follow(self) -> None:
        self._waker = asyncio.Event()
        self._follower = asyncio.get_running_loop().create_task(self._follow_all())

    async def close(self) -> None:
        """Give back every connection."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait([follower])
        await self._server.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._server.connect()

    # -- what is there, and changes of it ---------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        (found,) = self._snapshots([name], await self._server.look(self._statements.look([name])))
        return found

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        found = await self.read(name)
        if found.holding is Holding.HELD and found.term == claim.term:
            return self._held(claim, found)
        return found

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down with a term of ours."""
        _, found = await self._write(name, self._statements.ask(name, request), LOOK_LIMIT_S)
        if found.request != request or found.term != request.term:
            raise Refused(found)
        return found

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes."""
        if over.bar is None and not (over.holding is Holding.HELD and over.term):
            raise Refused(await self.read(over.name))
        return await self._swap_bar(over, bar)

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly this bar."""
        if over.bar is None:
            raise Refused(await self.read(over.name))
        return await self._swap_bar(over, None)

    async def _swap_bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        statements, number = self._statements.bar(over, bar)
        before, found = await self._write(over.name, statements, LOOK_LIMIT_S)
        if not before[number]:
            raise Refused(found)
        return found

    async def _write(
        self, name: str, statements: list[str], limit_s: float, *, urgent: bool = False
    ) -> tuple[list[Rows], Snapshot]:
        """Carry out a transaction, and report what it left; return all results before it, too."""
        began = _now()
        *before, last = await self._server.write(statements, limit_s, urgent=urgent)
        (found,) = self._snapshots([name], [last])
        self._looked(found, began)
        return before, found

    # -- being woken ------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        self._sinks.setdefault(name, []).append(sink)
        if name in self._known:
            sink(Seen(self._known[name]))
        self._want([name])

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        sinks = self._sinks.get(name, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            self._sinks.pop(name, None)
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        self._told_at.pop(name, None)

    def _want(self, names: Iterable[str]) -> None:
        """Have these looked at soon, with whatever else `_news` returns by then."""
        self._waker.set()

    async def _follow_all(self) -> None:
        """Look at what is wanted, and at everything now and then."""
        while True:
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._waker.wait()
            except TimeoutError:
                self._want(self._sinks)
            self._waker.clear()
            await self._look(self._news())

    def _pause_s(self) -> float:
        """Return when to look at everything next."""
        ttl_s = min(self._ttls(), default=UNKNOWN_TTL_S)
        if self._server.listens:
            return max(ttl_s, LONGEST_PAUSE_S)
        return min(max(ttl_s / LOOKS_PER_TTL, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)

    async def _look(self, wanted: Iterable[str], *, urgent: bool = False) -> bool:
        """Look at these, and report them; tell whether all of it was done."""
        names = sorted(wanted)
        parts = [names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE)]
        return all([await self._look_at(part, urgent=urgent) for part in parts])

    async def _look_at(self, names: list[str], *, urgent: bool) -> bool:
        began = _now()
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                results = await self._server.look(self._statements.look(names), urgent=urgent)
        except (StoreError, TimeoutError) as error:
            self._complain(str(error) or "no answer in time")
            return False
        except Exception as error:  # A follower that ends would leave candidates waiting for ever.
            _log.exception("following elections in %s: %r", self.url, error)
            return False
        self._complaint = ""
        for found in self._snapshots(names, results):
            self._looked(found, began)
        return True

    def _looked(self, found: Snapshot, began: float) -> None:
        """Report what was found by a look that began then, unless it is known, or may be old."""
        name = found.name
        known = self._known.get(name)
        if name not in self._sinks or found == known:
            return
        if known is not None and self._told_at[name] > began and self._is_older(found, known):
            self._want([name])  # What was told meanwhile is newer; a later look decides.
            return
        # Looked at later, a lower serial is no old news: somebody took the record away.
        went_back = known is not None and found.serial < known.serial
        self._report(found, fresh=went_back and self._told_at[name] <= began)

    def _report(self, found: Snapshot, *, fresh: bool = False) -> None:
        name = found.name
        self._known[name] = found
        self._told_at[name] = _now()
        for sink in list(self._sinks.get(name, ())):
            sink(Seen(found, fresh=fresh))

    def _complain(self, text: str) -> None:
        if self._complaint != text:
            self._complaint = text
            _log.warning("cannot follow elections in %s: %s", self.url, text)

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the server and our rights."""
        pause = f"standbys look every {self._pause_s():.2g} s at a TTL of {UNKNOWN_TTL_S:g} s"
        findings = await self._server.examine()
        if self._follower is not None and not self._server.listens:
            findings.append(Finding("notification", None, f"there is none: {pause}"))
        return findings


def request_limit_s(ttl_s: float) -> float:
    """Return for how long a server may try what the caller gives a part of a TTL."""
    return max(ttl_s / 2, SHORTEST_PAUSE_S)


def _now() -> float:
    return asyncio.get_running_loop().time()
