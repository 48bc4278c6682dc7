"""The lock API over HTTP, and what its answers mean.

What is known after an error: daprd refuses what it does not understand and stores that it does not
have (400), and programs without its token (401), before it asks the lock store anything; and it
says so of a sidecar without any lock store by a code of its own. All else may have been done: when
Redis does not answer, daprd repeats what it asked, and then tells of the last try.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote

from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.dapr.api import Unlocked
from incumbent.stores.dapr.config import Settings
from incumbent.stores.http import Broken, NotSent, Pool

__all__ = ["Rest"]

POOL_CONNECTIONS = 16
_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN = 200, 400, 401, 403
_NO_LOCK_STORES = "ERR_LOCK_STORE_NOT_CONFIGURED"


class Rest:
    """A sidecar, spoken to over HTTP."""

    def __init__(self, settings: Settings) -> None:
        self._store = quote(settings.component, safe="")
        self._place = f"Dapr at {settings.address}"
        self._headers = [("Content-Type", "application/json")]
        if settings.token:
            self._headers.append(("dapr-api-token", settings.token))
        self._pool = Pool(f"http://{settings.address}", None, "", POOL_CONNECTIONS)

    async def try_lock(self, resource: str, owner: str, expiry_s: int) -> bool:
        """Take a lock for so many seconds."""
        body = {"resourceId": resource, "lockOwner": owner, "expiryInSeconds": expiry_s}
        answer = (await self._ask("lock", body)).get("success")
        if not isinstance(answer, bool):
            raise OutcomeUnknown(f"{self._place}: neither yes nor no: {answer!r}")
        return answer

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give a lock back, if it is this owner's."""
        told = await self._ask("unlock", {"resourceId": resource, "lockOwner": owner})
        answer: object = told.get("status")
        if isinstance(answer, int):
            with contextlib.suppress(ValueError):
                return Unlocked(answer)
        raise OutcomeUnknown(f"{self._place}: no status that is known: {answer!r}")

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def _ask(self, what: str, body: dict[str, object]) -> dict[str, Any]:
        path, content = f"/v1.0-alpha1/{what}/{self._store}", json.dumps(body).encode()
        try:
            answer = await self._pool.request("POST", path, self._headers, content)
        except NotSent as error:
            raise StoreUnavailable(f"{self._place} cannot be reached: {error}") from error
        except Broken as error:
            raise OutcomeUnknown(f"{self._place}: {error}") from error
        try:
            told = json.loads(answer.body)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            told = {"message": answer.body[:200].decode(errors="replace")}
        if answer.status == _OK:
            return told
        text = f"{self._place}: {told.get('message') or f'status {answer.status}'}"
        if answer.status in (_UNAUTHORIZED, _FORBIDDEN):
            raise PermissionDenied(f"{text} (its token is read from DAPR_API_TOKEN)")
        if answer.status == _BAD_REQUEST or told.get("errorCode") == _NO_LOCK_STORES:
            raise StoreUnusable(text)
        raise OutcomeUnknown(text)
