"""Takes off the label of a Pod that was let go and has stayed.

A yes sets `incumbent.dev/let-go`, and the budget leaves the Pod out from then on. If the eviction
fails after our yes (another webhook, an API server that ends in the middle) and nobody asks again,
no refusal takes the label back: the budget would guard that Pod no more, and it is the budget that
guards it while this webhook is away. So every replica looks for such labels when it starts, and
every `EVERY_S` from then on, and takes off those that it has seen to stand for `LINGERS`.

Why nothing is let through by it
--------------------------------
A label that is taken off lets nobody go. It makes the budget count the Pod again, and gives no
consent back: a "once" was used up by the write that set the label. The next eviction needs a yes of
its own, which sets the label anew.

Why no yes under way is lost by it
----------------------------------
1. Each yes is a write of the label with its own time and question (`decision`, rule 8), confirmed
   before it is said. What is taken off is that very text, at the very version that was read: of a
   yes and a removal that meet, one write is refused. A refused removal is left; a refused yes looks
   again, and sets the label after the removal.
2. The same text has been seen to stand for `LINGERS`, by this process and on its own clock, and was
   set before. An eviction that was let through by it began before that, and the API server ends no
   request later than this after it began. One that is configured to take longer costs, at worst, a
   429 by the budget, and to be asked once more.
3. A Pod that is ending is left alone: its eviction has succeeded.

A label that somebody has set by hand, in a time without this webhook, is one like the others.

The namespaces are those that it is told, and those that it was asked about since it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from incumbent.audit.objects import Object, at, strings
from incumbent.clock import boottime
from incumbent.consent.decision import LINGERS
from incumbent.consent.pods import write
from incumbent.errors import IncumbentError
from incumbent.manifests import marks
from incumbent.stores.kubernetes.api import Conflict, NotFound
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import PODS

__all__ = ["Sweep"]

_log = logging.getLogger("incumbent.consent")

EVERY_S = 30.0
LIMIT_S = 10.0
STANDS_S = LINGERS.total_seconds()

_Key = tuple[str, str, str]
"""Which label it is: its namespace, the uid of the Pod, and what was written with it."""


class Sweep:
    """Looks for labels that stand.

    Args:
        client: reaches the API server.
        namespaces: where it looks from the beginning.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self, client: Client, namespaces: Iterable[str], clock: Callable[[], float] = boottime
    ) -> None:
        self._client = client
        self._namespaces = set(namespaces)
        self._clock = clock
        self._since: dict[_Key, float] = {}
        self._complaint = ""

    def heard(self, namespace: str) -> None:
        """Take note of a namespace about whose Pods somebody has asked."""
        self._namespaces.add(namespace)

    async def work(self) -> None:
        """Look at once, and again and again, until it is cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(EVERY_S)

    async def once(self) -> None:
        """Look once, in each namespace. What fails is logged, and tried the next time."""
        complaint = ""
        for namespace in sorted(self._namespaces):
            try:
                async with asyncio.timeout(LIMIT_S):
                    await self._look(namespace)
            except (IncumbentError, NotFound, TimeoutError) as error:
                why = str(error) or f"no answer within {LIMIT_S:g} s"
                complaint = f"labels of Pods that were let go stay in {namespace}: {why}"
            except Exception:  # A mistake of ours in it must not keep evictions from their answers.
                _log.exception("looking for Pods that were let go in %s", namespace)
        if complaint and complaint != self._complaint:
            _log.warning("%s", complaint)
        self._complaint = complaint

    async def _look(self, namespace: str) -> None:
        pods = (await self._client.beside(PODS, namespace).list(f"{marks.LET_GO}=true")).items
        asked_s = self._clock()
        standing = {_key(namespace, pod): pod for pod in pods if not _ends(pod)}
        for key in [key for key in self._since if key[0] == namespace and key not in standing]:
            del self._since[key]
        for key, pod in standing.items():
            if asked_s - self._since.setdefault(key, asked_s) >= STANDS_S:
                await self._take_off(namespace, pod)

    async def _take_off(self, namespace: str, pod: Object) -> None:
        name = str(at(pod, "metadata", "name"))
        gone = {"labels": {marks.LET_GO: None}, "annotations": {marks.LET_GO_FOR: None}}
        try:
            await write(self._client.beside(PODS, namespace), pod, gone)
        except (Conflict, NotFound):  # Another replica, a yes, or its end: the next look tells.
            return
        _log.warning(
            "Pod %s/%s was let go and has stayed: its budget counts again", namespace, name
        )


def _ends(pod: Object) -> bool:
    return bool(at(pod, "metadata", "deletionTimestamp"))


def _key(namespace: str, pod: Object) -> _Key:
    told = strings(at(pod, "metadata", "annotations")).get(marks.LET_GO_FOR, "")
    return namespace, str(at(pod, "metadata", "uid")), told
