"""The twin of a server of queues, under the production logic for the locks of others.

`incumbent.stores.queue` runs unchanged; what is replaced is the driver, `Queue`. The server is the
reference of `testing.queue`, with sessions that end on a clock of its own: as fast as rho allows in
some histories, a while late in others. It keeps to `queue.api` and promises no more:

- a proof keeps the session for a TTL from the instant at which it was *sent*, and not longer;
- what keeps a session alive in the background may have no effect at all, for as long as it likes;
- a join has no effect any more when a later search or leave of the same contender has had its own;
- what is followed may be reported late, once more, or not before the connection is back.

Members of another library stand in the same queues, from the first of whose nodes on the judge lets
nobody of ours hold. They are no processes: what one of them believes beyond the server's word is
what the store declares that it breaks (`partner_breaks`), and so is what a hand does that removes
our node or ends our session. The robbed may then be trusted for what was left to it, and for
nothing more.

A server that is down ends no session. When it is back, each has its whole TTL again.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from incumbent.core.records import Held, Lease, Snapshot, StepDownRequest
from incumbent.errors import OutcomeUnknown, StoreError, StoreUnavailable
from incumbent.stores.api import Finding, Store
from incumbent.stores.queue import notes
from incumbent.stores.queue.api import Gone, Line, Node, Sink
from incumbent.stores.queue.store import QueueStore
from incumbent.testing.queue import CAPABILITIES, Queues, Standing
from incumbent.testing.simulator.bench import BenchDefaults
from incumbent.testing.simulator.network import Subscription
from incumbent.testing.simulator.process import Process
from incumbent.testing.simulator.world import HostClock

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["QueueBench", "TwinQueue"]

T = TypeVar("T")

_FOREIGN = b"moo"
_THEIRS = b"theirs"
_BEATS_PER_TTL = 3


def _lock(name: str) -> str:
    return f"locks/{name}"


@dataclass(slots=True, eq=False)
class _Session:
    """A session as the server has it.

    Attributes:
        process: whose it is; None for a member of theirs.
        until: when it ends, on the server's clock, unless its owner is heard of before.
    """

    key: str
    process: Process | None
    ttl_s: float
    until: float


@dataclass(slots=True)
class _Known:
    """A session as its owner knows it."""

    key: str
    over: bool = False


class TwinQueue:
    """The server as one process has it. See `incumbent.stores.queue.api.Queue`."""

    def __init__(self, bench: QueueBench, process: Process) -> None:
        self._bench = bench
        self._process = process
        self._sessions: dict[float, _Known] = {}
        self._opening = asyncio.Lock()
        self._keepers: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._proven: set[int] = set()
        self._followed: dict[str, Callable[[], None]] = {}

    async def open(self, *, create: bool) -> None:
        """Do nothing."""

    async def close(self, *, leave: bool) -> None:
        """Do nothing: processes die, and their sessions are left to the server."""

    async def connect(self) -> None:
        """Do nothing: the way is always open."""

    async def look(self, lock: str, name: str) -> Line:
        """Return the queue as it is."""
        return await self._read("read", lambda: self._bench.queues.line(lock, name), name)

    async def join(self, lock: str, name: str, tag: str, value: bytes, ttl_s: float) -> Node:
        """Return our node, which is made if there is none."""
        session, number = await self._session(ttl_s), next(self._numbers)

        def effect() -> Node:
            return self._bench.join(lock, tag, value, session, number)

        return await self._call("take", effect, name)

    async def find(self, lock: str, tag: str, ttl_s: float) -> Node | None:
        """Return our node, if there is one."""
        number = next(self._numbers)

        def effect() -> Node | None:
            self._bench.settle(tag, number)
            return self._bench.queues.tagged(lock, tag)

        return await self._read("read back", effect, tag)

    async def prove(self, lock: str, node: Node, ttl_s: float) -> None:
        """Confirm our node and, from now on, its session."""
        session = self._sessions.get(ttl_s)
        if session is None or session.over:
            raise Gone(f"{node.key}: its session is over")
        sent = self._bench.clock.boot()
        verb = "renew" if node.created in self._proven else "prove"
        await self._call(verb, lambda: self._bench.prove(lock, node, sent), node.key)
        self._proven.add(node.created)

    async def leave(self, lock: str, tag: str, ttl_s: float) -> None:
        """Remove our node."""
        number = next(self._numbers)

        def effect() -> None:
            self._bench.settle(tag, number)
            self._bench.leave(lock, tag)

        await self._call("release", effect, tag)

    async def write_note(self, name: str, note: bytes, node: Node) -> None:
        """Write the note, if a node is there."""
        queues, lock = self._bench.queues, _lock(name)
        await self._call("ask", lambda: queues.write_note(lock, name, note, node), name)

    async def names(self) -> list[str]:
        """Return the elections that have a note."""
        return await self._read("list", lambda: sorted(self._bench.queues.notes), "")

    def follow(self, lock: str, name: str, sink: Sink) -> None:
        """Report the queue now and after each change."""
        self._followed[lock] = self._bench.follow(self._process, lock, name, sink)

    def unfollow(self, lock: str) -> None:
        """Report it no more."""
        self._followed.pop(lock)()

    async def examine(self) -> list[Finding]:
        """Find nothing."""
        return []

    # -- the session ------------------------------------------------------------------------------

    async def _session(self, ttl_s: float) -> str:
        async with self._opening:
            known = self._sessions.get(ttl_s)
            if known is None or known.over:
                bench, process = self._bench, self._process
                key = await self._call("open session", lambda: bench.begin(process, ttl_s), "")
                known = self._sessions[ttl_s] = _Known(key)
                task = process.loop.create_task(self._keep(known, ttl_s))
                self._keepers.add(task)
                task.add_done_callback(self._keepers.discard)
            return known.key

    async def _keep(self, session: _Known, ttl_s: float) -> None:
        bench, every_s = self._bench, ttl_s / _BEATS_PER_TTL
        while not session.over:
            await asyncio.sleep(every_s)
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(every_s):
                    effect = partial(bench.keep, session.key, bench.clock.boot())
                    session.over = not await self._call("keep", effect, "")

    async def _read(self, verb: str, effect: Callable[[], T], about: str) -> T:
        try:
            return await self._call(verb, effect, about)
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error

    async def _call(self, verb: str, effect: Callable[[], T], about: str) -> T:
        return await self._process.link.call(verb, effect, about)


class _TwinStore(QueueStore):
    """The store, which tells the judge of what it gives up."""

    def __init__(self, bench: QueueBench, process: Process) -> None:
        driver = TwinQueue(bench, process)
        super().__init__(driver, "memory://twin", CAPABILITIES, _lock, bench.chance)
        self._process = process

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up a term."""
        self._process.judge.releasing(held.name, held.term)
        return await super().release(held, lease, successor)


