"""Queues of keys with leases, as etcd's package `concurrency` keeps them. See `queue.api`.

    recipe=lock, recipe=election     LOCK/<lease in hex>

A Mutex and an Election have the same keys, and differ in the value: a mutex has none, an election's
is the proposal, which who observes it reads. Ours is a record in both. The order is that of
`create_revision`, which is the fencing token; a key is made if it is not there, in a transaction,
and never written again: who observes an election is told of each write of the leader's key.

What proves a key: a transaction that compares its `create_revision` and its lease, and writes a key
of no meaning (`PREFIX/beats/<lease in hex>`, attached to the lease). That the lease lasts says
`lease`.

The tag by which a key is found is its lease together with what is in it. An answer that was lost
makes no second key, since it has the same name; and a place that was given up, and whose key is
removed late, is told by what is in it from one that this process has taken since.

A join that was not answered may still be on its way when its place is given up, and a request that
is late is not known to be over by anything that this client can ask. So each join is under the
condition that `PREFIX/left/<lease in hex>/<tag>` is not there; and who leaves after a join without
an answer writes that key first, attached to the lease, with which it goes.

PREFIX/queues/NAME is the note, and says that one of ours has stood in this queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing, suppress

from incumbent.errors import SessionGone, StoreError, StoreUnavailable
from incumbent.stores.api import Finding
from incumbent.stores.etcd import doctor, wire
from incumbent.stores.etcd.client import Client, Forgotten
from incumbent.stores.etcd.lease import KeptLease
from incumbent.stores.etcd.settings import Settings
from incumbent.stores.etcd.wire import base64_of
from incumbent.stores.queue import Gone, Line, Node
from incumbent.stores.queue.api import Sink
from incumbent.stores.queue.notes import EMPTY

__all__ = ["EtcdQueue"]

_log = logging.getLogger("incumbent.stores.etcd")

SILENCE_S = 20.0
PAUSES_S = (0.05, 0.2, 1.0, 5.0)
REQUEST_LIMIT_S = 5.0
_PAGE = 1000


class EtcdQueue:
    """The queues of one cluster. See `queue.Queue`."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self._prefix = settings.prefix
        self._leases: dict[float, KeptLease] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._values: dict[str, bytes] = {}
        self._unanswered: set[str] = set()

    async def open(self, *, create: bool) -> None:
        """Make sure that etcd answers, knows us and lets us read."""
        await self._client.ask("/v3/kv/range", {"key": base64_of(self._note(""))})

    async def close(self, *, leave: bool) -> None:
        """Give back every resource."""
        tasks = list(self._followed.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        leases, self._leases = list(self._leases.values()), {}
        await asyncio.gather(*(lease.close(leave=leave) for lease in leases))
        await self._client.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._client.connect()

    def _note(self, name: str) -> str:
        return f"{self._prefix}queues/{name}"

    # -- looking ----------------------------------------------------------------------------------

    async def look(self, lock: str, name: str) -> Line:
        """Return the queue and the note, both at one revision, by a linearizable read."""
        first = {
            **wire.range_of(f"{lock}/"),
            "sort_order": "ASCEND",
            "sort_target": "CREATE",
            "limit": "1",
        }
        reads = (first, {"key": base64_of(self._note(name))})
        order = {"success": [{"request_range": read} for read in reads]}
        answer = await self._client.ask("/v3/kv/txn", order)
        found = [response["response_range"].get("kvs", ()) for response in answer["responses"]]
        note = wire.bytes_of(found[1][0].get("value", "")) if found[1] else b""
        node = _node(found[0][0]) if found[0] else None
        return Line(node, wire.revision(answer), note, None if found[0] else "empty")

    async def names(self) -> list[str]:
        """Return the elections that have a note."""
        names: list[str] = []
        start, more = self._note(""), True
        request = {**wire.range_of(start), "limit": str(_PAGE), "keys_only": True}
        while more:
            answer = await self._client.ask("/v3/kv/range", request)
            keys = [wire.bytes_of(kv["key"]).decode() for kv in answer.get("kvs", ())]
            names += [key.removeprefix(start) for key in keys]
            more = bool(answer.get("more")) and bool(keys)
            if more:
                request["key"] = base64_of(f"{keys[-1]}\0")
        return names

    # -- standing in it ---------------------------------------------------------------------------

    async def _lease(self, ttl_s: float) -> KeptLease:
        lease = before = self._leases.get(ttl_s)
        if lease is None or lease.over:
            # At once: two that were kept here for one TTL would leave a key that nobody knows of.
            lease = self._leases[ttl_s] = KeptLease(self._client, ttl_s)
            if before is not None:
                await before.close(leave=False)
        return await lease.granted()

    async def join(self, lock: str, name: str, tag: str, value: bytes, ttl_s: float) -> Node:
        """Return our key, which is made if there is none.

        A key of an earlier place of ours may still be there: its deletion was not answered, or it
        was made late. It says another term, and gives way: the next place is at the end.
        """
        lease = await self._lease(ttl_s)
        key, left = f"{lock}/{lease.hex}", self._left(lease, tag)
        await self._put_if_absent(self._note(name), EMPTY)
        # Before it is sent: it may have been made, whatever comes of it.
        self._values[tag] = value
        try:
            kv = await self._put_if_absent(key, value, lease, left)
            if wire.bytes_of(kv.get("value", "")) != value:
                await self._delete(_node(kv))
                kv = await self._put_if_absent(key, value, lease, left)
        except BaseException:
            self._unanswered.add(tag)  # For good: the answer to a later one says nothing of this.
            raise
        return _node(kv)

    def _left(self, lease: KeptLease, tag: str) -> str:
        return f"{self._prefix}left/{lease.hex}/{tag}"

    async def _put_if_absent(
        self, key: str, value: bytes, lease: KeptLease | None = None, left: str = ""
    ) -> wire.Object:
        """Make a key if neither it nor what says that it was left is there; return what is.

        Raises:
            StoreUnavailable: it was left.
        """
        read = {"request_range": {"key": base64_of(key)}}
        put = {"key": base64_of(key), "value": base64_of(value)}
        if lease is not None:
            put["lease"] = str(lease.id)
        order = {
            "compare": [_compared(one, 0) for one in (key, left) if one],
            "success": [{"request_put": put}, read],
            "failure": [read],
        }
        answer = await self._client.ask("/v3/kv/txn", order, "write")
        kvs: list[wire.Object] = answer["responses"][-1]["response_range"].get("kvs", [])
        if not kvs:
            raise StoreUnavailable(f"{key} was left before it was made")
        return kvs[0]

    async def find(self, lock: str, tag: str, ttl_s: float) -> Node | None:
        """Return our key. A lease that is over has taken it along."""
        try:
            lease = await self._lease(ttl_s)
        except SessionGone:
            return None
        request = {"key": base64_of(f"{lock}/{lease.hex}")}
        kvs = (await self._client.ask("/v3/kv/range", request)).get("kvs", ())
        node = _node(kvs[0]) if kvs else None
        return node if node is not None and node.value == self._values.get(tag) else None

    async def prove(self, lock: str, node: Node, ttl_s: float) -> None:
        """Keep the lease alive, and write under the condition that the key is there."""
        lease = self._leases.get(ttl_s)
        if lease is None or not node.key.endswith(f"/{lease.hex}"):
            raise Gone(f"{node.key}: its lease is over")
        beat = base64_of(f"{self._prefix}beats/{lease.hex}")
        put = {"request_put": {"key": beat, "lease": str(lease.id)}}
        attached = {
            "key": base64_of(node.key),
            "target": "LEASE",
            "result": "EQUAL",
            "lease": str(lease.id),
        }
        order = {"compare": [_compared(node.key, node.created), attached], "success": [put]}
        try:
            answer = await lease.confirm(order)
        except SessionGone as error:
            raise Gone(f"{node.key}: {error}") from None
        if not wire.succeeded(answer):
            raise Gone(f"{node.key} is not there any more")

    async def leave(self, lock: str, tag: str, ttl_s: float) -> None:
        """Delete our key, and let no join that is still on its way make it."""
        lease = self._leases.get(ttl_s)
        if lease is not None and not lease.over and lease.id:
            if tag in self._unanswered:
                left = {"key": base64_of(self._left(lease, tag)), "lease": str(lease.id)}
                await self._client.ask("/v3/kv/put", left, "write")
            node = await self.find(lock, tag, ttl_s)
            if node is not None:
                await self._delete(node)
        self._unanswered.discard(tag)
        self._values.pop(tag, None)

    async def _delete(self, node: Node) -> None:
        gone = {"request_delete_range": {"key": base64_of(node.key)}}
        order = {"compare": [_compared(node.key, node.created)], "success": [gone]}
        await self._client.ask("/v3/kv/txn", order, "write")

    async def write_note(self, name: str, note: bytes, node: Node) -> None:
        """Write the note if the key is there."""
        put = {"request_put": {"key": base64_of(self._note(name)), "value": base64_of(note)}}
        order = {"compare": [_compared(node.key, node.created)], "success": [put]}
        if not wire.succeeded(await self._client.ask("/v3/kv/txn", order, "write")):
            raise Gone(f"{node.key} is not there any more")

    # -- following --------------------------------------------------------------------------------

    def follow(self, lock: str, name: str, sink: Sink) -> None:
        """Report the queue now and after each change."""
        self._followed[lock] = asyncio.get_running_loop().create_task(self._run(lock, name, sink))

    def unfollow(self, lock: str) -> None:
        """Report it no more."""
        self._followed.pop(lock).cancel()

    async def _run(self, lock: str, name: str, sink: Sink) -> None:
        changed = asyncio.Event()
        failures, told, watches = 0, None, set[asyncio.Task[None]]()
        try:
            while True:
                changed.clear()
                try:
                    async with asyncio.timeout(REQUEST_LIMIT_S):
                        line = await self.look(lock, name)
                    failures = 0
                except (StoreError, TimeoutError, LookupError) as error:
                    failures += 1
                    if failures == len(PAUSES_S):
                        _log.warning("%s cannot be followed: %r", lock, error)
                    await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S)) - 1])
                    continue
                if not watches:
                    watches = self._watch_both(lock, name, line.serial + 1, changed.set)
                if told is None or (line.first, line.note) != (told.first, told.note):
                    told = line
                    sink(line)
                # A stream that is silent is not believed for ever: it may be a dead connection.
                with suppress(TimeoutError):
                    async with asyncio.timeout(SILENCE_S):
                        await changed.wait()
                        continue
                for watch in watches:
                    watch.cancel()
                watches = set()
        finally:
            for watch in watches:
                watch.cancel()

    def _watch_both(
        self, lock: str, name: str, after: int, changed: Callable[[], None]
    ) -> set[asyncio.Task[None]]:
        loop = asyncio.get_running_loop()
        return {
            loop.create_task(self._watch(place, after, changed))
            for place in (wire.range_of(f"{lock}/"), {"key": base64_of(self._note(name))})
        }

    async def _watch(self, place: wire.Object, after: int, changed: Callable[[], None]) -> None:
        """Tell of every change, and of every doubt whether there was one."""
        failures = 0
        while True:
            server = self._client.at
            try:
                async with asyncio.timeout(REQUEST_LIMIT_S) as limit:
                    order = {"create_request": {**place, "start_revision": str(after)}}
                    async with aclosing(self._client.watch(order)) as messages:
                        async for message in messages:
                            limit.reschedule(None)
                            after = max(after, wire.revision(message) + 1)
                            if failures or message.get("events") or message.get("canceled"):
                                changed()
                            failures = 0
            except Forgotten:
                after = 0  # From now on; what happened in between is read when it has begun.
            except TimeoutError:
                self._client.move_on(server)
            except StoreError as error:
                _log.debug("following: %s", error)
            failures += 1
            changed()
            await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S)) - 1])

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the cluster and our rights."""
        return await doctor.examine(self._client, wire.Prefix(self._prefix), self._prefix)


def _compared(key: str, created: int) -> wire.Object:
    return {
        "key": base64_of(key),
        "target": "CREATE",
        "result": "EQUAL",
        "create_revision": str(created),
    }


def _node(kv: wire.Object) -> Node:
    key = wire.bytes_of(kv["key"]).decode("utf-8", "replace")
    return Node(key, int(kv["create_revision"]), wire.bytes_of(kv.get("value", "")))
