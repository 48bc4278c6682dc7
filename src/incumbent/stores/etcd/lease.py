"""A lease of etcd's, and until when the cluster will not end it.

Keys that are attached to a lease are deleted when the leader of the cluster ends it. So it has to
be known, of each term, until when no leader will.

Theory: whose word a keep-alive is
----------------------------------
To grant a lease is a write. To keep it alive is not: the member that is asked passes it to the
leader it knows, who answers from its memory. A leader that was deposed and has not heard of it goes
on answering (tried on 3.6.5: for two election timeouts), while the next one has given every lease
its whole TTL anew from the moment at which it was elected, and counts that. So what a keep-alive
promises holds only if its leader led *after* it had answered. That is what the write after it is
for. `confirm` sends, to one member, one after the other:

1. a keep-alive. The member answers with the raft term in which it was *before* it passed it on
   (etcd makes the header first, of purpose);
2. a transaction with the writes of the caller. Its answer has the raft term after it.

If both are the same then the member was in this raft term all the time, and knew no leader but
that term's: it answered the keep-alive, and it committed the write after that. A majority took that
write in this term, so whoever is elected later is elected by a majority of which at least one
member took it before: later than the keep-alive was sent. A leader begins with a whole TTL for each
lease. So every leader, that one and later ones, keeps the lease until *send + TTL* at least. If the
two differ nothing is confirmed, and it is tried again.

Warnings
--------
etcd before 3.5.13 (and 3.4.31) had leaders that, stopped and woken after others were elected,
revoked leases by what they remembered (etcd-io/etcd 15247). The same is possible with any version
for whoever may revoke a lease: it takes no right to a key.

A lease of more than five minutes may have a checkpoint, from which a next leader counts what is
left. A keep-alive removes that, but not in the same step, so longer ones are refused.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress

from incumbent.errors import SessionGone, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.etcd import wire
from incumbent.stores.etcd.client import Client

__all__ = ["KeptLease"]

_log = logging.getLogger("incumbent.stores.etcd")

KEPT_PER_TTL = 3
LONGEST_S = 300
REQUEST_LIMIT_S = 5.0


class KeptLease:
    """A lease that is kept for as long as this process runs, or until it is closed.

    Attributes:
        id: what etcd calls it; 0 as long as it was not granted.
        over: the cluster has ended it.
    """

    def __init__(self, client: Client, ttl_s: float) -> None:
        if ttl_s >= LONGEST_S:
            raise StoreUnusable(f"etcd's own leases are used up to {LONGEST_S} s: lower ttl_s")
        self.id = 0
        self.over = False
        self._client = client
        self._ttl_s = math.ceil(ttl_s)
        self._granting = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def hex(self) -> str:
        """How the lease is written in keys."""
        return f"{self.id:x}"

    async def granted(self) -> KeptLease:
        """Return the lease once it is there.

        An answer that is lost costs a lease that nobody uses, and that ends by itself.
        """
        async with self._granting:
            if not self.id:
                answer = await self._client.ask(
                    "/v3/lease/grant", {"TTL": str(self._ttl_s)}, "write"
                )
                self.id = int(answer["ID"])
                self._keeper = asyncio.get_running_loop().create_task(self._keep())
        if self.over:
            raise SessionGone(f"lease {self.hex} is over")
        return self

    async def confirm(self, transaction: wire.Object) -> wire.Object:
        """Commit a transaction that writes, and return its answer if the lease lasts for a TTL.

        That is counted from the beginning of this call.

        Raises:
            SessionGone: the lease is over.
            StoreUnavailable: another leader may have been elected in between: try again.
        """
        before = await self._keep_alive(urgent=True)
        answer = await self._client.ask("/v3/kv/txn", transaction, "write", urgent=True)
        if _term(before) != _term(answer):
            raise StoreUnavailable("etcd's leader may have changed while it was asked")
        return answer

    async def _keep_alive(self, *, urgent: bool = False) -> wire.Object:
        """Keep it alive, as far as the leader knows that it is one; return the answer."""
        answer = await self._client.ask("/v3/lease/keepalive", {"ID": str(self.id)}, urgent=urgent)
        result: wire.Object = answer.get("result", {})
        if "header" not in result:
            raise StoreUnavailable(f"lease {self.hex}: {answer.get('error', 'no answer')}")
        if int(result.get("TTL", 0)) <= 0:
            self.over = True
            raise SessionGone(f"lease {self.hex} is over")
        if int(result["TTL"]) < self._ttl_s:
            raise StoreUnusable(f"lease {self.hex} lasts for {result['TTL']} s")
        return result

    async def _keep(self) -> None:
        """Keep it while nothing is held: that nobody is trusted by this needs no confirmation."""
        while not self.over:
            await asyncio.sleep(self._ttl_s / KEPT_PER_TTL)
            try:
                async with asyncio.timeout(REQUEST_LIMIT_S):
                    await self._keep_alive()
            except (StoreError, TimeoutError) as error:
                _log.debug("lease %s: %s", self.hex, error)

    async def close(self, *, leave: bool) -> None:
        """Keep it no longer; revoke it if `leave`, which removes all that is attached to it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if leave and self.id and not self.over:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(REQUEST_LIMIT_S):
                    await self._client.ask("/v3/lease/revoke", {"ID": str(self.id)}, "write")


def _term(answer: wire.Object) -> tuple[str, str]:
    header = answer["header"]
    return str(header["member_id"]), str(header["raft_term"])
