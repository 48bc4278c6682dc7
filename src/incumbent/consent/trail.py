"""What is left of each decision: one line of JSON, and an Event where people look for it.

The line is written before the answer is given, for every decision; it is the audit trail. Events
are for `kubectl describe pod`. They come after the answer and hold nothing up; one that is lost is
lost. A drain asks again every few seconds, so there is one Event for each Pod and reason, which is
counted up, and at most once a minute by each replica.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from incumbent.audit.objects import Object, at
from incumbent.consent.decision import Asked, Sight, Verdict, Why
from incumbent.consent.pods import shown
from incumbent.consent.sight import EVENTS
from incumbent.errors import IncumbentError
from incumbent.stores.kubernetes.api import Conflict, NotFound
from incumbent.stores.kubernetes.client import Client

__all__ = ["Trail", "line"]

_log = logging.getLogger("incumbent.consent")

COMPONENT = "incumbent-consent"
EVERY_S = 60.0
LIMIT_S = 10.0
_REMEMBERED = 4096
_AT_ONCE = 64
_LONGEST_MESSAGE = 1000
_SILENT = {Why.UNCONCERNED, Why.NOT_RUNNING, Why.OTHER_POD, Why.UNKNOWN_POD, Why.UNABLE}


def line(asked: Asked, sight: Sight | None, verdict: Verdict, now: datetime) -> str:
    """Return the line of one decision."""
    return json.dumps(
        {
            "time": shown(now),
            "review": asked.review,
            "user": asked.user,
            "namespace": asked.namespace,
            "pod": asked.name,
            "uid": None if sight is None else at(sight.pod, "metadata", "uid"),
            "dry_run": asked.dry_run,
            "verdict": "allowed" if verdict.allowed else "not yet",
            "why": str(verdict.why),
            "owner": verdict.owner or None,
            "text": verdict.text,
        },
        ensure_ascii=False,
    )


class Trail:
    """Keeps the trail.

    Args:
        client: reaches the API server.
        write: takes one line.
        now: what time it is.
    """

    def __init__(
        self, client: Client, write: Callable[[str], None], now: Callable[[], datetime]
    ) -> None:
        self._client, self._write, self._now = client, write, now
        self._told: OrderedDict[tuple[str, Why], float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def heard(self, asked: Asked, sight: Sight | None, verdict: Verdict) -> None:
        """Take note of one decision."""
        now = self._now()
        self._write(line(asked, sight, verdict, now))
        if asked.dry_run or sight is None or verdict.why in _SILENT:
            return
        uid = str(at(sight.pod, "metadata", "uid"))
        if self._is_due(uid, verdict.why) and len(self._tasks) < _AT_ONCE:
            work = self._tell(event(asked, uid, verdict, now), asked.namespace)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for the Events that are on their way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_due(self, uid: str, why: Why) -> bool:
        now_s = asyncio.get_running_loop().time()
        last_s = self._told.get((uid, why))
        if last_s is not None and now_s - last_s < EVERY_S:
            return False
        self._told[(uid, why)] = now_s
        self._told.move_to_end((uid, why))
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return True

    async def _tell(self, made: Object, namespace: str) -> None:
        events = self._client.beside(EVENTS, namespace)
        try:
            async with asyncio.timeout(LIMIT_S):
                try:
                    await events.create(made)
                except Conflict:
                    await _count_up(events, made)
        except (IncumbentError, NotFound, TimeoutError) as error:
            _log.warning("no Event for Pod %s: %s", made["involvedObject"]["name"], error)


async def _count_up(events: Client, made: Object) -> None:
    found = await events.get(made["metadata"]["name"])
    count = at(found, "count")
    change = {
        "metadata": {"resourceVersion": at(found, "metadata", "resourceVersion")},
        "count": (count if isinstance(count, int) else 1) + 1,
        "lastTimestamp": made["lastTimestamp"],
        "message": made["message"],
    }
    with suppress(Conflict):  # The other replica has counted at the same moment.
        await events.patch(made["metadata"]["name"], change)


def event(asked: Asked, uid: str, verdict: Verdict, now: datetime) -> Object:
    """Return the Event of one decision; its name is that of the Pod and the reason."""
    reason = "".join(word.capitalize() for word in verdict.why.split("-"))
    digest = hashlib.sha256(f"{uid} {verdict.why}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{asked.name[:200]}.{digest}", "namespace": asked.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": asked.namespace,
            "name": asked.name,
            "uid": uid,
        },
        "reason": f"{'Eviction' if verdict.allowed else 'EvictionWaits'}{reason}",
        "message": f"{verdict.text} (asked by {asked.user})"[:_LONGEST_MESSAGE],
        "type": "Normal" if verdict.allowed else "Warning",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": shown(now),
        "lastTimestamp": shown(now),
        "count": 1,
    }
