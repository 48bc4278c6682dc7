"""Looking after one Singleton, once: read, plan, carry out, until nothing is left; then tell.

It may die behind any line. What is written is a state from which the next one goes on, events come
before the status from which they follow, and nothing is kept in memory but how it came to the
present holder.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from incumbent.errors import (
    ConfigError,
    LeadershipLost,
    OutcomeUnknown,
    PermissionDenied,
    StoreUnusable,
)
from incumbent.manifests import Object
from incumbent.operator.cluster import MANAGED_BY, Cluster, Disputed
from incumbent.operator.desired import wanted_of
from incumbent.operator.plan import plan
from incumbent.operator.queue import Name
from incumbent.operator.reading import application_of
from incumbent.operator.status import Forced, Round, status_of
from incumbent.operator.steps import Delete, Step
from incumbent.operator.telling import events_of
from incumbent.operator.tenure import Tenure, seen
from incumbent.stores.kubernetes.api import Conflict, NotFound

__all__ = ["Reconciler"]

_MOST_ROUNDS = 12
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
_CALM_S = 600.0

_log = logging.getLogger("incumbent.operator")


def _now() -> datetime:
    return datetime.now(UTC)  # wall clock: shown in the status and in events


@dataclass(slots=True)
class Reconciler:
    """Looks after Singletons in one term.

    Attributes:
        cluster: the API server.
        token: of the term; None if nobody was elected.
        instance: who this is, for events.
        tenures: what is known of each election.
        now: the time, for people.
        clock: seconds, for being patient.
        patience: when something of others may be set back again, and how long was waited before.
    """

    cluster: Cluster
    token: int | None
    instance: str
    tenures: dict[Name, Tenure] = field(default_factory=dict)
    now: Callable[[], datetime] = _now
    clock: Callable[[], float] = time.monotonic
    patience: dict[tuple[str, ...], tuple[float, float]] = field(default_factory=dict)

    def held(self, lease: Object, complete: bool) -> None:
        """Take note of a Lease as a watch tells of it; `complete`: nothing was missed before."""
        key = lease["metadata"]["namespace"], lease["metadata"]["name"]
        before = self.tenures.get(key)
        if before is not None and not complete:
            before = replace(before, watched=False)
        self.tenures[key] = seen(before, lease)

    async def reconcile(self, name: Name) -> bool | None:
        """Look after a Singleton; tell whether it has to be done again soon, None if it is gone.

        Raises:
            LeadershipLost: the term is over, or one of a greater term was here.
            StoreError: the API server does not answer.
        """
        singleton = await self.cluster.singleton(*name)
        if singleton is None or "deletionTimestamp" in singleton["metadata"]:
            return None
        found = Round()
        for _ in range(_MOST_ROUNDS):
            found = await self._round(singleton, found)
            latest = await self.cluster.singleton(*name)
            if latest is None or "deletionTimestamp" in latest["metadata"]:
                return None
            same = _is_same(latest, singleton)
            singleton = latest
            if same and (found.refused is not None or not found.acted):
                break
        await self._tell(singleton, found)
        return bool(found.planned.steps or found.planned.held or found.refused)

    async def _round(self, singleton: Object, before: Round) -> Round:
        """Read and plan, and carry out the plan if the Singleton is still the same."""
        try:
            app = application_of(singleton)
        except ConfigError as error:
            return Round(refused=("InvalidSpec", str(error)))
        wanted = wanted_of(app, singleton)
        metadata = singleton["metadata"]
        namespace = metadata["namespace"]
        observed = await self.cluster.observe(singleton, wanted.objects)
        planned = plan(wanted, observed, self.token)
        if planned.held is not None and planned.held.reason == "Deposed":
            raise LeadershipLost(planned.held.message)
        found = Round(
            app=app,
            wanted=wanted,
            observed=observed,
            planned=planned,
            tenure=await self._tenure(namespace, app.election) if app.leased else None,
            forced=before.forced,
        )
        latest = await self.cluster.singleton(namespace, metadata["name"])
        if latest is None or not _is_same(latest, singleton):
            return replace(found, acted=True)
        for step in planned.steps:
            try:
                found = await self._carry_out(step, namespace, found)
            except (Conflict, NotFound) as error:
                _log.info("%s is another one by now: %s", "/".join(step.key), error)
                return replace(found, acted=True)
            except (PermissionDenied, StoreUnusable) as error:
                return replace(found, refused=("Refused", str(error)))
            if found.refused is not None:
                break
        return found

    async def _carry_out(self, step: Step, namespace: str, found: Round) -> Round:
        if isinstance(step, Delete):
            _log.info("%s/%s is deleted: %s", namespace, "/".join(step.key), step.why)
        try:
            changed = await self.cluster.carry_out(step, namespace)
        except Disputed as error:
            text = " ".join(str(error).split())
            if not self._may_force(namespace, step, found):
                return replace(found, refused=("FieldsSetByOthers", text))
            changed = await self.cluster.carry_out(step, namespace, force=True)
            found = replace(found, forced=[*found.forced, Forced("/".join(step.key), text)])
        if changed:
            return replace(found, acted=True)
        # The API server writes it otherwise than we do, "1" for "1000m", and means the same.
        left = tuple(one for one in found.planned.steps if one is not step)
        return replace(found, planned=replace(found.planned, steps=left))

    def _may_force(self, namespace: str, step: Step, found: Round) -> bool:
        """Tell whether to set back now what somebody else has set.

        Against somebody who sets it again each time, ever more rarely: two controllers that fight
        serve nobody. But an only replica is set back to one at once, each time.
        """
        if found.app is None or found.wanted is None:
            raise AssertionError("nothing is carried out of what cannot be meant")
        if found.app.mode.single and step.key == found.wanted.workload:
            return True
        now = self.clock()
        place = (namespace, *step.key)
        allowed_at, pause_s = self.patience.get(place, (now, 0.0))
        if now < allowed_at:
            return False
        calm = now - allowed_at > _CALM_S
        pause_s = _FIRST_PAUSE_S if calm or not pause_s else min(2 * pause_s, _LONGEST_PAUSE_S)
        self.patience[place] = (now + pause_s, pause_s)
        return True

    async def _tenure(self, namespace: str, name: str) -> Tenure | None:
        """Return what is known of an election.

        What is read may be later than what the watch has told so far, and how it came to that
        holder is what the watch is about to tell: then it wakes us. A Lease that it does not
        follow, for want of our label, is known by reading, and what happened in between is not.
        """
        key = namespace, name
        lease = await self.cluster.lease(namespace, name)
        if lease is None:
            return None
        followed = (lease["metadata"].get("labels") or {}).get(MANAGED_BY) == "incumbent"
        if not followed or key not in self.tenures:
            self.held(lease, False)
        return self.tenures[key]

    async def _tell(self, singleton: Object, found: Round) -> None:
        """Tell what has changed, events first; a Singleton that is another one by now is due."""
        now = self.now()
        status = status_of(singleton, found, self.token, f"{now:%Y-%m-%dT%H:%M:%SZ}")
        if status == singleton.get("status"):
            return
        moment = f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"
        for event in events_of(singleton, status, self.instance, moment):
            try:
                await self.cluster.tell_event(event)
            except (OutcomeUnknown, StoreUnusable, NotFound) as error:
                _log.warning("an event is lost: %s", error)
        try:
            await self.cluster.tell_status(singleton, status)
        except (Conflict, NotFound) as error:
            _log.info("the Singleton is another one by now: %s", error)


def _is_same(one: Object, other: Object) -> bool:
    return all(one["metadata"][key] == other["metadata"][key] for key in ("uid", "generation"))
