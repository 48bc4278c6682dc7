"""An active candidate that hands over before its Pod has to go.

Beside an election, and no part of it: it looks at its own Pod, and calls the public step-down. If
it is late, blind or dead, the election goes on as ever, and the handover comes with SIGTERM.

Rules
-----
1. It hands over when somebody wants its Pod evicted (`incumbent.dev/eviction-requested`), or, if
   told so, when its node is cordoned, which is what a drain does first.
2. Only if another one is there to take over: of the same application, ready, not wanted away
   itself, and not on a cordoned node either. To step down for nobody is an outage for nothing, and
   two that want to be rid of it would pass it to and fro.
3. Once for each cause. If it is elected again in spite of that, the others were not as well as they
   looked, and it keeps what it has until SIGTERM, or until the next cause.
4. A standby does nothing. The cause counts when it leads.
5. Whatever goes wrong is logged once, and tried again. No error of it ever reaches the work.

It needs `get`, `list` and `watch` on the Pods of its namespace, and `get` on nodes for cordons. A
name limits none of them: Pods have random ones.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime

from incumbent.audit.objects import Object, at, strings
from incumbent.consent.pods import is_wanted_away, others_of
from incumbent.errors import ConfigError, IncumbentError, MissingExtra
from incumbent.manifests import marks
from incumbent.runtime.face import Election
from incumbent.stores.kubernetes.api import Expired, Kind, NotFound
from incumbent.stores.kubernetes.config import Connection, load, pod_name
from incumbent.stores.kubernetes.resource import PODS, Resource

try:
    from incumbent.stores.kubernetes.client import Client
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "to hand over before an eviction, the API server is asked: "
        "pip install 'incumbent[cli,kubernetes]'"
    ) from missing

__all__ = ["CAUSES", "Handover", "beside"]

_log = logging.getLogger("incumbent.handover")

CAUSES = ("eviction", "cordon")
WATCH_S = 300.0
SLACK_S = 15.0
EVERY_S = 3.0
LIMIT_S = 10.0
PAUSE_S = 5.0
_AGAIN_S = 0.5
_UNMARKED_LOOKS = 4


class _Nodes(Resource):
    """Nodes, which lie in no namespace."""

    def path(self, namespace: str) -> str:
        """Return the path of all objects."""
        return f"{self.root}/{self.plural}"


NODES = _Nodes("", "v1", "nodes", "Node")


@contextmanager
def beside(election: Election, *, on: Collection[str] = CAUSES) -> Iterator[None]:
    """Have an election step down before its Pod has to go, as long as the block runs.

        with handover.beside(election):
            election.lead(work)

    Args:
        election: which leads by `lead`.
        on: "eviction", "cordon", or both.

    Raises:
        ConfigError: this is no Pod, or no API server is known.
    """
    with Handover(lambda _cause: election.step_down(), lambda: election.leads, on=on):
        yield


class Handover:
    """Looks at its own Pod, on a thread of its own. A context manager.

    `looks` counts how often it has looked.

    Args:
        step_down: asks the election to hand over, and gives it the cause; from any thread.
        leads: tells whether there is anything to hand over.
        on: for which causes.
        connection: to the API server; as a Pod has it, if unsaid.
        pod: the name of its Pod; as a Pod knows it, if unsaid.

    Raises:
        ConfigError: this is no Pod, or no API server is known.
    """

    def __init__(
        self,
        step_down: Callable[[str], None],
        leads: Callable[[], bool],
        *,
        on: Collection[str] = CAUSES,
        connection: Connection | None = None,
        pod: str = "",
    ) -> None:
        unknown = sorted(set(on) - set(CAUSES))
        if unknown or not on:
            raise ConfigError(f"on={list(on)!r}: there are {' and '.join(CAUSES)}")
        self._step_down, self._leads = step_down, leads
        self._on = frozenset(on)
        self._connection = connection or load()
        self._name = pod or pod_name()
        if not self._name:
            raise ConfigError(
                "which Pod is this? Without the token of a Pod, set POD_NAME (and the field "
                "metadata.name as its value)"
            )
        self.looks = 0
        self._pod: Object | None = None
        self._done: set[str] = set()
        self._complaint = ""
        self._unmarked = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._work, name="incumbent-handover", daemon=True)

    def __enter__(self) -> Handover:
        """Begin to look."""
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(LIMIT_S)

    # -- on the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except Exception:
            _log.exception("no handover before an eviction any more")
        finally:
            self._begun.set()

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._begun.set()
        client = Client(self._connection, self._connection.namespace)
        news = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(client, news))
                tasks.create_task(self._consider(client, news))
        finally:
            await client.close()

    async def _follow(self, client: Client, news: asyncio.Event) -> None:
        """Keep `_pod` as the API server has it."""
        pods = client.beside(PODS)
        while True:
            try:
                async with asyncio.timeout(LIMIT_S) as limit:
                    self._pod = await pods.get(self._name)
                    news.set()
                    version = str(at(self._pod, "metadata", "resourceVersion"))
                    watch = pods.watch(self._name, version, WATCH_S)
                    async with aclosing(watch) as changes:
                        async for change in changes:
                            limit.reschedule(asyncio.get_running_loop().time() + WATCH_S + SLACK_S)
                            if change.kind in (Kind.ADDED, Kind.MODIFIED):
                                self._pod = change.object
                                news.set()
                self._complaint = ""
                await asyncio.sleep(_AGAIN_S)
            except (IncumbentError, NotFound, Expired, TimeoutError) as error:
                self._complain(f"cannot follow Pod {self._name}: {_told(error)}")
                await asyncio.sleep(PAUSE_S)

    async def _consider(self, client: Client, news: asyncio.Event) -> None:
        """Hand over when there is a cause, at each news and every few seconds."""
        while True:
            try:
                async with asyncio.timeout(EVERY_S):
                    await news.wait()
            except TimeoutError:
                pass
            news.clear()
            try:
                async with asyncio.timeout(LIMIT_S):
                    if self._pod is not None and self._leads():
                        self._is_it_marked(self._pod)
                        await self._look(client, self._pod)
            except (IncumbentError, NotFound, TimeoutError) as error:
                self._complain(f"cannot tell whether to hand over: {_told(error)}")
            self.looks += 1

    def _is_it_marked(self, pod: Object) -> None:
        """Say once if evictions will pass this Pod by, because it does not say that it is active.

        The label follows the term by a request, so it is missed by one look and not by some.
        """
        marked = strings(at(pod, "metadata", "labels")).get(marks.ROLE) == "active"
        self._unmarked = 0 if marked else self._unmarked + 1
        if "eviction" in self._on and self._unmarked == _UNMARKED_LOOKS:
            _log.warning(
                "Pod %s leads and has no label %s=active, so no eviction of it is held up for a "
                "handover: it ends by SIGTERM, and hands over then. Add ?role_label=1 to the URL "
                "of the store, if that is kubernetes://",
                self._name,
                marks.ROLE,
            )

    async def _look(self, client: Client, pod: Object) -> None:
        causes = dict(await self._causes(client, pod))
        self._done &= causes.keys()
        fresh = causes.keys() - self._done
        if not fresh or not await self._somebody(client, pod):
            return
        self._done |= fresh
        cause = "; ".join(causes[one] for one in sorted(fresh))
        _log.warning("handing over: %s", cause)
        self._step_down(cause)

    async def _causes(self, client: Client, pod: Object) -> list[tuple[str, str]]:
        """Return why it should hand over: what a cause is known by, and in words."""
        found = []
        if "eviction" in self._on and is_wanted_away(pod, datetime.now(UTC)):
            notes = strings(at(pod, "metadata", "annotations"))
            since = notes[marks.EVICTION_REQUESTED]
            by = notes.get(marks.EVICTION_REQUESTED_BY) or "somebody"
            text = f"{by} has asked for the eviction of Pod {self._name} since {since}"
            found.append((f"eviction {since}", text))
        if "cordon" in self._on:
            node = str(at(pod, "spec", "nodeName") or "")
            if await self._cordoned(client, node):
                found.append((f"cordon {node}", f"node {node} is cordoned"))
        return found

    async def _somebody(self, client: Client, pod: Object) -> bool:
        """Tell whether another one is there to take over."""
        for other in await others_of(client, pod, datetime.now(UTC)):
            if "cordon" not in self._on:
                return True
            if not await self._cordoned(client, str(at(other, "spec", "nodeName") or "")):
                return True
        return False

    async def _cordoned(self, client: Client, node: str) -> bool:
        """Tell whether a node is cordoned.

        One that cannot be looked at counts as one that is not: it is no cause to hand over, and
        keeps nobody from it whose Pod is to be evicted.
        """
        try:
            found = await client.beside(NODES).get(node) if node else {}
        except (IncumbentError, NotFound) as error:
            self._complain(f"cannot look at node {node}: {_told(error)}")
            return False
        return at(found, "spec", "unschedulable") is True

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _log.warning("%s", text)


def _told(error: Exception) -> str:
    return str(error) or "no answer in time"
