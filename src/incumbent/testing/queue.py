"""A server of queues in this process: the reference for drivers, and for the logic above them.

No clock is in here: a session ends when somebody says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from incumbent.stores.api import Capabilities, Finding, Grade
from incumbent.stores.queue.api import Gone, Line, Node, Sink
from incumbent.stores.queue.notes import EMPTY

__all__ = ["CAPABILITIES", "MemoryQueue", "Queues", "Standing"]

CAPABILITIES = Capabilities(
    scheme="memory",
    sessions=False,
    token=True,
    judged_by="server",
    confirmed_by="a look at the node",
    wakes_by="a call",
    evidence="",
    absent_is_vacant=True,
    whole_seconds=False,
    one_host=True,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="all candidates live in this process",
    survives=frozenset(),
    one_process=True,
    unseen_ttls=0.0,
    takeover_trips=3,
    bars=False,
    checkpoints=False,
    renews=True,
    queue=True,
    label_names=False,
    reads=True,
    partner="members of nobody's",
    partner_breaks="may remove our node, or end our session",
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A node, and what the server knows of it.

    Attributes:
        node: what a contender has in the queue.
        tag: by which its owner finds it.
        session: which takes it along when it ends; "" for a node that nothing takes along.
    """

    node: Node
    tag: str
    session: str


@dataclass(frozen=True, slots=True)
class _Follower:
    lock: str
    name: str
    tell: Callable[[], None]


@dataclass
class Queues:
    """What the drivers of several candidates share.

    Attributes:
        standing: who stands in which queue, in order.
        changed: the number of the last change of each queue.
        notes: the notes, each with the number of the write that left it.
        revision: the number of the last change of anything.
    """

    standing: dict[str, tuple[Standing, ...]] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    notes: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    revision: int = 0
    _followers: list[_Follower] = field(default_factory=list, init=False)

    def line(self, lock: str, name: str) -> Line:
        """Return a queue as it is."""
        note, written = self.notes.get(name, (b"", 0))
        changed = self.changed.get(lock, 0)
        standing = self.standing.get(lock, ())
        first = standing[0].node if standing else None
        return Line(first, max(changed, written), note, None if standing else changed)

    def tagged(self, lock: str, tag: str) -> Node | None:
        """Return the node with a tag."""
        found = (one.node for one in self.standing.get(lock, ()) if one.tag == tag)
        return next(found, None)

    def created(self, lock: str, created: int) -> Standing | None:
        """Return the node that a write has made."""
        found = (one for one in self.standing.get(lock, ()) if one.node.created == created)
        return next(found, None)

    def join(self, lock: str, name: str, tag: str, value: bytes, session: str) -> Node:
        """Return the node with a tag, which is made at the end if there is none."""
        node = self.tagged(lock, tag)
        if node is None:
            self.revision += 1
            self.notes.setdefault(name, (EMPTY, self.revision))
            node = Node(f"{lock}/{session or 'nobody'}-{self.revision}", self.revision, value)
            one = Standing(node, tag, session)
            self._change(lock, (*self.standing.get(lock, ()), one))
        return node

    def remove(self, lock: str, gone: Callable[[Standing], bool]) -> list[Standing]:
        """Remove some nodes of a queue, and return them."""
        removed = [one for one in self.standing.get(lock, ()) if gone(one)]
        if removed:
            self.revision += 1
            self._change(lock, tuple(o for o in self.standing[lock] if o not in removed))
        return removed

    def write(self, lock: str, created: int, value: bytes) -> None:
        """Write over a node, as nobody should."""
        self.revision += 1
        self._change(
            lock,
            tuple(
                Standing(Node(one.node.key, created, value), one.tag, one.session)
                if one.node.created == created
                else one
                for one in self.standing[lock]
            ),
        )

    def write_note(self, lock: str, name: str, note: bytes, node: Node) -> None:
        """Write a note, if a node is there.

        Raises:
            Gone: it is not.
        """
        if self.created(lock, node.created) is None:
            raise Gone(f"{node.key} is not there any more")
        self.revision += 1
        self.notes[name] = note, self.revision
        self._tell(lock)

    def follow(self, lock: str, name: str, tell: Callable[[], None]) -> Callable[[], None]:
        """Tell of each change of a queue or its note; return what ends that."""
        follower = _Follower(lock, name, tell)
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def tell_everybody(self) -> None:
        """Tell all who follow anything."""
        for follower in list(self._followers):
            follower.tell()

    def _change(self, lock: str, standing: tuple[Standing, ...]) -> None:
        self.standing[lock] = standing
        self.changed[lock] = self.revision
        self._tell(lock)

    def _tell(self, lock: str) -> None:
        for follower in list(self._followers):
            if follower.lock == lock:
                follower.tell()


_SESSIONS = itertools.count(1)


class MemoryQueue:
    """A driver of such queues, whose session lasts until it is closed. See `queue.api.Queue`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._session = f"session-{next(_SESSIONS)}"
        self._followed: dict[str, Callable[[], None]] = {}

    async def open(self, *, create: bool) -> None:
        """Do nothing."""

    async def close(self, *, leave: bool) -> None:
        """End the session, if it shall; else it lasts for ever, for there is no clock."""
        for lock in list(self._queues.standing) if leave else ():
            self._queues.remove(lock, lambda one: one.session == self._session)

    async def connect(self) -> None:
        """Do nothing."""

    async def look(self, lock: str, name: str) -> Line:
        """Return a queue as it is."""
        return self._queues.line(lock, name)

    async def join(self, lock: str, name: str, tag: str, value: bytes, ttl_s: float) -> Node:
        """Stand at the end of a queue."""
        return self._queues.join(lock, name, tag, value, self._session)

    async def find(self, lock: str, tag: str, ttl_s: float) -> Node | None:
        """Return the node with a tag."""
        return self._queues.tagged(lock, tag)

    async def prove(self, lock: str, node: Node, ttl_s: float) -> None:
        """Look whether a node is there."""
        if self._queues.created(lock, node.created) is None:
            raise Gone(f"{node.key} is not there any more")

    async def leave(self, lock: str, tag: str, ttl_s: float) -> None:
        """Remove the node with a tag."""
        self._queues.remove(lock, lambda one: one.tag == tag)

    async def write_note(self, name: str, note: bytes, node: Node) -> None:
        """Write a note, if a node is there."""
        self._queues.write_note(node.key.rpartition("/")[0], name, note, node)

    async def names(self) -> list[str]:
        """Return the elections that have a note."""
        return sorted(self._queues.notes)

    def follow(self, lock: str, name: str, sink: Sink) -> None:
        """Report a queue now and after each change."""
        sink(self._queues.line(lock, name))
        self._followed[lock] = self._queues.follow(
            lock, name, lambda: sink(self._queues.line(lock, name))
        )

    def unfollow(self, lock: str) -> None:
        """Report no more."""
        self._followed.pop(lock)()

    async def examine(self) -> list[Finding]:
        """Say the one thing that can be wrong with it."""
        return [Finding("scope", None, "elects among the candidates of this process only")]
