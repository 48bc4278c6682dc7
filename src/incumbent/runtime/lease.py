"""Renews one lease, for one election or for many.

Carries out the effects of `core.keepalive`: sends a renewal, gives it its time limit, reports the
answer, and tells the members (the drivers of the elections held under the lease) when it fails.

A renewal that ran into its time limit is *cancelled here*, so nothing of it can report later; what
it may still do in the store is the store's business, which names the term in every write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol
from zlib import crc32

from incumbent.clock import Clock
from incumbent.core.fence import Trust
from incumbent.core.keepalive import Expiring, Failing, Keepalive, KeepaliveEffect, Pulse, Renew
from incumbent.core.records import Lease
from incumbent.core.timing import Timing
from incumbent.errors import Refused, StoreError
from incumbent.runtime.alarms import Alarm, Alarms
from incumbent.stores.api import Store

__all__ = ["LeaseKeeper", "Member"]


class Member(Protocol):
    """Something that is held under the lease."""

    def lease_expiring(self, cause: str) -> None:
        """Hear that the stop must begin, in a store that cannot renew."""
        ...

    def lease_failing(self, cause: str) -> None:
        """Hear that the stop must begin."""
        ...

    def lease_revoked(self, cause: str) -> None:
        """Hear that the lease is not ours any more."""
        ...


class LeaseKeeper:
    """Keeps one lease alive for as long as it has members."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        timing: Timing,
        sent_at: float,
        clock: Clock,
        alarms: Alarms,
        on_confirmed: Callable[[], None],
    ) -> None:
        self.lease = lease
        self.timing = timing
        self.trust = Trust()
        self.inherited_fds = tuple(store.inherited_fds(lease))
        self._store = store
        self._clock = clock
        self._alarms = alarms
        self._on_confirmed = on_confirmed
        self._machine = Keepalive(
            timing,
            self.trust,
            sent_at,
            _share(f"{lease.owner} {lease.name}"),
            renews=store.capabilities.renews,
        )
        self._machine.rest()
        self._members: list[Member] = []
        self._alarm: Alarm | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def usable(self) -> bool:
        """Tell whether a term can begin under this lease."""
        return self._machine.usable(self._clock())

    def join(self, member: Member) -> None:
        """Renew for `member` too; where nothing is renewed any more, tell it so at once."""
        self._members.append(member)
        if len(self._members) == 1:
            self._machine.resume()
        self._schedule()
        if self._machine.state is Pulse.ENDED:
            # Its take was on its way when the lease ended: it has missed what the others were told.
            member.lease_failing("the lease under which it was taken is renewed no more")

    def leave(self, member: Member) -> None:
        """Renew for `member` no more."""
        if member in self._members:
            self._members.remove(member)
        if not self._members:
            self._machine.rest()
            self._unschedule()

    @property
    def members(self) -> int:
        """How many elections are held under this lease."""
        return len(self._members)

    def revoke(self, cause: str) -> None:
        """End at once: the lease was seen in other hands."""
        self._perform(self._machine.revoke(cause))

    def end(self) -> None:
        """Renew no more, whoever is a member: some work is stuck."""
        self._machine.end()
        self._unschedule()
        self._tell_failing("some work under the same lease would not stop")

    async def quiesce(self) -> None:
        """Return when no renewal is in flight, cancelling one that is."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    # -- the machine ------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._alarm = None
        self._perform(self._machine.tick(self._clock()))
        self._schedule()

    def _schedule(self) -> None:
        self._unschedule()
        wake_at = self._machine.wake_at
        if wake_at != float("inf"):
            self._alarm = self._alarms.call_at(wake_at, self._tick)

    def _unschedule(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _perform(self, effect: KeepaliveEffect | None) -> None:
        if effect is None:
            return
        if isinstance(effect, Renew):
            self._task = self._loop.create_task(self._renew(effect))
        elif isinstance(effect, Failing):
            self._tell_failing(effect.cause)
        elif isinstance(effect, Expiring):
            for member in list(self._members):
                member.lease_expiring(effect.cause)
        else:
            for member in list(self._members):
                member.lease_revoked(effect.cause)

    def _tell_failing(self, cause: str) -> None:
        for member in list(self._members):
            member.lease_failing(cause)

    async def _renew(self, effect: Renew) -> None:
        machine = self._machine
        try:
            async with asyncio.timeout(effect.timeout_s):
                self.lease = await self._store.renew(self.lease)
        except TimeoutError:
            text = f"no answer within {effect.timeout_s:.3f} s"
            machine.failed(effect.attempt, self._clock(), text)
        except Refused as error:
            self._perform(machine.refused(effect.attempt, str(error)))
        except StoreError as error:
            machine.failed(effect.attempt, self._clock(), str(error))
        except Exception as error:  # A store's bug is a failed attempt; the time left is used.
            machine.failed(effect.attempt, self._clock(), repr(error))
        except asyncio.CancelledError:
            machine.failed(effect.attempt, self._clock(), "cancelled")
            raise
        else:
            machine.confirmed(effect.attempt)
            self._on_confirmed()
        finally:
            self._task = None
            self._schedule()


def _share(name: str) -> float:
    """Return a number between a half and one that differs from lease to lease."""
    return 0.5 + crc32(name.encode()) / 2**33
