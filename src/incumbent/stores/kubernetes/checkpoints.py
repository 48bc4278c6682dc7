"""The checkpoints in Kubernetes: a Lease each, beside those of the elections.

    metadata:
      name:        incumbent-checkpoint-ELECTION.PART         both shortened: see `stores.naming`
      labels:      {incumbent.dev/checkpoint-of: DIGEST OF THE ELECTION'S NAME}
      annotations: {incumbent.dev/checkpoint: JSON}

Leases, because candidates have rights to those and need none to anything else. It has no holder,
and by its label it is told from an election: who lists elections leaves it out, and no watch of
sessions brings it. Its name begins with a word of ours, so that rights can be given to it by name.

1. A write is one PUT at a resourceVersion, or a POST: the API server compares and writes in one
   etcd transaction.
2. **A version is the uid and the resourceVersion.** An object that was deleted and made anew has
   another uid, also in a cluster that was restored from a backup and counts on from there.
3. **Each write is another one.** The API server takes a PUT that changes nothing for none, and
   leaves the resourceVersion as it is. So each has a mark of its own in it.
4. What others have written beside it, labels and annotations, stays. Their writing moves the
   version: whoever works finds the same value under it, and writes over that.
5. A conflict may be our own write, repeated by a proxy: it is said as what is there now.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from incumbent.core.records import Checkpoint
from incumbent.errors import (
    CheckpointMoved,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import naming
from incumbent.stores.kubernetes.api import Conflict, NotFound, ObjectApi
from incumbent.stores.kubernetes.wire import CHECKPOINT_LABEL, PREFIX, Object, notes_of

__all__ = ["VALUE_KEY", "LeaseCheckpoints", "lease_name"]

VALUE_KEY = PREFIX + "checkpoint"
_ATTEMPTS = 3


def lease_name(name: str, part: str) -> str:
    """Return the name of the Lease of a checkpoint."""
    return f"incumbent-checkpoint-{naming.election_key(name)}.{naming.part_key(part)}"


class LeaseCheckpoints:
    """The checkpoints in one namespace.

    Args:
        api: the Leases there.
        chance: returns so many random bytes in hexadecimal, for the marks of writes.
    """

    def __init__(self, api: ObjectApi, chance: Callable[[int], str] = secrets.token_hex) -> None:
        self._api = api
        self._chance = chance
        self._beside: dict[str, tuple[object, Object]] = {}

    async def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint."""
        try:
            return self._found(name, part, await self._api.get(lease_name(name, part)))
        except NotFound:
            return Checkpoint(name, part)

    async def listed(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part."""
        listing = await self._api.list(f"{CHECKPOINT_LABEL}={naming.digest(name)}")
        return sorted((self._found(name, "", obj) for obj in listing.items), key=lambda at: at.part)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`."""
        for _ in range(_ATTEMPTS):
            obj = await self._over(over)
            mark = self._chance(8)
            text = naming.encoded(over.name, over.part, value, token, mark).decode()
            try:
                if over.version is None:
                    written = await self._api.create(_marked(obj, over.name, text))
                else:
                    written = await self._api.replace(_marked(obj, over.name, text))
            except (Conflict, NotFound) as error:
                if over.version is None and isinstance(error, NotFound):
                    namespace = self._api.namespace
                    raise StoreUnusable(f"namespace {namespace!r} does not exist") from None
                now = await self._after(error, over)
                if now.version != over.version:
                    raise CheckpointMoved(now) from None
                continue  # It was in the way, and is gone: nothing was written.
            return self._found(over.name, over.part, written)
        raise StoreUnavailable(f"the checkpoint {over.part!r} of {over.name!r} is in dispute")

    async def _over(self, over: Checkpoint) -> Object:
        """Return the object of that version without our annotation, or a new one.

        Raises:
            CheckpointMoved: it had to be fetched, and is another one.
        """
        called = lease_name(over.name, over.part)
        if over.version is None:
            resource = self._api.resource
            return {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"name": called, "namespace": self._api.namespace},
            }
        version, obj = self._beside.get(called, (None, {}))
        if version != over.version:
            now = await self.read(over.name, over.part)
            if now.version != over.version:
                raise CheckpointMoved(now)
            _, obj = self._beside[called]
        return obj

    async def _after(self, refusal: Exception, over: Checkpoint) -> Checkpoint:
        try:
            return await self.read(over.name, over.part)
        except StoreError as error:
            raise OutcomeUnknown(f"{refusal}; what is there could not be read: {error}") from error

    def _found(self, name: str, part: str, obj: Object) -> Checkpoint:
        metadata, notes = obj["metadata"], notes_of(obj)
        version = (metadata.get("uid", ""), metadata["resourceVersion"])
        found = naming.decoded(name, part, notes.get(VALUE_KEY, "").encode(), version)
        others = {key: text for key, text in notes.items() if key != VALUE_KEY}
        beside = {**obj, "metadata": {**metadata, "annotations": others}}
        self._beside[metadata["name"]] = version, beside
        return found


def _marked(obj: Object, name: str, text: str) -> Object:
    metadata: Mapping[str, object] = obj["metadata"]
    labels = {**(obj["metadata"].get("labels") or {}), CHECKPOINT_LABEL: naming.digest(name)}
    annotations = {**notes_of(obj), VALUE_KEY: text}
    return {**obj, "metadata": {**metadata, "labels": labels, "annotations": annotations}}
