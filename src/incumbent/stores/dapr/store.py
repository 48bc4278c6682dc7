"""What can be made of a lock that can be tried and given back, and no more.

Rules
-----
1. **The nonce is the owner.** Each attempt locks under a name that nobody else has, and gives back
   that name: a request that comes late can neither free nor prolong what came after it.
2. **A take is a try.** There is no version to compare; the server lets one in where nobody is. So
   whatever was watched before, the try is the question, and "no" is the news.
3. **The lock is for a whole TTL, rounded up.** It is counted from when the server sets it, which is
   after the send that our trust is counted from.
4. **A refusal is held by somebody.** By whom, and for how long, nobody is told, so it stands as
   held, under a version of its own, for as long as until the next try. It may even be us: daprd
   repeats what its Redis did not answer. Nobody works under that then, and it runs out.
5. **What may have been locked is given back.** `read_back` cannot look, but it can unlock by nonce:
   afterwards the lock is not ours, whatever it was before. No work has begun under that nonce, and
   none will, since the next attempt has another; so this is no release of a term. To try again
   under the same nonce would tell less: Redis says no to its own owner. A try that is under way
   still, and comes after all, is a lock without an owner: it runs out, and keeps out everybody.
6. **Who only looks is refused.** To a candidate, "nothing is known" means: try. To anybody else it
   would say that nobody holds, which is a guess.
"""

from __future__ import annotations

import itertools
import math
import secrets

from incumbent.core.events import Seen
from incumbent.core.records import (
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    absent,
)
from incumbent.errors import OutcomeUnknown, Refused, StoreError, StoreUnusable
from incumbent.stores.api import Capabilities, Finding, Sink, StoreDefaults, unreached
from incumbent.stores.dapr.api import Sidecar, Unlocked
from incumbent.stores.dapr.config import SEPARATOR, Settings

__all__ = ["TRIES_PER_TTL", "TRY_EVERY_S", "DaprStore"]

TRY_EVERY_S = 1.0
"""A standby tries as often as this. It is less than what a leader that hands over leaves to others
(`core.watch.RESERVE_S`), so that one of them has it."""
TRIES_PER_TTL = 4
"""And as often as this, which is more where the TTL is short."""

_NOBODY_SAYS = (
    "dapr:// cannot be looked at: Dapr's lock API tells nobody who holds a lock. Ask the candidates"
)
_NO_ROOM = (
    "dapr:// has no room for a request to step down: Dapr's lock API keeps an owner's name and "
    "nothing else. Ask the process itself: Candidacy.step_down, or SIGTERM to `incumbent run`"
)


class DaprStore(StoreDefaults):
    """Elections on one lock store behind one sidecar."""

    def __init__(self, sidecar: Sidecar, settings: Settings, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.url = settings.url
        self._sidecar = sidecar
        self._settings = settings
        self._versions = itertools.count(1)
        self._looks_only = False

    async def open(self, *, create: bool = True) -> None:
        """See that the sidecar has this lock store, by giving back a lock that nobody has.

        Raises:
            StoreUnusable: it has not.
            StoreUnavailable, OutcomeUnknown: it does not answer.
            PermissionDenied: it wants a token.
        """
        self._looks_only = not create
        await self._ping()

    async def close(self) -> None:
        """Close the connections. Nothing is given back by this."""
        await self._sidecar.close()

    async def read(self, name: str) -> Snapshot:
        """Return that nothing is known: a take will tell.

        Raises:
            StoreUnusable: whoever asks only looks; see rule 6.
        """
        return self._unknown(name)

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Give back what the take of `claim` may have locked; see rule 5."""
        return await self._unlock(name, claim.term, claim.ttl_s)

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if nobody is."""
        resource = self._resource(name)
        if not await self._sidecar.try_lock(resource, claim.term, math.ceil(claim.ttl_s)):
            raise Refused(self._held_by_somebody(name, claim.ttl_s))
        snapshot = Snapshot(
            name,
            Holding.HELD,
            version=claim.term,
            serial=0,
            holder=claim.identity,
            term=claim.term,
            ttl_s=claim.ttl_s,
            lease_key=claim.term,
        )
        lease = Lease(claim.term, None, claim.ttl_s, claim.identity, name)
        return Held(name, claim.term, None, lease, snapshot)

    async def renew(self, lease: Lease) -> Lease:
        """Refuse: there is no such call, and who holds a lock is refused it.

        Raises:
            StoreUnusable: always.
        """
        raise StoreUnusable("dapr:// renews nothing: a term lasts for its TTL")

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term. For whom, there is no room to say."""
        return await self._unlock(held.name, held.term, lease.ttl_s)

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Refuse: there is no room for a request.

        Raises:
            StoreUnusable: always.
        """
        raise StoreUnusable(_NO_ROOM)

    def follow(self, name: str, sink: Sink) -> None:
        """Report once that nothing is known, so that whoever follows tries.

        Raises:
            StoreUnusable: whoever follows only looks; see rule 6.
        """
        sink(Seen(self._unknown(name)))

    def unfollow(self, name: str, sink: Sink) -> None:
        """Do nothing: there is nothing to report."""

    async def elections(self) -> list[Snapshot]:
        """Refuse: locks are not listed.

        Raises:
            StoreUnusable: always.
        """
        raise StoreUnusable(_NOBODY_SAYS)

    async def examine(self) -> list[Finding]:
        """Say what this lock is worth, and whether the sidecar has it."""
        component = self._settings.component
        found = []
        try:
            await self._ping()
        except StoreError as error:
            found.append(unreached(error))
        else:
            found.append(Finding("reachable", True, f"Dapr has the lock store {component!r}"))
        found.append(
            Finding(
                "terms",
                None,
                "a term ends with its TTL, and no write of an old one is refused",
                "where that matters, choose a store that renews and has a token",
            )
        )
        return found

    async def _ping(self) -> None:
        await self._sidecar.unlock("incumbent-ping", secrets.token_hex(8))

    def _unknown(self, name: str) -> Snapshot:
        if self._looks_only:
            raise StoreUnusable(_NOBODY_SAYS)
        return absent(name)

    async def _unlock(self, name: str, owner: str, ttl_s: float) -> Snapshot:
        match await self._sidecar.unlock(self._resource(name), owner):
            case Unlocked.DONE | Unlocked.NO_SUCH_LOCK:
                return Snapshot(name, Holding.VACANT, version=next(self._versions), serial=0)
            case Unlocked.ANOTHER_OWNERS:
                return self._held_by_somebody(name, ttl_s)
            case Unlocked.INTERNAL_ERROR:
                raise OutcomeUnknown(f"{self.url}: the lock store could not give {name!r} back")

    def _held_by_somebody(self, name: str, ttl_s: float) -> Snapshot:
        wait_s = min(TRY_EVERY_S, ttl_s / TRIES_PER_TTL)
        version = next(self._versions)
        return Snapshot(name, Holding.HELD, version=version, serial=0, ttl_s=wait_s)

    def _resource(self, name: str) -> str:
        resource = self._settings.lock.of(name)
        if SEPARATOR in resource:
            raise StoreUnusable(f"Dapr refuses {SEPARATOR!r} in the name of a lock: {resource!r}")
        return resource
