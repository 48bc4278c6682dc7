"""What wakes an operator: every change of a Singleton, or of what belongs to one.

A watch is no memory here. It says that something has happened to a Singleton, which is then read
anew. So an event that is missed costs time and nothing else, and everything is looked at again
every few minutes.

A Lease is renewed every few seconds. It wakes somebody only if its holder has changed; each such
change of a holder is passed on, in its order, for that is the one thing that cannot be read
afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from incumbent.errors import StoreError
from incumbent.manifests import Object
from incumbent.operator.cluster import OURS
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.kinds import KINDS
from incumbent.operator.queue import Name
from incumbent.stores.kubernetes.api import Change, Expired, Kind, NotFound
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import LEASES, PODS, Resource
from incumbent.stores.kubernetes.wire import TOKEN_KEY

__all__ = ["WATCHED", "follow"]

WATCHED = (SINGLETONS, *KINDS.values(), PODS)
_LIMIT_S = 290.0
_STALLED_S = _LIMIT_S + 30.0
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_NAME = "app.kubernetes.io/name"

_log = logging.getLogger("incumbent.operator")


async def follow(
    client: Client,
    of: Resource,
    wake: Callable[[Name], None],
    held: Callable[[Object, bool], None],
) -> None:
    """Wake whom a change of this resource is about, for ever.

    Args:
        client: of the namespace that is looked after, or of all.
        of: the resource.
        wake: called with namespace and name of a Singleton.
        held: called with each Lease whose holder may have changed, and whether nothing was missed
            before.
    """
    pause_s = _PAUSE_S
    while True:
        try:
            async for name, lease, complete in _changes(client.beside(of), of):
                pause_s = _PAUSE_S
                if lease is not None:
                    held(lease, complete)
                if name[1]:
                    wake(name)
        except Expired:
            continue
        except (StoreError, NotFound, TimeoutError) as error:
            _log.warning("cannot watch %s: %s", of.plural, error)
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)


async def _changes(client: Client, of: Resource) -> AsyncIterator[tuple[Name, Object | None, bool]]:
    """List, and watch from there, until the server does not remember any more."""
    selector = "" if of == SINGLETONS else OURS
    listing = await client.list(selector)
    known: dict[Name, object] = {}
    for obj in listing.items:
        _is_news(of, obj, known)
        yield _name_of(of, obj), obj if of == LEASES else None, False
    version = listing.version
    while True:
        began = asyncio.get_running_loop().time()
        async with (
            asyncio.timeout(_STALLED_S),
            aclosing(client.watch("", version, _LIMIT_S, selector)) as changes,
        ):
            async for change in changes:
                version = _version(change, version)
                if change.kind in (Kind.OPENED, Kind.BOOKMARK):
                    continue
                gone = change.kind is Kind.DELETED
                if not gone and not _is_news(of, change.object, known):
                    continue
                lease = change.object if of == LEASES else None
                if lease is not None and gone:
                    lease = {**lease, "spec": {}}
                yield _name_of(of, change.object), lease, not gone
        if asyncio.get_running_loop().time() - began < _PAUSE_S:
            await asyncio.sleep(_PAUSE_S)


def _version(change: Change, version: str) -> str:
    return str(change.object.get("metadata", {}).get("resourceVersion") or version)


def _name_of(of: Resource, obj: Object) -> Name:
    metadata = obj["metadata"]
    if of == SINGLETONS:
        return metadata["namespace"], metadata["name"]
    return metadata["namespace"], str((metadata.get("labels") or {}).get(_NAME, ""))


def _is_news(of: Resource, obj: Object, known: dict[Name, object]) -> bool:
    """Tell whether something has changed that there is anything to do about.

    Of a Lease that is its holder, or that the token of its term is there; of a Singleton all but
    the status, which is our own word.
    """
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    if of == LEASES:
        token = (metadata.get("annotations") or {}).get(TOKEN_KEY)
        now: object = (spec.get("holderIdentity"), spec.get("acquireTime"), token)
    elif of == SINGLETONS:
        now = (metadata["uid"], metadata["generation"], metadata.get("deletionTimestamp"))
    else:
        return True
    key = metadata["namespace"], metadata["name"]
    if known.get(key) == now:
        return False
    known[key] = now
    return True
