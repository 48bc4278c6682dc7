"""What a source of items has to do for a consumer: the protocol, and its rules.

A source is a broker seen by one term: connected when the term begins, and closed when it ends. It
is written once, with asyncio, and runs on the loop of the workload in either face. It calls no
function of the user's.

Rules
-----
1. **In order.** `regain` and `next` return items in the order in which they are to be handled, and
   what was returned once is not returned again before the source has been opened anew.
2. **What the predecessor had in hand comes first.** `regain` is asked until it returns nothing;
   only then is `next` asked. Whatever was handed to a predecessor, and not said to be done, is
   regained, however it ended: killed, paused, cut off, or in good order.
3. **Not done before `done`.** The broker is told that an item is done in `done` alone, which is
   called when its effect is committed. An item whose `done` was not heard comes again, with the
   same `id`.
4. **An id is for ever.** It is the same at each delivery of an item, and no other item has it.
5. **A position says all.** If the source has positions, the `position` of an item stands for itself
   and everything before it. It is committed with the effect, and `open` is given the last one;
   what lies before that is not returned any more.
6. **Trouble is said, not mended.** What a new connection may mend is `SourceUnavailable`: whoever
   drives the source closes it, opens it and regains. What will not pass (no such queue, no right, a
   position that the broker has deleted) is a `ConfigError` that names what to change. No item is
   ever passed over in silence.
7. **Waits can be cancelled.** Each method may be cancelled while it waits, and nothing is lost by
   it; after that only `close` is called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from incumbent.runtime.term import Term

__all__ = ["Item", "Joining", "Opening", "Source"]


@dataclass(slots=True)
class Item:
    """One item, as the handler gets it.

    Attributes:
        id: unique in its source, and the same whenever it is delivered.
        body: what the producer has sent.
        headers: what the producer has sent beside it.
        position: what is to be committed when it is done, if the source has positions; else "".
        attempt: 1 for the first time that this term hands it to the handler.
        token: the fencing token of the term.
        term: under which it is handled.
        tag: the source's own.
    """

    id: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    position: str = ""
    attempt: int = 1
    token: int | None = None
    term: Term | None = field(default=None, repr=False)
    tag: Any = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The body, as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Return what the body is as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)

    def check(self) -> None:
        """Return if the term may still act now: see `Term.check`. Ask before each outside effect.

        Raises:
            LeadershipLost: the term is over, or can no longer be trusted.
        """
        if self.term is not None:
            self.term.check()


@dataclass(frozen=True, slots=True)
class Opening:
    """What a source is told when it is opened.

    Attributes:
        work: the name of the election; a source uses it wherever something on the broker has to
            have a name that is the same for all replicas.
        term: under which it is opened. `term.remaining()` is, at the beginning of a term, about as
            long as a holder that has gone silent is still trusted.
        position: what was committed last; "" if nothing was, or the source has no positions.
        limit: how many items are asked for at a time, at most. The ids of at least twice as many
            are known, so a broker has not to give out more than that before it hears what is done.
    """

    work: str
    term: Term
    position: str = ""
    limit: int = 100


class Source(Protocol):
    """A broker, seen by one term. See the head of this module.

    Attributes:
        name: what it is, for messages: a URL without secrets.
        positions: whether its items have a position (rule 5).
        remembers: whether the broker knows what is done, once it was told. If it does not, and
            there is no database for the effects, the position is kept beside the election.
    """

    name: str
    positions: bool
    remembers: bool

    async def open(self, opening: Opening) -> None:
        """Connect. It is closed by now, if it was open before.

        Raises:
            SourceUnavailable, ConfigError: see rule 6. So do all others.
        """
        ...

    async def regain(self, limit: int) -> Sequence[Item]:
        """Return, at once, the next items of which a predecessor had heard; none if that is all."""
        ...

    async def next(self, limit: int) -> Sequence[Item]:
        """Wait for new items, and return up to `limit`; it may return none, and is asked again."""
        ...

    async def done(self, items: Sequence[Item]) -> None:
        """Tell the broker that these are done; they are the first ones of what was returned."""
        ...

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Put a copy into the dead letters, and return when the broker has confirmed it.

        It may be there twice then, under one id. `done` is called for the item afterwards.

        Args:
            item: the one that failed.
            place: the name of a queue, stream, topic …; "" for the usual one of this source.
            reason: why, in one line.
        """
        ...

    async def close(self) -> None:
        """Disconnect, whatever the state; raises nothing. The broker gives what is in hand on."""
        ...


@runtime_checkable
class Joining(Protocol):
    """A source that lies in a SQL database, and can be told there what is done.

    If the effects lie in the same database, that is a part of their transaction.
    """

    def join(self, effects: str) -> bool:
        """Tell whether effects at this URL are in the same database; `done` does nothing then."""
        ...

    def taking(self, item: Item) -> tuple[str, dict[str, Any]]:
        """Return a DELETE with a condition, and its values by name, that takes the item out.

        It deletes one row; if it deletes none, the item was done before.
        """
        ...
