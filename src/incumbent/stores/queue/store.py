"""Elections over any `Queue`: one queue per election, in which theirs and ours stand.

How it holds. A take *joins* the queue. Who is not first is refused, and stays in the queue; when
the nodes before ours are gone, `follow` reports our own node as the first, the elector finds its
own nonce in a record that it does not lead by, which it may take at once, and that take *proves*
the node: a majority confirms that it is there, and the server that its session lasts. Only then a
term begins, and each renewal proves the same again. So the elector, which knows one record that is
compared and swapped, needs to know nothing of queues: what it watches is the first node.

Who judges expiry: the server, since every member of the partner's takes the next place as soon as
it has removed a node. What is left to us is never to trust a term for longer than the server keeps
the node, whatever becomes of its members: see rule 3 of `queue.api`.

Rules
-----
1. **A node that was proven once is never proven for another term.** Its number is the fencing
   token, and the next term must have a greater one: the node is removed, and a new one is made.
2. **What we wrote is found by its tag.** A join of unknown outcome is looked for before another
   node is made, so a process has one node in a queue, or finds and removes a second one.
3. **An empty queue is vacant**, never absent: who held it is gone from it, and the server, who
   alone judges that here, says so. What a deletion by hand breaks is said in `partner_breaks`.
4. **A renewal or release names the node of exactly that term.** Of another term's it touches none.
5. **Whatever place is forgotten is left by its tag**, if its node is gone too: a join of it that
   was not answered may be on its way yet, and what it makes nobody would know of.
6. **A node is given up with its candidate** (`unfollow`), however long it takes until the server
   hears of it: the session goes on for whatever else this process stands in, and what is left
   behind would keep everybody out. A node that only waits is given up at once. One that was held
   and not released is left to a clock, since a term that was lost is not released; and as its
   session goes on, that clock is ours: it is given up when it was not renewed for a TTL, which is
   longer than a term is trusted. At `close` the session ends, and it is left to the server's.
7. **The queue decides who is next**: nobody can be named as the successor.

Nonces. A node is written when its contender joins, and never again (rule 2 of `queue.api`), but
each take has a nonce of its own. The node carries the first; under which the term is held, this
store remembers, and says it to its own candidates in place of the first. Other processes see
the first: a request to step down that names it reaches the same term.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from incumbent.core.events import Seen
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.errors import Refused, StoreError, StoreUnusable
from incumbent.stores.api import Capabilities, Finding, Sink, StoreDefaults
from incumbent.stores.queue import notes
from incumbent.stores.queue.api import Gone, Line, Node, Queue

__all__ = ["QueueStore"]

_LEAVE_S = 5.0
_LEAVE_EVERY_S = 1.0


@dataclass(slots=True)
class _Place:
    """Our contender in one queue.

    Attributes:
        tag: by which its node is found.
        first_term: the nonce in the node.
        term: the nonce under which it is held; "" as long as it waits.
        claimed: the nonce of the last take.
        tries: how often a take found it waiting; what makes each refusal news to the elector.
        renewals: how often the term was renewed.
    """

    tag: str
    first_term: str
    ttl_s: float
    node: Node | None = None
    term: str = ""
    claimed: str = ""
    tries: int = 0
    renewals: int = 0


@dataclass(slots=True)
class _Followed:
    sinks: list[Sink] = field(default_factory=list)
    line: Line | None = None


class QueueStore(StoreDefaults):
    """The elections in the queues of one server or cluster.

    Args:
        driver: the server.
        url: for messages, without secrets.
        capabilities: what the store says of itself.
        lock: returns how the queue of an election is called.
        chance: returns so many random bytes in hexadecimal.
    """

    def __init__(
        self,
        driver: Queue,
        url: str,
        capabilities: Capabilities,
        lock: Callable[[str], str],
        chance: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self.capabilities = capabilities
        self.url = url
        self._driver = driver
        self._lock = lock
        self._chance = chance
        self._places: dict[str, _Place] = {}
        self._followed: dict[str, _Followed] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def open(self, *, create: bool = True) -> None:
        """Connect."""
        self._closing = asyncio.Event()
        await self._driver.open(create=create)

    async def close(self) -> None:
        """Give back every resource."""
        self._closing.set()
        if self._leaving:
            await asyncio.wait(self._leaving)
        held = any(place.term for place in self._places.values())
        self._places.clear()
        await self._driver.close(leave=not held)

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._driver.connect()

    # -- reading ----------------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the queue as it is now."""
        return self._snapshot(name, await self._driver.look(self._lock(name), name))

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out what became of the take of `claim`: what was sent has made a node, or not.

        A proof changes nothing, so one that was not answered is simply made again; the term is
        trusted from the send of the take, which was before.
        """
        place = self._places.get(name)
        if place is None or claim.term not in (place.claimed, place.term):
            return await self.read(name)
        place.node = await self._driver.find(self._lock(name), place.tag, place.ttl_s)
        found = None if place.node is None else notes.parse_node(place.node)
        if found is None or found["term"] != place.first_term:
            place.node = None
            return await self.read(name)
        try:
            return await self._hold(name, place, claim)
        except Refused as error:
            return error.snapshot

    async def elections(self) -> list[Snapshot]:
        """Return every election in whose queue one of ours has stood."""
        return [await self.read(name) for name in await self._driver.names()]

    def _snapshot(self, name: str, line: Line) -> Snapshot:
        first, place = line.first, self._places.get(name)
        if first is None:
            return Snapshot(name, Holding.VACANT, line.mark, line.serial)
        found = notes.parse_node(first)
        term = "" if found is None else str(found["term"])
        request = notes.request_in(line.note)
        if request is not None and (not term or request.term != term):
            request = None
        ttl_s = 0.0 if found is None else float(found["ttl_s"])
        lease_version: object = None
        token: int | None = first.created
        if place is not None and place.node is not None and place.node.created == first.created:
            term = place.term or term
            request = None if request is None else replace(request, term=term)
            lease_version = "held" if place.term else "first"
            if not place.term:
                token = None  # No term has begun by it. The next one will have it.
        elif place is not None:
            # To look again is all that waiting is for: nobody takes a place that is not the first.
            ttl_s, lease_version = place.ttl_s, ("in line", place.tries)
            if term != place.first_term and _same_contender(term, place.first_term):
                # It is being given up, or came back with an older state of the server. A leftover
                # that an elector knows for its own it asks for at once: here in vain, and for ever.
                term = ""
        else:
            ttl_s = 0.0
        return Snapshot(
            name=name,
            holding=Holding.HELD,
            version=first.created,
            serial=line.serial,
            holder=notes.foreign_holder(first) if found is None else str(found["holder"]),
            term=term,
            token=token,
            ttl_s=ttl_s,
            lease_key=first.key,
            lease_version=lease_version,
            request=request,
        )

    # -- taking -----------------------------------------------------------------------------------

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Stand in the queue, and hold if that is its first place.

        `over` is not compared: whoever is not first is refused, and no place but the end is free.
        """
        lock, place = self._lock(name), self._places.get(name)
        if place is not None and place.term:
            # Rule 1. Its work has ended, or the elector would not take.
            await self._driver.leave(lock, place.tag, place.ttl_s)
            self._places.pop(name, None)
            place = None
        if place is None:
            # Before it is sent: whatever comes of it, it is looked for under this tag.
            place = _Place(self._chance(16), claim.term, claim.ttl_s)
            self._places[name] = place
        place.claimed = claim.term
        value = notes.node_of(replace(claim, term=place.first_term))
        place.node = await self._driver.join(lock, name, place.tag, value, place.ttl_s)
        return await self._hold(name, place, claim)

    async def _hold(self, name: str, place: _Place, claim: Claim) -> Held:
        """Hold under `claim`, if our node is the first.

        Raises:
            Refused: it is not.
        """
        lock, node = self._lock(name), place.node
        assert node is not None
        line = await self._driver.look(lock, name)
        if line.first is None or line.first.created != node.created:
            place.tries += 1
            raise Refused(self._snapshot(name, line))
        try:
            await self._driver.prove(lock, node, place.ttl_s)
        except Gone:
            self._give_up(name, place)
            raise Refused(await self.read(name)) from None
        place.term = claim.term
        followed = self._followed.get(name)
        if followed is not None and followed.line is not None and _is_first(node, followed.line):
            # What was reported meanwhile said the node's own nonce: it must not look like news.
            line = max(line, followed.line, key=lambda one: one.serial)
        snapshot = self._snapshot(name, line)
        lease = Lease(claim.term, 0, place.ttl_s, claim.identity, name)
        return Held(name, claim.term, node.created, lease, snapshot)

    async def renew(self, lease: Lease) -> Lease:
        """Prove the node anew."""
        place = self._places.get(lease.name)
        if place is None or place.node is None or place.term != lease.key:
            raise Refused(await self.read(lease.name))
        try:
            await self._driver.prove(self._lock(lease.name), place.node, place.ttl_s)
        except Gone:
            self._give_up(lease.name, place)
            raise Refused(await self.read(lease.name)) from None
        place.renewals += 1
        return lease.at(int(str(lease.version)) + 1)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Leave the queue; rule 7 on successors."""
        place = self._places.get(held.name)
        if place is not None and place.term == held.term:
            await self._driver.leave(self._lock(held.name), place.tag, place.ttl_s)
            self._places.pop(held.name, None)
        return await self.read(held.name)

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down beside the queue."""
        if request.to:
            raise StoreUnusable(
                f"{self.url} is a queue: whoever stands in it next follows, and nobody else can be "
                "named"
            )
        place = self._places.get(name)
        line = await self._driver.look(self._lock(name), name)
        seen = self._snapshot(name, line)
        if line.first is None or not request.term or seen.term != request.term:
            raise Refused(seen)
        term = request.term
        if place is not None and place.term == term:
            term = place.first_term
        try:
            await self._driver.write_note(name, notes.note_of(StepDownRequest(term)), line.first)
        except Gone:
            raise Refused(await self.read(name)) from None
        return await self.read(name)

    # -- following --------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the first of the queue now, and whenever it changes."""
        followed = self._followed.get(name)
        if followed is None:
            followed = self._followed[name] = _Followed([sink])
            self._driver.follow(self._lock(name), name, self._hears(name, followed))
            return
        followed.sinks.append(sink)
        if followed.line is not None:
            sink(Seen(self._snapshot(name, followed.line)))

    def _hears(self, name: str, followed: _Followed) -> Callable[[Line], None]:
        def hear(line: Line) -> None:
            followed.line = line
            snapshot = self._snapshot(name, line)
            for sink in list(followed.sinks):
                sink(Seen(snapshot))

        return hear

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more; who waits in the queue for nobody any more leaves it."""
        followed = self._followed[name]
        followed.sinks.remove(sink)
        if followed.sinks:
            return
        del self._followed[name]
        self._driver.unfollow(self._lock(name))
        place = self._places.get(name)
        if place is not None and place.term:
            self._in_background(self._expire(name, place))
        elif place is not None:
            self._give_up(name, place)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _expire(self, name: str, place: _Place) -> None:
        """Give up a node that was held, when for a TTL nobody has renewed, followed or left it."""
        renewals = -1
        while renewals != place.renewals:
            renewals = place.renewals
            over = await self._closes_within(place.ttl_s)
            if over or name in self._followed or self._places.get(name) is not place:
                return
        self._give_up(name, place)

    def _give_up(self, name: str, place: _Place) -> None:
        """Have no place any more, and remove its node."""
        if self._places.get(name) is place:
            del self._places[name]
        self._in_background(self._remove(self._lock(name), place))

    async def _remove(self, lock: str, place: _Place) -> None:
        """Remove a node; what cannot be removed until `close` goes with its session."""
        while True:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._driver.leave(lock, place.tag, place.ttl_s)
                    return
            if await self._closes_within(_LEAVE_EVERY_S):
                return

    async def _closes_within(self, limit_s: float) -> bool:
        """Wait, and tell whether the store is being closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._closing.wait()
        return self._closing.is_set()

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the server and our rights."""
        return await self._driver.examine()


def _same_contender(term: str, other: str) -> bool:
    """Tell whether two nonces differ in nothing but the number of the attempt."""
    return term.rpartition(".")[0] == other.rpartition(".")[0]


def _is_first(node: Node, line: Line) -> bool:
    return line.first is not None and line.first.created == node.created
