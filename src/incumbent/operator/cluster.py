"""The requests of an operator: what is read, and how each step is sent so that a late one fails.

What the answers of the API server mean is in the client of `stores.kubernetes`. Here a request has
a time limit as well; a write that met it may have happened, and the next round sees whether.

How a step names what it replaces
---------------------------------
- `Create` is a POST, which an API server refuses if the name is taken. What it has made is claimed
  at once, which sets nothing going; if that fails, the next round does it.
- `Claim` is a merge patch with uid and resourceVersion in it.
- `Apply` is a server-side apply with both. With a uid it creates nothing, and at another version it
  is a conflict.
- `Delete` has both as preconditions.
- The status is replaced at the resourceVersion at which it was read.

A field that somebody else owns is a conflict of another kind, `Disputed`: it names the field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from urllib.parse import urlencode

from incumbent.errors import IncumbentError, OutcomeUnknown, StoreUnavailable
from incumbent.manifests import Object, marks
from incumbent.manifests.objects.labels import COMPANION, COMPONENT
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.kinds import KEPT, KINDS, REPLICA_SETS, WORKLOADS, Key
from incumbent.operator.observed import MANAGER, Observed, claimable, kept_by_of
from incumbent.operator.steps import Apply, Claim, Create, Delete, Step
from incumbent.stores.kubernetes.api import Conflict, NotFound
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import LEASES, PODS, Resource

__all__ = ["EVENTS", "MANAGED_BY", "OURS", "Cluster", "Disputed"]

EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = f"{MANAGED_BY}=incumbent"
_NAME = "app.kubernetes.io/name"
_REQUEST_S = 15.0
_AT_ONCE = 4
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_DISPUTED = "Apply failed with"


class Disputed(Exception):
    """Somebody else owns a field that we want to set; the text names both."""


class Cluster:
    """The API server, as one term of an operator uses it.

    Args:
        client: whose namespace is not looked at.
        check: called before each write; raises when the term is over.
    """

    def __init__(self, client: Client, check: Callable[[], None]) -> None:
        self._client = client
        self._check = check
        self._turn = asyncio.Semaphore(_AT_ONCE)

    # -- reading ----------------------------------------------------------------------------------

    async def singleton(self, namespace: str, name: str) -> Object | None:
        """Return a Singleton, if there is one."""
        return await self._get(SINGLETONS, namespace, name)

    async def lease(self, namespace: str, name: str) -> Object | None:
        """Return a Lease, if there is one."""
        return await self._get(LEASES, namespace, name)

    async def observe(self, singleton: Object, keys: Iterable[Key]) -> Observed:
        """Return what there is of a Singleton: by its label, and under each of these names.

        Workloads are asked for by name in any case: one whose label somebody has removed would be a
        second one. Pods are read after them, so that what one has made that is gone by now is seen;
        and ReplicaSets after the Pods, so that none is missing that has made one of these.
        """
        metadata = singleton["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        ours = f"{OURS},{_NAME}={name}"
        kinds = await asyncio.gather(*(self._list(of, namespace, ours) for of in KINDS.values()))
        found = {(o["kind"], o["metadata"]["name"]): o for items in kinds for o in items}
        wanted = {*keys, *((kind, name) for kind in WORKLOADS)} - set(found)
        ordered = sorted(wanted)
        asked = await asyncio.gather(*(self._get(KINDS[k], namespace, n) for k, n in ordered))
        found |= {key: obj for key, obj in zip(ordered, asked, strict=True) if obj is not None}
        pods = await self._list(PODS, namespace, f"{_NAME}={name}")
        sets = await self._list(REPLICA_SETS, namespace, f"{_NAME}={name}")
        running = [obj for obj in (*pods, *sets) if _is_singletons(obj)]
        return Observed(metadata["uid"], found, running)

    async def _get(self, of: Resource, namespace: str, name: str) -> Object | None:
        path = f"{of.path(namespace)}/{name}"
        try:
            obj = await self._send(of, "get", name, "GET", path)
        except NotFound:
            return None
        return {"apiVersion": of.api_version, "kind": of.kind, **obj}

    async def _list(self, of: Resource, namespace: str, selector: str) -> list[Object]:
        query = urlencode({"labelSelector": selector})
        answer = await self._send(of, "list", "", "GET", f"{of.path(namespace)}?{query}")
        return [{"apiVersion": of.api_version, "kind": of.kind, **o} for o in answer["items"]]

    # -- writing ----------------------------------------------------------------------------------

    async def carry_out(self, step: Step, namespace: str, *, force: bool = False) -> bool:
        """Do one step; tell whether anything has changed by it.

        Args:
            step: what is done.
            namespace: where.
            force: whether to take fields away from others who have set them.

        Raises:
            Conflict: it has changed, or exists already.
            NotFound: it is gone.
            Disputed: a field is somebody else's.
        """
        of, name = KINDS[step.key[0]], step.key[1]
        path = f"{of.path(namespace)}/{name}"
        match step:
            case Create(obj):
                query = urlencode({"fieldManager": MANAGER, "fieldValidation": "Strict"})
                where = f"{of.path(namespace)}?{query}"
                made = await self._write(of, "create", name, "POST", where, obj)
                made = {**made, "kind": of.kind}
                if of.kind not in KEPT and (entries := claimable(made)) is not None:
                    await self.carry_out(Claim(made, entries), namespace)
            case Claim(obj, entries):
                account: Object = {"metadata": {**_version(obj), "managedFields": entries}}
                where = f"{path}?{urlencode({'fieldManager': MANAGER})}"
                await self._write(of, "patch", name, "PATCH", where, account, _MERGE)
            case Apply(obj):
                query = urlencode({"fieldManager": MANAGER, "force": str(force).lower()})
                where = f"{path}?{query}"
                try:
                    found = await self._write(of, "patch", name, "PATCH", where, obj, _APPLY)
                except Conflict as error:
                    if str(error).startswith(_DISPUTED):
                        raise Disputed(str(error)) from None
                    raise
                return bool(_version(found) != _version(obj))
            case Delete(obj, foreground):
                body: Object = {
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "preconditions": _version(obj),
                    "propagationPolicy": "Foreground" if foreground else "Background",
                }
                await self._write(of, "delete", name, "DELETE", path, body)
        return True

    async def tell_status(self, singleton: Object, status: Object) -> None:
        """Replace the status of a Singleton that is still at the version of `singleton`.

        Raises:
            Conflict: it is not.
            NotFound: it is gone.
        """
        metadata = singleton["metadata"]
        name = metadata["name"]
        path = f"{SINGLETONS.path(metadata['namespace'])}/{name}/status"
        body = {**singleton, "status": status}
        await self._write(SINGLETONS, "update", name, "PUT", path, body)

    async def tell_event(self, event: Object) -> None:
        """Tell an event, unless that was done already."""
        metadata = event["metadata"]
        path = EVENTS.path(metadata["namespace"])
        try:
            await self._write(EVENTS, "create", metadata["name"], "POST", path, event)
        except Conflict:
            return

    async def _write(
        self,
        of: Resource,
        verb: str,
        name: str,
        method: str,
        path: str,
        body: Object,
        content_type: str = "application/json",
    ) -> Object:
        self._check()
        return await self._send(of, verb, name, method, path, body, content_type)

    async def _send(
        self,
        of: Resource,
        verb: str,
        name: str,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        try:
            async with self._turn, asyncio.timeout(_REQUEST_S):
                client = self._client.beside(of)
                return await client.send(verb, name, method, path, body, content_type)
        except TimeoutError:
            raise _silence(body is not None, f"no answer to {verb} {of.plural} {name}") from None


def _silence(written: bool, text: str) -> IncumbentError:
    return OutcomeUnknown(text) if written else StoreUnavailable(text)


def _version(obj: Object) -> Object:
    return {name: obj["metadata"][name] for name in ("uid", "resourceVersion")}


def _is_singletons(obj: Object) -> bool:
    """Tell it by any of our marks: one may have been taken off. The name alone others have, too."""
    labels = obj["metadata"].get("labels") or {}
    if labels.get(COMPONENT) == COMPANION:
        return False
    return labels.get(MANAGED_BY) == "incumbent" or marks.matches(labels) or bool(kept_by_of(obj))
