"""The twin of a Kubernetes API server, under the production store for `?session=1`.

`incumbent.stores.kubernetes.sessions` and `incumbent.stores.kv` run unchanged above the twin of
`simulator.kubernetes`. Each request is one of its own, with a fate of its own: the void of a
session may be lost, late or done, and the take after it another.

A holder may miss for long that its record was deleted: its watch is silent, and its renewals, which
touch the session alone, go through (`unheard_deletion`).

A hand that reaches in deletes a record, deletes the session that the record names, puts a copy of a
deleted session back, or takes the label off a record or a session.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from incumbent.core.records import StepDownRequest
from incumbent.stores.api import Store
from incumbent.stores.kubernetes import wire as leases
from incumbent.stores.kubernetes.sessions import SessionStore, wire
from incumbent.stores.kubernetes.wire import Object
from incumbent.stores.kv import wire as kv
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.kubernetes import ApiServer, KubernetesBench, TwinApi
from incumbent.testing.simulator.network import Network
from incumbent.testing.simulator.process import Process

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["KubernetesSessionBench", "unheard_deletion"]


class _Api(TwinApi):
    """The API server as one process has it; knows what its writes are about."""

    def __init__(self, server: ApiServer, process: Process) -> None:
        super().__init__(server, process)
        self._opened: set[str] = set()

    async def create(self, obj: Object) -> Object:
        """Create a Lease."""
        key = wire.key_of(obj)
        if key.startswith("sessions/"):
            self._opened.add(key)
            return await self._write("open session", self.server.create, obj)
        return await self._write("take", self.server.create, obj)

    async def replace(self, obj: Object) -> Object:
        """Replace a Lease."""
        key, judge = wire.key_of(obj), self.process.judge
        folder, _, name = key.partition("/")
        now = _parsed(key, obj)
        if folder == "sessions":
            verb = "renew"
            if now["void"] and key in self._opened:
                verb = "close session"
                judge.session_closed(name)
            elif now["void"]:
                verb = "void"
            return await self._write(verb, self.server.replace, obj)
        if not now["session"]:
            work = self.process.workers[name].work
            if work is not None:
                judge.releasing(name, work.term.id)
            return await self._write("release", self.server.replace, obj)
        return await self._write("take", self.server.replace, obj)

    def _judge(self, name: str, before: Object | None, after: Object, sent: int) -> None:
        judge, key = self.process.judge, wire.key_of(after)
        if key.startswith("sessions/"):
            return
        now = _parsed(key, after)
        was = _parsed(key, before) if before is not None else {}
        old_term = was.get("term", "")
        if now["session"] and now["term"] != old_term:
            if before is None and self.server.deleted.get(name, 0) > sent:
                judge.excuse(name)
            judge.taken(name, old_term, now["term"], now["session"])
        elif not now.get("session") and old_term:
            judge.freed(name, old_term)


def _parsed(key: str, obj: Object) -> Object:
    parse = kv.parse_session if key.startswith("sessions/") else kv.parse_election
    parsed = parse(wire.decoded(key, obj))
    return parsed if isinstance(parsed, dict) else {}


class KubernetesSessionBench(KubernetesBench):
    """What a history needs of such a server."""

    def __init__(self, judge: Judge, network: Network) -> None:
        super().__init__(judge, network)
        self._random = random.Random(network.world.rng.getrandbits(32))
        self._copies: list[Object] = []
        hands = (self.delete_record, self._delete_session, self._copy_session, self._unlabel)
        self._hands = itertools.cycle(self._random.sample(hands, len(hands)))

    async def store(self, process: Process) -> Store:
        """Return the production store over the twin of the API server."""
        return SessionStore(
            _Api(self.server, process),
            "kubernetes://twin?session=1",
            wall=process.clock.wall,
            chance=lambda count: self._random.randbytes(count).hex(),
        )

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down."""
        obj = self.server.leases.get(name)
        if obj is not None and leases.LEASE.carries(obj, term):
            self.server.replace(leases.LEASE.asked(obj, StepDownRequest(term, to)))

    def delete(self, name: str) -> None:
        """Do what people do: each time another thing."""
        if not next(self._hands)(name):
            self.delete_record(name)

    def delete_record(self, name: str) -> bool:
        """Delete the record, and nothing else."""
        super().delete(name)
        return True

    def _delete_session(self, name: str) -> bool:
        session = self._session(name)
        if session is None:
            return False
        self._copies.append(session)
        self.server.delete(session["metadata"]["name"])
        return True

    def _copy_session(self, name: str) -> bool:
        """Delete a session, and put a copy back at once: it has a uid of its own."""
        if not self._delete_session(name):
            return False
        copy = self._copies.pop()
        metadata = {k: v for k, v in copy["metadata"].items() if k not in ("uid",)}
        self.server.create({**copy, "metadata": metadata})
        return True

    def _unlabel(self, name: str) -> bool:
        choices = [self.server.leases.get(name), self._session(name)]
        found = [obj for obj in choices if obj is not None]
        if not found:
            return False
        obj = self._random.choice(found)
        self.server.replace({**obj, "metadata": {**obj["metadata"], "labels": {}}})
        return True

    def _session(self, name: str) -> Object | None:
        """Return the Lease of the session that a record names."""
        obj = self.server.leases.get(name)
        named = _parsed(f"elections/{name}", obj).get("session") if obj is not None else ""
        return self.server.leases.get(wire.lease_name(f"sessions/{named}")) if named else None


def unheard_deletion(h: History) -> bool:
    """Delete the record of a leader whose watch brings nothing for as long as others wait."""
    name, leader = h.some_leader()
    if leader is None or not isinstance(h.bench, KubernetesSessionBench):
        return False
    link, for_s = leader.link, h.ttl_s * (1.5 + h.rng.random())
    link.stalled = True
    h.world.write(leader.label, f"is not notified for {for_s:.2f} s")
    h.bench.delete_record(name)

    def mend() -> None:
        link.stalled = False
        link.catch_up()

    h.world.after(for_s, mend)
    return True
