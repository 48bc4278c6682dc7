"""The lock of `consul lock`, and of `api.Lock` of Consul's Go library, and our record beside it.

    PREFIX/.lock                theirs: held by a session, with the flags of a lock
    PREFIX/.incumbent/record    ours
    PREFIX/.incumbent/created   ours: written anew whenever the record is created

A member of theirs has a session, and takes the key with it if the key is under no other session.
It is given up by releasing the key, which may be deleted then. We do the same, with a session of
its own for each term.

What confirms a renewal: a transaction that writes our record at the ModifyIndex that it had, while
the key is still under our session (`check-session`). It is one entry of the raft log. That the
session is renewed as well, before it, confirms nothing: the answer comes from the memory of one
server, which may have been deposed.

Why nobody of theirs gets in while we are trusted, though a server judges when our session is over:
**the lock-delay**. When a session ends without giving its keys up, they cannot be locked for its
lock-delay. Each confirmed renewal shows that the session was alive when it was written, so the
session ended after that, if it did; and with a lock-delay of the TTL, by clocks of the servers that
are off by at most rho, no other session has the key before the trust that the renewal gave is over.
So nothing hangs on how long sessions live (between one and two times their TTL, and longer when
another server comes to lead). Consul's lock-delay is 60 s at most, and so is our TTL here.

Among our own the record counts. A takeover gives up the key for the dead session, within the
transaction that swaps the record and locks the key again. That spares the lock-delay: it is for
those who do not know how long they have to wait.

The token is the ModifyIndex of the write that took the record. Not LockIndex: it begins anew when
the key is deleted, and theirs delete it.
"""

from __future__ import annotations

import asyncio
import base64
import math
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress

from incumbent.errors import PermissionDenied, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Finding, unreached
from incumbent.stores.beside import Conflict, Deed, Owner, State, wire
from incumbent.stores.consul.client import Client, Item, Operation
from incumbent.stores.consul.config import Settings
from incumbent.stores.kv import Conflict as Compared

__all__ = ["GREATEST_TTL_S", "LOCK_FLAGS", "ConsulLocks"]

LOCK_FLAGS = 0x2DDCCBC058A50C18
"""What theirs take for a lock; a semaphore has others, at the same key."""
GREATEST_TTL_S = 60.0
LEAST_SESSION_S = 10
LOOK_S = 1.0
"""How often their lock is tried beside the queries: the end of a lock-delay is no change."""
WAIT_S = 60.0
_ATTEMPTS = 5
_SLACK_S = 10.0
_KEY, _RECORD, _CREATED = ".lock", ".incumbent/record", ".incumbent/created"