class QueueBench(BenchDefaults):
    """What a history needs of such a server."""

    def __init__(self, history: History) -> None:
        rng, self._world = history.rng, history.world
        self.queues = Queues()
        self.clock = HostClock(self._world, history.some_rate(), rng.uniform(1.0, 1e5))
        self._names = history.elections
        self._judge = history.judge
        self._network = history.network
        self._late_s = history.ttl_s * rng.choice((0.0, 0.0, 0.1, 0.5))
        self._deaf = rng.choice((0.0, 0.0, 0.9))
        self._random = random.Random(rng.getrandbits(32))
        self._sessions: dict[str, _Session] = {}
        self._settled: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._following: dict[str, set[Callable[[], None]]] = {}
        self._backup: tuple[Queues, dict[str, _Session]] | None = None
        self._hand = itertools.cycle(
            (self._remove_first, self._end_first, self._remove_any, self._remove_all)
        )
        self._pen = itertools.cycle((self._stand_for_ever, self._write_over_first))
        self._network.on_restart.append(self._begin_anew)

    def chance(self, count: int) -> str:
        """Return random bytes as text."""
        return self._random.randbytes(count).hex()

    # -- sessions ---------------------------------------------------------------------------------

    def begin(self, process: Process | None, ttl_s: float) -> str:
        """Begin a session, and return its key."""
        who = "theirs" if process is None else process.label
        key = f"{who}-{next(self._numbers)}"
        session = _Session(key, process, ttl_s, self.clock.boot() + ttl_s)
        self._sessions[key] = session
        self._plan(session)
        return key

    def keep(self, key: str, sent: float) -> bool:
        """Hear of a session, or miss it; tell whether there is one."""
        session = self._sessions.get(key)
        if session is not None and self._random.random() >= self._deaf:
            session.until = max(session.until, sent + session.ttl_s)
        return session is not None

    def _plan(self, session: _Session) -> None:
        if session.until != math.inf:
            instant = self.clock.true_of_boot(session.until) + self._late_s
            self._world.at(instant, self._due, session)

    def _due(self, session: _Session) -> None:
        if self._sessions.get(session.key) is not session or not self._network.up:
            return
        if self.clock.boot() < session.until - 1e-9:
            self._plan(session)
            return
        self._world.write("server", f"ends session {session.key}")
        for lock, one in self._end(session.key):
            if session.process is not None:
                self._judge.expired(_name(lock), one.node.created)

    def _end(self, key: str) -> list[tuple[str, Standing]]:
        """End a session, and return what went with it."""
        self._sessions.pop(key, None)
        gone = [
            (lock, one)
            for lock in list(self.queues.standing)
            for one in self._remove(lock, lambda one: one.session == key)
        ]
        return gone

    def _begin_anew(self) -> None:
        for session in self._sessions.values():
            session.until = max(session.until, self.clock.boot() + session.ttl_s)
            self._plan(session)

    # -- what is asked of it ----------------------------------------------------------------------

    def settle(self, tag: str, number: int) -> None:
        """Let no earlier join of this contender have an effect from now on."""
        self._settled[tag] = max(self._settled.get(tag, 0), number)

    def join(self, lock: str, tag: str, value: bytes, session: str, number: int) -> Node:
        """Return the node with a tag, which is made if there is none."""
        if number < self._settled.get(tag, 0):
            raise StoreUnavailable("overtaken by a later request")
        if session not in self._sessions:
            raise StoreUnavailable("the session is over")
        node = self.queues.join(lock, _name(lock), tag, value, session)
        self._entitle(lock)
        return node

    def prove(self, lock: str, node: Node, sent: float) -> None:
        """Keep the session of a node that is there."""
        one = self.queues.created(lock, node.created)
        if one is None:
            raise Gone(f"{node.key} is not there any more")
        session = self._sessions[one.session]
        session.until = max(session.until, sent + session.ttl_s)

    def leave(self, lock: str, tag: str) -> None:
        """Remove the node with a tag."""
        for one in self._remove(lock, lambda one: one.tag == tag):
            self._judge.left(_name(lock), one.node.created)

    def _remove(self, lock: str, gone: Callable[[Standing], bool]) -> list[Standing]:
        removed = self.queues.remove(lock, gone)
        self._entitle(lock)
        return removed

    def _entitle(self, lock: str) -> None:
        """Tell the judge which member of theirs the server lets hold, if it is one of theirs."""
        first = self.queues.line(lock, _name(lock)).first
        ours = first is None or self._process_of(lock, first) is not None
        self._judge.theirs(_name(lock), "" if ours or first is None else first.key)

    def _process_of(self, lock: str, node: Node) -> Process | None:
        one = self.queues.created(lock, node.created)
        session = None if one is None else self._sessions.get(one.session)
        return None if session is None else session.process

    def follow(self, process: Process, lock: str, name: str, sink: Sink) -> Callable[[], None]:
        """Tell a process of a queue, until what is returned is called."""
        queues, link = self.queues, process.link
        subscription: Subscription[Line] = Subscription(lambda: self.queues.line(lock, name), sink)
        link.subscriptions.append(subscription)

        def tell() -> None:
            link.notify(subscription, self.queues.line(lock, name))

        end = queues.follow(lock, name, tell)
        following = self._following.setdefault(process.label, set())

        def unfollow() -> None:
            subscription.alive = False
            link.subscriptions.remove(subscription)
            end()
            following.discard(unfollow)

        following.add(unfollow)
        tell()
        return unfollow

    # -- members of theirs ------------------------------------------------------------------------

    def admit(self, name: str, ttl_s: float) -> str:
        """Have a member of theirs stand in a queue, and live; return its session."""
        key = self.begin(None, ttl_s)
        self._sessions[key].until = math.inf
        self.queues.join(_lock(name), name, key, _THEIRS, key)
        self._entitle(_lock(name))
        return key

    def dismiss(self, key: str) -> None:
        """Have a member of theirs end its session, and so leave."""
        self._end(key)

    def silence(self, key: str) -> None:
        """Have a member of theirs die: its session ends some time later."""
        session = self._sessions.get(key)
        if session is not None:
            session.until = self.clock.boot() + session.ttl_s * self._random.random()
            self._plan(session)

    # -- what a history asks for ------------------------------------------------------------------

    async def store(self, process: Process) -> Store:
        """Return the production logic over a twin of the driver."""
        store = _TwinStore(self, process)
        await store.open()
        return store

    def forget(self, process: Process) -> None:
        """Report nothing more to a process that is gone."""
        for unfollow in list(self._following.pop(process.label, ())):
            unfollow()

    def prove_dead(self, process: Process) -> None:
        """Do nothing: no node proves anybody dead."""

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down, by the nonce that others see; nobody can be named."""
        first = self.queues.line(_lock(name), name).first
        found = None if first is None else notes.parse_node(first)
        if first is not None and found is not None:
            request = notes.note_of(StepDownRequest(str(found["term"])))
            self.queues.write_note(_lock(name), name, request, first)

    # -- hands ------------------------------------------------------------------------------------

    def delete(self, name: str) -> None:
        """Remove the first node, all, or any; or end the session of the first."""
        if self.queues.standing.get(_lock(name)):
            next(self._hand)(_lock(name))

    def delete_first(self, name: str) -> None:
        """Remove the first node."""
        if self.queues.standing.get(_lock(name)):
            self._remove_first(_lock(name))

    def _remove_first(self, lock: str) -> None:
        first = self.queues.standing[lock][0]
        self._rob(lock, lambda one: one is first)

    def _remove_any(self, lock: str) -> None:
        some = self._random.choice(self.queues.standing[lock])
        self._rob(lock, lambda one: one is some)

    def _remove_all(self, lock: str) -> None:
        self._rob(lock, lambda one: True)

    def _end_first(self, lock: str) -> None:
        key = self.queues.standing[lock][0].session
        for other in list(self.queues.standing):
            self._rob(other, lambda one: one.session == key)
        self._end(key)

    def _rob(self, lock: str, gone: Callable[[Standing], bool]) -> None:
        """Remove nodes by hand; whoever of ours held by one keeps the trust that it had, at most.

        What was confirmed to it had been sent before.
        """
        for one in self.queues.standing[lock]:
            process = self._process_of(lock, one.node)
            if process is not None and gone(one):
                until = process.clock.boot() + process.host.timing.validity_s
                self._judge.removed(_name(lock), one.node.created, until)
        self._remove(lock, gone)

    def scribble(self, name: str) -> None:
        """Make a node that nothing takes along, or write over the first."""
        next(self._pen)(_lock(name))

    def _stand_for_ever(self, lock: str) -> None:
        self.queues.join(lock, _name(lock), f"moo-{next(self._numbers)}", _FOREIGN, "")
        self._entitle(lock)

    def _write_over_first(self, lock: str) -> None:
        first = self.queues.line(lock, _name(lock)).first
        if first is not None:
            self.queues.write(lock, first.created, _FOREIGN)

    def wipe(self) -> None:
        """Remove what is foreign, their members included."""
        for lock in list(self.queues.standing):
            self._rob(lock, lambda one: one.node.value in (_FOREIGN, _THEIRS))

    def back_up(self) -> None:
        """Keep a copy."""
        self._backup = _copied((self.queues, self._sessions))

    def restore(self) -> bool:
        """Go back to the copy; each session that comes back has its whole TTL."""
        if self._backup is None:
            return False
        queues, sessions = _copied(self._backup)
        self.queues.standing, self.queues.changed = queues.standing, queues.changed
        self.queues.notes, self.queues.revision = queues.notes, queues.revision
        self._sessions = sessions
        for session in sessions.values():
            session.until = self.clock.boot() + session.ttl_s
            self._plan(session)
        for name in self._names:
            self._entitle(_lock(name))
        self.queues.tell_everybody()
        return True


def _name(lock: str) -> str:
    return lock.removeprefix(_lock(""))


def _copied(backup: tuple[Queues, dict[str, _Session]]) -> tuple[Queues, dict[str, _Session]]:
    queues, sessions = backup
    copy = Queues(dict(queues.standing), dict(queues.changed), dict(queues.notes), queues.revision)
    return copy, {key: replace(session) for key, session in sessions.items()}
