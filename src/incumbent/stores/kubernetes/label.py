"""`?role_label=1`: the holder's Pod carries a label, by which a Service finds the active one.

Readiness must not say who is active: it holds up rollouts, budgets and ordered starts. So the label
`incumbent.dev/role=active` says it, and an annotation of which election. Kubernetes cannot change
two Pods in one write, so the label follows the record and is not the record:

- it is set after the term has begun, and taken off before the record is released;
- **in the end one Pod carries it, for a moment two may**: the one that was cut off keeps its label
  until its successor takes it off. Clients lag even behind that. Whoever is called checks its term.

Rules
-----
1. **Nothing of this begins, delays or ends a term.** The label is set in the background. Before a
   release it is waited for, since clients follow the label and should leave first, but for no
   longer than `PATIENCE_S` and a share of the TTL; the work has ended by then.
2. **Whoever holds keeps order**: by one watch of all Pods with the label it sets its own if
   somebody takes it away, and takes off that of others who carry it for the same election, at the
   version that it saw. So a late patch of the last holder is mended by the one who follows.
3. **Who holds is a deadline, not a flag**: the last confirmed renewal and the TTL. A holder that
   wakes from a pause does not mend anything before it has renewed.
4. **Who does not hold takes off its own**: what a predecessor in this very Pod left behind (its
   container was restarted), what could not be taken off before a release, and what it still has
   when nothing was confirmed for a TTL. `OFTEN` times for each of these reasons, and no more: it
   may be that of another candidate in this Pod, who would set it again each time.
5. **A removal is of the version that was seen**, also of our own: one that is late, of a process
   that was here before or of ours, must not take off what was set since. A removal that is heard of
   while ours is being set may have come after it, so it is set once more.
6. A Pod carries it for one election: the first that its process holds, of the next it is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from incumbent.clock import boottime
from incumbent.errors import StoreError
from incumbent.stores.kubernetes.api import Change, Conflict, Expired, Kind, NotFound
from incumbent.stores.kubernetes.patience import SLACK_S, WATCH_S, pause_after_s
from incumbent.stores.kubernetes.pods import OwnPod, PodApi
from incumbent.stores.kubernetes.wire import PREFIX, Object, notes_of

__all__ = ["ACTIVE", "ACTIVE_IN", "PATIENCE_S", "ROLE", "RoleLabel"]

ROLE = PREFIX + "role"
ACTIVE = "active"
ACTIVE_IN = PREFIX + "active-in"
"""An annotation beside the label: of which election, as `namespace/name`."""
PATIENCE_S, SHARE = 1.0, 0.04
"""How long a release waits for it, and at most which share of a TTL: the request itself has to fit
into the rest of the attempt."""
OFTEN = 3
"""How many times our own is taken off for one reason: a late patch or two may set it again."""

_FAILURES = (StoreError, Conflict, NotFound, Expired, TimeoutError)
_log = logging.getLogger("incumbent.stores.kubernetes")


class RoleLabel:
    """The label of one process, all on the event loop that calls it.

    Args:
        pods: the Pods of our namespace.
        own: our Pod.
        namespace: that of the elections.
        clock: what trust is counted on.
    """

    def __init__(
        self, pods: PodApi, own: OwnPod, namespace: str, clock: Callable[[], float] = boottime
    ) -> None:
        self._pods = pods
        self._own = own
        self._namespace = namespace
        self._clock = clock
        self._names: set[str] = set()
        self._held = ""
        self._until = 0.0
        self._ttl_s = 0.0
        self._labelled = self._unset = False
        self._owed = OFTEN
        self._task: asyncio.Task[None] | None = None
        self._setting: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._complaint = ""

    def follow(self, name: str) -> None:
        """Take part in an election, from now on and until `close`."""
        self._names.add(f"{self._namespace}/{name}")
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())

    def confirmed(self, name: str, sent: float, ttl_s: float) -> None:
        """Take in that a term was taken or renewed by a write that was sent at `sent`."""
        place = f"{self._namespace}/{name}"
        if self._held not in ("", place) and self._clock() < self._until:
            self._complain(f"{place}: our Pod is labelled as the active one of {self._held}")
            return
        begins = not self._holding
        self._held, self._until, self._ttl_s = place, sent + ttl_s, ttl_s
        if begins:  # What others carry was none of our business until now.
            self._labelled = False
            self._look_again()
        self.follow(name)
        loop = asyncio.get_running_loop()
        if not self._labelled and self._setting is None:
            self._setting = loop.create_task(self._set())
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_later(max(0.0, self._until - self._clock()), self._over)

    def lost(self, name: str) -> None:
        """Take in that somebody else holds: what we carry is taken off in the background."""
        if self._held == f"{self._namespace}/{name}":
            self._held, self._until, self._labelled = "", 0.0, False
            self._owed = OFTEN
            self._look_again()

    def _over(self) -> None:
        """Take off what we carry when nothing was confirmed for a TTL."""
        if self._held and not self._holding:
            self._labelled = False
            self._owed = OFTEN
            self._look_again()

    async def ended(self, name: str) -> None:
        """Take the label off before the term is released; see rule 1."""
        if self._held != f"{self._namespace}/{name}":
            return
        self._held, self._until, self._owed = "", 0.0, OFTEN
        setting, self._setting = self._setting, None
        if setting is not None:
            setting.cancel()  # It may have happened: what follows takes it off all the same.
        try:
            async with asyncio.timeout(min(PATIENCE_S, self._ttl_s * SHARE)):
                await self._pods.patch(self._own.name, self._change(None))
            self._labelled = False
        except _FAILURES as error:
            why = str(error) or "no answer"
            self._complain(f"the label {ROLE} could not be taken off in time: {why}")
            self._look_again()

    async def close(self) -> None:
        """Look after it no more."""
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = [task for task in (self._task, self._setting) if task is not None]
        self._task = self._setting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- our own ----------------------------------------------------------------------------------

    @property
    def _holding(self) -> bool:
        return bool(self._held) and self._clock() < self._until

    def _change(self, place: str | None) -> Object:
        metadata: Object = {
            "labels": {ROLE: None if place is None else ACTIVE},
            "annotations": {ACTIVE_IN: place},
        }
        if self._own.uid:
            metadata["uid"] = self._own.uid
        return {"metadata": metadata}

    async def _set(self) -> None:
        """Label our Pod, for as long as we hold and until it works."""
        failures = 0
        try:
            while self._holding:
                self._unset = False
                try:
                    async with asyncio.timeout(max(0.0, self._until - self._clock())):
                        await self._pods.patch(self._own.name, self._change(self._held))
                    if not self._unset:
                        self._labelled, self._complaint = True, ""
                        return
                except _FAILURES as error:
                    failures += 1
                    self._complain(f"the label {ROLE} could not be set: {error}")
                await asyncio.sleep(pause_after_s(failures))
        finally:
            if self._setting is asyncio.current_task():
                self._setting = None

    # -- everybody's ------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Watch all Pods with the label, for ever."""
        failures = 0
        while True:
            try:
                await self._watched()
                failures = 0
            except _FAILURES as error:
                self._complain(f"Pods with the label {ROLE} cannot be watched: {error}")
            except Exception:  # Order can be kept without us; a term must not end for it.
                _log.exception("keeping the label %s", ROLE)
            failures += 1
            await asyncio.sleep(pause_after_s(failures))

    def _look_again(self) -> None:
        """Begin the watch anew: it reports what exists first, so nothing is left as it was."""
        if self._task is not None:
            self._task.cancel()
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def _watched(self) -> None:
        async with asyncio.timeout(WATCH_S + SLACK_S):
            watch = self._pods.watch("", "", WATCH_S, f"{ROLE}={ACTIVE}")
            async with aclosing(watch) as changes:
                async for change in changes:
                    if change.kind in (Kind.ADDED, Kind.MODIFIED, Kind.DELETED):
                        await self._mend(change)

    async def _mend(self, change: Change) -> None:
        """Do what is ours to do about one Pod that has the label, or has lost it."""
        pod = change.object
        metadata = pod["metadata"]
        gone = change.kind is Kind.DELETED
        ours = metadata["name"] == self._own.name and self._own.uid in ("", metadata["uid"])
        if ours and self._holding:
            if gone and self._setting is not None:
                self._unset = True
            elif gone:
                self._labelled = False
                self._setting = asyncio.get_running_loop().create_task(self._set())
            return
        place = notes_of(pod).get(ACTIVE_IN)
        if gone or place not in self._names:
            return
        if (ours and self._owed) or (self._holding and place == self._held):
            await self._take_off(metadata, ours=ours)

    async def _take_off(self, metadata: Object, *, ours: bool) -> None:
        told: Object = {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "labels": {ROLE: None},
            "annotations": {ACTIVE_IN: None},
        }
        try:
            async with asyncio.timeout(PATIENCE_S * 5):
                await self._pods.patch(metadata["name"], {"metadata": told})
        except (Conflict, NotFound):
            return  # It has changed, which is an event of its own, or it is gone.
        if ours:
            self._owed -= 1
        who = "our own Pod" if ours else f"{metadata['name']}, which does not hold"
        _log.info("took the label %s off %s", ROLE, who)

    def _complain(self, text: str) -> None:
        if self._complaint != text:
            self._complaint = text
            _log.warning("%s", text)
