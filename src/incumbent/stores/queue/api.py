"""What the driver of a server must do, so that `QueueStore` makes elections of its queues.

Words
-----
A *lock* is the queue of one election, under the name that it has in the other library's world. A
*node* is what one contender has in it. The *first* node holds. The *note* is a key of our own
beside the queue, which no member of theirs reads.

Rules
-----
1. **The order is theirs.** `look` sorts as the partner does, and `join` makes a node that the
   partner sorts at the end. So who was first once is first until its node is gone.
2. **A node is written once.** The partner may watch it for its deletion only, once, and be deaf
   for ever after another event (Curator's LeaderLatch is).
3. **`prove` is a quorum's word and a promise of the server's.** When it returns, a majority has
   confirmed, in a write, that the node was there after the call began; and whoever leads the
   servers, now or later, keeps its session for at least `ttl_s` counted from the call. Each driver
   argues why. Whatever keeps a session alive in the background confirms nothing.
4. **A node is found by its tag**, which only this contender knows: after an unknown outcome too. If
   a join whose answer was lost makes a second one, the next search removes the later. And after a
   leave of a tag has returned, no join of it has an effect any more, however late it arrives.
5. `Line.serial` never falls, and is greater after each change of the queue or the note: an older
   look has a lower one. `Node.created` is the number of the write that made the node: it grows over
   deletion of everything, and is the fencing token.
6. **Say what you know**: see `stores.api`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from incumbent.errors import StoreError
from incumbent.stores.api import Finding

__all__ = ["Gone", "Line", "Node", "Queue", "Sink"]


class Gone(StoreError):
    """The node is not there any more; a majority says so."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a contender has in the queue.

    Attributes:
        key: where it is.
        created: the number of the write that made it.
        value: what its owner wrote into it.
    """

    key: str
    created: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A queue as it is.

    Attributes:
        first: who holds; None if nobody stands there.
        serial: see rule 5.
        note: our own key beside it; b"" if there is none.
        mark: of an empty queue: stays the same for as long as nobody came and went.
    """

    first: Node | None
    serial: int
    note: bytes = b""
    mark: Hashable = None


Sink = Callable[[Line], None]
"""Receives what `follow` has to say, on the keeper's event loop. It never blocks or raises."""


class Queue(Protocol):
    """One server, or one cluster of them. All methods are cancelled when their time is up."""

    async def open(self, *, create: bool) -> None:
        """Connect, and create what must exist; raises what `Store.open` does."""
        ...

    async def close(self, *, leave: bool) -> None:
        """Give back every resource; the sessions end at once only if `leave`."""
        ...

    async def connect(self) -> None:
        """Have a connection ready."""
        ...

    async def look(self, lock: str, name: str) -> Line:
        """Return the queue as it is, by a linearizable read."""
        ...

    async def join(self, lock: str, name: str, tag: str, value: bytes, ttl_s: float) -> Node:
        """Return the node with this tag; it is made at the end of the queue if there is none.

        Raises:
            OutcomeUnknown: it may have been made.
            StoreUnavailable: it was not.
        """
        ...

    async def find(self, lock: str, tag: str, ttl_s: float) -> Node | None:
        """Return the node with this tag, if there is one."""
        ...

    async def prove(self, lock: str, node: Node, ttl_s: float) -> None:
        """Have a majority confirm the node, and its session for `ttl_s`; see rule 3.

        Raises:
            Gone: it is not there any more.
            StoreUnavailable, OutcomeUnknown: try again.
        """
        ...

    async def leave(self, lock: str, tag: str, ttl_s: float) -> None:
        """Remove whatever has this tag from the queue, and whatever ever will; see rule 4.

        Nothing there is no error, and nobody joins under this tag again.

        Raises:
            OutcomeUnknown, StoreUnavailable: try again.
        """
        ...

    async def write_note(self, name: str, note: bytes, node: Node) -> None:
        """Write the note, if `node` is still there.

        Raises:
            Gone: it is not.
        """
        ...

    async def names(self) -> list[str]:
        """Return the elections in whose queue one of ours has ever stood."""
        ...

    def follow(self, lock: str, name: str, sink: Sink) -> None:
        """Report the queue now and after each change, until `unfollow`."""
        ...

    def unfollow(self, lock: str) -> None:
        """Report it no more."""
        ...

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here, for `doctor`."""
        ...