class ConsulLocks:
    """A driver of the locks in one datacenter."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Client(settings)
        self._clearing: set[asyncio.Task[None]] = set()

    async def open(self, *, create: bool) -> None:
        """See whether it answers; there is nothing to create."""
        await self._client.ask("/v1/status/leader")

    async def close(self) -> None:
        """Give back every connection."""
        if self._clearing:
            await asyncio.wait(self._clearing)
        await self._client.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._client.connect()

    # -- one lock ---------------------------------------------------------------------------------

    async def read(self, lock: str, *, urgent: bool = False) -> State:
        """Return key and record as they are."""
        for _ in range(_ATTEMPTS):
            listing = await self._client.below(f"{lock}/")
            items = {item.path.removeprefix(f"{lock}/"): item for item in listing.items()}
            if _RECORD in items:
                return _state(items, listing.index)
            # A list leaves out what our token may not read, and its index may fall again.
            item, index = await self._client.read(f"{lock}/{_RECORD}", urgent=urgent)
            if item is None:
                return _state(items, listing.index, absent_at=index)
        raise StoreUnavailable(f"{lock!r} comes and goes")

    async def swap(
        self, lock: str, over: State, record: wire.Object, deed: Deed, *, urgent: bool = False
    ) -> State:
        """Write the record and do the deed, in one transaction."""
        if deed is Deed.TAKE:
            return await self._take(lock, over, record)
        session = str(record["session"])
        if deed is Deed.KEEP:
            await self._renew(lock, session, urgent=urgent)
        operations = [_write(lock, over, record)]
        key = {"Key": f"{lock}/{_KEY}", "Session": session}
        if deed is Deed.KEEP:
            operations.insert(0, {"Verb": "check-session", **key})
        frees = deed is Deed.FREE and over.owner is Owner.OURS
        if frees:
            operations.append({"Verb": "unlock", "Value": "", "Flags": LOCK_FLAGS, **key})
        written = await self._transact(operations, urgent=urgent)
        if frees:
            self._clear(session)
        ours = over.owner is Owner.OURS and not frees
        theirs = over.owner is Owner.THEIRS
        owner = Owner.OURS if ours else Owner.THEIRS if theirs else Owner.FREE
        return _written(lock, owner, over, record, written)

    async def _take(self, lock: str, over: State, record: wire.Object) -> State:
        ttl_s = float(record["ttl_s"])
        if ttl_s > GREATEST_TTL_S:
            raise StoreUnusable(
                f"consul://: recipe=lock takes a TTL of at most {GREATEST_TTL_S:g} s, and not "
                f"{ttl_s:g} s: for longer than Consul's greatest lock-delay nothing would keep "
                "others out"
            )
        session = await self._begin(lock, ttl_s, record["holder"])
        record = {**record, "session": session}
        item: Item | None = over.lock
        path = f"{lock}/{_KEY}"
        operations: list[Operation] = []
        if item is None:
            operations.append({"Verb": "check-not-exists", "Key": path})
        else:
            operations.append({"Verb": "check-index", "Key": path, "Index": item.index})
            if over.owner is Owner.OURS:
                dead: Operation = {"Session": item.session, "Flags": LOCK_FLAGS, "Value": ""}
                operations.append({"Verb": "unlock", "Key": path, **dead})
        operations += _created(lock, over)
        operations.append(_write(lock, over, record))
        named = base64.b64encode(record["holder"].encode()).decode()
        locked: Operation = {"Key": path, "Session": session, "Flags": LOCK_FLAGS, "Value": named}
        operations.append({"Verb": "lock", **locked})
        try:
            written = await self._transact(operations)
        except Conflict:
            self._clear(session)
            raise
        return _written(lock, Owner.OURS, over, record, written)

    async def _transact(
        self, operations: list[Operation], *, urgent: bool = False
    ) -> dict[str, Item]:
        try:
            return await self._client.transact(operations, urgent=urgent)
        except Compared as error:
            raise Conflict(str(error)) from None

    async def changed(self, lock: str, state: State) -> None:
        """Wait by a blocking query; what was heard of is read anew, for it may be old already."""
        if state.since <= 0:
            await asyncio.sleep(LOOK_S)
            return
        async with asyncio.timeout(WAIT_S * 17 / 16 + _SLACK_S):
            await self._client.below(f"{lock}/", state.since, WAIT_S)

    def descriptors(self, term: str) -> Sequence[int]:
        """Return none."""
        return ()

    # -- sessions ---------------------------------------------------------------------------------

    async def _begin(self, lock: str, ttl_s: float, owner: str) -> str:
        """Return a new session, which gossip cannot end: no check of a node or service."""
        body = {
            "Name": f"incumbent {owner} {lock}",
            "TTL": f"{max(LEAST_SESSION_S, math.ceil(ttl_s))}s",
            "LockDelay": f"{round(ttl_s * 1000)}ms",
            "Behavior": "release",
            "Checks": [],
            "NodeChecks": [],
        }
        try:
            answer = await self._client.put("/v1/session/create", body)
            return str(answer["ID"])
        except (KeyError, TypeError):
            raise StoreUnavailable("Consul did not tell the session that it made") from None
        except StoreError as error:
            if isinstance(error, PermissionDenied | StoreUnusable):
                raise
            # It may be there; nobody knows its name, so it ends by itself and holds nothing.
            raise StoreUnavailable(f"no session: {error}") from None

    async def _renew(self, lock: str, session: str, *, urgent: bool) -> None:
        try:
            found = await self._client.put(f"/v1/session/renew/{session}", urgent=urgent)
        except StoreError as error:
            if isinstance(error, PermissionDenied | StoreUnusable):
                raise
            raise StoreUnavailable(f"the session of {lock!r}: {error}") from None
        if found is None:
            raise Conflict(f"Consul has ended the session of {lock!r}")

    def _clear(self, session: str) -> None:
        """End a session that holds nothing any more; nobody waits for it."""
        work = self._end(session)
        task = asyncio.get_running_loop().create_task(work)
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def _end(self, session: str) -> None:
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_SLACK_S):
                await self._client.put(f"/v1/session/destroy/{session}")

    # -- for people -------------------------------------------------------------------------------

    async def elections(self, beginning: str, end: str) -> list[str]:
        """Return the elections of whose locks there are records."""
        listing = await self._client.below(beginning)
        tail = f"{end}/{_RECORD}"
        records = (wire.parse(i.decoded()) for i in listing.items() if i.path.endswith(tail))
        return sorted({r["election"] for r in records if isinstance(r, dict)})

    async def examine(self) -> list[Finding]:
        """Look at the server, its peers, and our right to have sessions."""
        where = self._client.server
        try:
            peers = len(await self._client.ask("/v1/status/peers"))
        except StoreError as error:
            return [unreached(error)]
        fix = "run three or five" if peers < 3 else ""
        return [
            Finding("reachable", True, f"{where} answers"),
            Finding("servers", True if peers > 2 else None, f"{peers}", fix),
            await self._may_have_sessions(),
        ]

    async def _may_have_sessions(self) -> Finding:
        check = "right to have sessions"
        try:
            session = await self._begin("doctor", float(LEAST_SESSION_S), "doctor")
        except PermissionDenied as error:
            return Finding(check, False, str(error), 'session_prefix "" { policy = "write" }')
        except StoreError as error:
            return Finding(check, None, str(error))
        await self._end(session)
        return Finding(check, True, "a session was made and ended")


def _write(lock: str, over: State, record: wire.Object) -> Operation:
    """Return the swap of the record. Its value is another one each time, else it would be none."""
    index = over.version if isinstance(over.version, int) else 0
    value = base64.b64encode(wire.encode(record)).decode()
    return {"Verb": "cas", "Key": f"{lock}/{_RECORD}", "Index": index, "Value": value}


def _created(lock: str, over: State) -> Iterable[Operation]:
    """Return what keeps an absence apart from a later one, when there is a record no more."""
    if over.version is not None:
        return
    path = f"{lock}/{_CREATED}"
    if over.mark != 0:
        yield {"Verb": "check-index", "Key": path, "Index": over.mark}
    else:
        yield {"Verb": "check-not-exists", "Key": path}
    note = base64.b64encode(secrets.token_hex(8).encode()).decode()
    yield {"Verb": "set", "Key": path, "Value": note}


def _written(
    lock: str, owner: Owner, over: State, record: wire.Object, written: dict[str, Item]
) -> State:
    index = written[f"{lock}/{_RECORD}"].index
    created = written.get(f"{lock}/{_CREATED}")
    return State(
        owner=owner,
        number=index,
        who=over.who if owner is Owner.THEIRS else "",
        record=record,
        version=index,
        mark=over.mark if created is None else created.index,
        token=index if record["token"] is None else record["token"],
        wait_s=over.wait_s if owner is Owner.THEIRS else 0.0,
        lock=written.get(f"{lock}/{_KEY}", over.lock),
    )


def _state(items: dict[str, Item], index: int, *, absent_at: int = 0) -> State:
    item, entry, created = items.get(_KEY), items.get(_RECORD), items.get(_CREATED)
    parsed = None if entry is None else wire.parse(entry.decoded())
    token = None
    if entry is not None and isinstance(parsed, dict):
        token = entry.index if parsed["token"] is None else parsed["token"]
        if not isinstance(parsed.get("session"), str):
            parsed = "the record names no session"
    owner, who, wait_s = Owner.FREE, "", 0.0
    if item is not None and item.flags != LOCK_FLAGS:
        owner, who = Owner.STRANGE, f"the key has flags {item.flags:#x}: it is no lock of `consul`"
    elif item is not None and item.session:
        owner, who, wait_s = Owner.THEIRS, f"consul session {item.session}", LOOK_S
        if isinstance(parsed, dict) and parsed["session"] == item.session:
            owner, who, wait_s = Owner.OURS, "", 0.0
    return State(
        owner=owner,
        number=absent_at if entry is None else entry.index,
        who=who,
        record=parsed,
        version=None if entry is None else entry.index,
        mark=0 if created is None else created.index,
        token=token,
        wait_s=wait_s,
        lock=item,
        since=index,
    )
