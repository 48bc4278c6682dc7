"""The twin of a Kubernetes API server, under the production store for Leases.

`incumbent.stores.kubernetes` runs unchanged, watches included; what is replaced is `ObjectApi`, the
seam below it. The server keeps objects at a revision that grows with every write, compares the
resourceVersion of what it replaces, and remembers what happened, so that a watch can go on where
another one ended.

A watch is a stream: what a stall holds back comes later, in order, and nothing of it is skipped. If
the server stops, every stream breaks.

Warning: a creation cannot name what it replaces. If a Lease is created, held and deleted by hand
before the creator has taken in what its watch has to say (the watch is behind, or the process was
stopped meanwhile), the creator robs whoever held it; the store says so. Such a take excuses the
election (see `judge`).
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from incumbent.core.records import Holding, StepDownRequest
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.stores.api import Store
from incumbent.stores.kubernetes import wire
from incumbent.stores.kubernetes.api import Change, Conflict, Expired, Kind, Listing, NotFound
from incumbent.stores.kubernetes.resource import LEASES
from incumbent.stores.kubernetes.store import KubernetesStore
from incumbent.stores.kubernetes.wire import Object
from incumbent.testing.simulator.bench import BenchDefaults
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.network import Network, Subscription
from incumbent.testing.simulator.process import Process

__all__ = ["ApiServer", "KubernetesBench", "TwinApi"]

T = TypeVar("T")


class _Alarm(logging.Handler):
    """Makes a violation of every error that the store logs, and drops its warnings.

    What a killed process leaves behind is taken apart by Python's collector some time later, and a
    watch in it complains of that. A real process leaves nothing.
    """

    judge: Judge | None = None

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        collected = isinstance(error, RuntimeError) and "asynchronous generator" in str(error)
        if record.levelno >= logging.ERROR and self.judge is not None and not collected:
            self.judge.crashed("a store", self.format(record))


_ALARM = _Alarm()


class ApiServer:
    """Leases at revisions."""

    def __init__(self) -> None:
        self.revision = 100
        self.leases: dict[str, Object] = {}
        self.deleted: dict[str, int] = {}
        self.streams: list[_Stream] = []
        self._events: list[tuple[Change, Object | None]] = []
        self._oldest = self.revision

    def get(self, name: str) -> Object:
        """Return an object."""
        try:
            return self.leases[name]
        except KeyError:
            raise NotFound(name) from None

    def create(self, obj: Object) -> Object:
        """Create an object."""
        name = obj["metadata"]["name"]
        if name in self.leases:
            raise Conflict(name)
        return self._write(Kind.ADDED, obj)

    def replace(self, obj: Object) -> Object:
        """Replace an object at its version."""
        known = self.get(obj["metadata"]["name"])
        for precondition in ("resourceVersion", "uid"):
            if known["metadata"][precondition] != obj["metadata"][precondition]:
                raise Conflict(obj["metadata"]["name"])
        return self._write(Kind.MODIFIED, obj)

    def delete(self, name: str, version: str = "") -> None:
        """Delete an object, if it is there; with a version, only at that."""
        if version and self.get(name)["metadata"]["resourceVersion"] != version:
            raise Conflict(name)
        if name in self.leases:
            self._write(Kind.DELETED, self.leases[name])
            del self.leases[name]
            self.deleted[name] = self.revision

    def overwrite(self, name: str, spec: Object) -> None:
        """Write a spec by hand."""
        known = self.leases.get(name, {"metadata": {"name": name}})
        self._write(Kind.MODIFIED, {**known, "spec": spec})

    def list(self, selector: str = "") -> Listing:
        """Return everything, or what a label selector means."""
        found = [obj for obj in self.leases.values() if _selected(selector, obj)]
        return Listing(found, str(self.revision))

    def follow(self, stream: _Stream, version: str) -> None:
        """Send what happened since, and what happens from now on."""
        if version and not self._oldest <= int(version) <= self.revision:
            raise Expired(version)
        self.streams.append(stream)
        if version:
            for change, before in self._events:
                if wire.version(change.object) > int(version):
                    stream.tell(change, before)
        else:
            for obj in self.leases.values():
                stream.tell(Change(Kind.ADDED, obj), None)

    def restore(self, revision: int, leases: dict[str, Object]) -> None:
        """Go back in time; every watch ends, and none can go on from before."""
        self.revision, self.leases = revision, dict(leases)
        self._events, self._oldest = [], revision
        self.break_streams()

    def break_streams(self) -> None:
        """End every watch, as a connection that is reset."""
        streams, self.streams = self.streams, []
        for stream in streams:
            stream.break_off()

    def _write(self, kind: Kind, obj: Object) -> Object:
        self.revision += 1
        uid = obj["metadata"].get("uid", f"uid-{self.revision}")
        metadata = {**obj["metadata"], "uid": uid, "resourceVersion": str(self.revision)}
        written = {**obj, "metadata": metadata}
        before = self.leases.get(metadata["name"])
        self.leases[metadata["name"]] = written
        change = Change(kind, written)
        self._events.append((change, before))
        for stream in list(self.streams):
            stream.tell(change, before)
        return written


def _selected(selector: str, obj: Object | None) -> bool:
    """Tell whether a selector, which is that there is a label or has a value, means the object."""
    key, equals, value = selector.partition("=")
    labels = (obj or {}).get("metadata", {}).get("labels") or {}
    return not key or (key in labels and (not equals or labels[key] == value))


class _Stream:
    """One watch, between the server and the generator in a process."""

    def __init__(self, api: TwinApi, name: str, selector: str) -> None:
        self.broken = False
        self._api = api
        self._name = name
        self._selector = selector
        self._came: deque[Change] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._subscription: Subscription[Change] = Subscription(None, self._hear)
        api.process.link.subscriptions.append(self._subscription)

    def tell(self, change: Change, before: Object | None) -> None:
        """Send a change on its way; what is selected no more is deleted, as far as is told."""
        if self._name not in ("", change.object["metadata"]["name"]):
            return
        if not _selected(self._selector, change.object):
            if not _selected(self._selector, before) or before is None:
                return
            change = Change(Kind.DELETED, change.object)
        self._api.process.link.notify(self._subscription, change)

    def of(self, process: Process) -> bool:
        """Tell whether it is a watch of this process."""
        return self._api.process is process

    def break_off(self) -> None:
        """End with an error."""
        self._subscription.alive = False
        self._api.process.loop.deliver(self._broken)

    def close(self) -> None:
        """Send nothing more."""
        self._subscription.alive = False
        if self in self._api.server.streams:
            self._api.server.streams.remove(self)
        if self._subscription in self._api.process.link.subscriptions:
            self._api.process.link.subscriptions.remove(self._subscription)

    async def next(self) -> Change:
        """Return the next change."""
        while not self._came:
            if self.broken:
                raise StoreUnavailable("the watch was reset")
            self._waiter = self._api.process.loop.create_future()
            await self._waiter
        change = self._came.popleft()
        name = change.object["metadata"]["name"]
        self._api.heard[name] = max(self._api.heard.get(name, 0), wire.version(change.object))
        return change

    def _hear(self, change: Change) -> None:
        self._came.append(change)
        self._wake()

    def _broken(self) -> None:
        self.broken = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class TwinApi:
    """The API server as one process has it. See `incumbent.stores.kubernetes.api.ObjectApi`."""

    namespace = "default"
    url = "https://twin"
    resource = LEASES

    def __init__(self, server: ApiServer, process: Process) -> None:
        self.server = server
        self.process = process
        self.heard: dict[str, int] = {}

    async def get(self, name: str) -> Object:
        """Read one Lease."""
        return await self._read("read", lambda: self.server.get(name), name)

    async def create(self, obj: Object) -> Object:
        """Create a Lease."""
        return await self._write("take", self.server.create, obj)

    async def replace(self, obj: Object) -> Object:
        """Replace a Lease."""
        spec = obj["spec"]
        name = obj["metadata"]["name"]
        if not spec["holderIdentity"]:
            work = self.process.workers[name].work
            if work is not None:
                self.process.judge.releasing(name, work.term.id)
            return await self._write("release", self.server.replace, obj)
        verb = "take" if spec["acquireTime"] == spec["renewTime"] else "renew"
        return await self._write(verb, self.server.replace, obj)

    async def delete(self, name: str, uid: str, version: str) -> None:
        """Delete a Lease."""
        await self.process.link.call("sweep", lambda: self.server.delete(name, version), name)

    async def list(self, selector: str = "") -> Listing:
        """Read all Leases."""
        return await self._read("list", lambda: self.server.list(selector), "")

    async def watch(
        self, name: str, version: str, limit_s: float, selector: str = ""
    ) -> AsyncGenerator[Change]:
        """Report what happens."""
        stream = _Stream(self, name, selector)
        try:
            await self._read("watch", lambda: self.server.follow(stream, version), name)
            yield Change(Kind.OPENED, {"metadata": {}})
            ends_at = self.process.loop.time() + limit_s
            while self.process.loop.time() < ends_at:
                yield await stream.next()
        finally:
            stream.close()

    async def allowed(self, verb: str, name: str) -> bool:
        """Allow everything."""
        return True

    async def namespace_found(self) -> bool:
        """Find it."""
        return True

    async def resource_found(self) -> bool:
        """Find it."""
        return True

    async def server_version(self) -> str:
        """Return a version."""
        return "v1.36.0"

    async def connect(self) -> None:
        """Do nothing: the way is always open."""

    async def close(self) -> None:
        """Do nothing."""

    async def _read(self, verb: str, effect: Callable[[], T], about: str) -> T:
        try:
            return await self.process.link.call(verb, effect, about)
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error

    async def _write(self, verb: str, write: Callable[[Object], Object], obj: Object) -> Object:
        name = obj["metadata"]["name"]
        sent = max(self.heard.get(name, 0), int(obj["metadata"].get("resourceVersion", 0)))

        def effect() -> Object:
            before = self.server.leases.get(name)
            written = write(obj)
            self._judge(name, before, written, sent)
            return written

        return await self.process.link.call(verb, effect, name)

    def _judge(self, name: str, before: Object | None, after: Object, sent: int) -> None:
        judge = self.process.judge
        was = wire.LEASE.snapshot(name, before) if before is not None else None
        now = wire.LEASE.snapshot(name, after)
        old_term = was.term if was is not None and was.holding is Holding.HELD else ""
        if now.holding is Holding.HELD and now.term != old_term:
            if before is None and self.server.deleted.get(name, 0) > sent:
                judge.excuse(name)
            judge.taken(name, old_term, now.term, "")
        elif now.holding is Holding.VACANT and old_term:
            judge.freed(name, old_term)


class KubernetesBench(BenchDefaults):
    """What a history needs of Kubernetes."""

    def __init__(self, judge: Judge, network: Network) -> None:
        self.server = ApiServer()
        self._backup: tuple[int, dict[str, Object]] | None = None
        self._scribbled: set[str] = set()
        network.on_restart.append(self.server.break_streams)
        _ALARM.judge = judge
        log = logging.getLogger("incumbent.stores.kubernetes")
        log.propagate = False
        if _ALARM not in log.handlers:
            log.addHandler(_ALARM)

    async def store(self, process: Process) -> Store:
        """Return the production store over the twin of the API server."""
        api = TwinApi(self.server, process)
        return KubernetesStore(api, "kubernetes://twin", wall=process.clock.wall)

    def forget(self, process: Process) -> None:
        """End the watches of a process that is gone."""
        for stream in list(self.server.streams):
            if stream.of(process):
                stream.close()

    def prove_dead(self, process: Process) -> None:
        """Do nothing: a Lease proves nobody dead."""

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down."""
        obj = self.server.leases.get(name)
        if obj is not None and wire.LEASE.carries(obj, term):
            self.server.replace(wire.LEASE.asked(obj, StepDownRequest(term, to)))

    def delete(self, name: str) -> None:
        """Delete a Lease."""
        self.server.delete(name)
        self._scribbled.discard(name)

    def scribble(self, name: str) -> None:
        """Write something foreign over a Lease."""
        self._scribbled.add(name)
        self.server.overwrite(name, {"holderIdentity": "moo", "leaseDurationSeconds": None})

    def wipe(self) -> None:
        """Delete what is foreign."""
        for name in sorted(self._scribbled):
            self.delete(name)

    def back_up(self) -> None:
        """Keep a copy."""
        self._backup = (self.server.revision, copy.deepcopy(self.server.leases))

    def restore(self) -> bool:
        """Go back to the copy."""
        if self._backup is None:
            return False
        self.server.restore(*self._backup)
        return True
