"""What the API server, and DNS, say while something happens: each change, with its instant.

It tells what the platform believes; what is so, the marks tell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cluster.stage import Stage
from tests.cluster.workloads import AT_MOST, application
from tests.servers.kubernetes import ApiError

__all__ = ["Event", "Observer", "now_ns"]

_EVERY_S = 0.4
_DOMAIN = "default.svc.cluster.local"


def now_ns() -> int:
    """Return the time on the clock of the marks."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done, or that the platform says of a `node`, a `pod` or in `dns`."""

    at_ns: int
    kind: str
    text: str


class Observer:
    """Asks again and again, on a thread of its own, and tells `say` of each change."""

    def __init__(self, stage: Stage, say: Callable[[Event], None]) -> None:
        self.events: list[Event] = []
        self._stage = stage
        self._say = say
        self._known: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def tell(self, kind: str, text: str) -> Event:
        """Note something that happens now."""
        event = Event(now_ns(), kind, text)
        self.events.append(event)
        self._say(event)
        return event

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                found = self._look()
            except (OSError, ApiError):
                continue
            for key in sorted(found.keys() | self._known.keys()):
                before, after = self._known.get(key), found.get(key, "gone")
                if after not in (before, "gone") or (before is not None and after != before):
                    kind, _, name = key.partition(" ")
                    self.tell(kind, f"{name}: {after}")
            self._known = found

    def _look(self) -> dict[str, str]:
        api = self._stage.api
        found = {}
        for node in api.items("/api/v1/nodes"):
            found[f"node {node['metadata']['name']}"] = _readiness(node)
        for pod in api.items("/api/v1/namespaces/default/pods"):
            metadata = pod["metadata"]
            # A StatefulSet gives the same name again, hence the uid.
            name = f"{metadata['name']} ({metadata['uid'][:4]})"
            found[f"pod {name}"] = f"{_phase(pod)}, {pod['spec'].get('nodeName', 'on no node yet')}"
        name = f"{application(AT_MOST)}.{_DOMAIN}"
        address = self._stage.address_of(name)
        if address:
            found[f"dns {name}"] = address
        return found


def _readiness(node: dict[str, Any]) -> str:
    for condition in node["status"].get("conditions", ()):
        if condition["type"] == "Ready":
            return {"True": "Ready", "False": "NotReady"}.get(condition["status"], "Unknown")
    return "no status"


def _phase(pod: dict[str, Any]) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod["status"].get("conditions", ())
    )
    phase = str(pod["status"].get("phase"))
    return f"{phase}, ready" if ready else phase
