"""The requests to an agent of Consul, and what its answers mean.

Why no client library
---------------------
py-consul is the one that is maintained. Read in its version 1.8.0: its asyncio half stands on
aiohttp, which is 10 MiB in each process for four kinds of request; a transaction takes neither
token nor datacenter of its own; a refused comparison (409), a busy agent (429) and a bad request
are one exception whose text one would have to parse; errors of the transport come through as
they are, so whether a write had left cannot be told; and it has no limit for a connection on which
nothing comes back.

What is known after an error
----------------------------
Nothing was sent if there was no connection. A 409 is the outcome of the comparisons: the whole
transaction had no effect. Nor had whatever else was answered with 400 to 499. Of the answers of 500
and more only "No cluster leader" is certain: Consul gives it when no server was found that would
take the request, and by that very text decides that it may send it once more itself. "leadership
lost while committing log", "rpc error: … EOF", a proxy that lost its agent, and silence may all
come after the write: unknown.

Reading
-------
Every read says `consistent`. By default a leader answers from its memory, and one that was cut off
from its peers takes itself for the leader for half a second and more (`raft_multiplier`); with
`consistent` it asks its peers first. A list leaves out what our token may not read, without a word;
whoever concludes something from what is *not* in a list has to know the right (`readable`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from incumbent.errors import (
    IncumbentError,
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.consul.config import Settings
from incumbent.stores.http import Broken, NotSent, Pool, Response
from incumbent.stores.kv import Conflict

__all__ = ["Client", "Item", "Listing", "Operation", "refusal"]

POOL_CONNECTIONS = 16
_INDEX = b"x-consul-index"
_NO_LEADER = "No cluster leader"
_DENIED = "Permission denied"

Operation = dict[str, Any]
_Effect = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Item:
    """A key of Consul: its whole name, what stands in it (in base64), and when it was written.

    And by which session it is locked, or "", with the flags that say what kind of a lock it is.
    """

    path: str
    value: str
    index: int
    session: str = ""
    flags: int = 0

    @classmethod
    def of(cls, obj: dict[str, Any]) -> Item:
        """Return the item that an answer shows."""
        return cls(
            obj["Key"],
            obj.get("Value") or "",
            int(obj["ModifyIndex"]),
            obj.get("Session") or "",
            int(obj.get("Flags") or 0),
        )

    def decoded(self) -> bytes:
        """Return what was written."""
        return base64.b64decode(self.value)


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys with one beginning, at one index."""

    body: bytes
    index: int
    where: str = ""

    def items(self) -> list[Item]:
        """Take the answer apart, which takes its time if it is long."""
        with _meanings("read", self.where):
            return [Item.of(obj) for obj in json.loads(self.body)]


class Client:
    """The keys of one agent's datacenter, by their whole names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._where = {"dc": settings.datacenter} if settings.datacenter else {}
        self._place = urlsplit(settings.server).netloc
        server, tls, name = settings.server, settings.tls, settings.tls_name
        self._requests = Pool(server, tls, name, POOL_CONNECTIONS)
        self._watches = Pool(server, tls, name, None)

    @property
    def server(self) -> str:
        """The agent's URL, for people."""
        return self._settings.server

    @property
    def encrypted(self) -> bool:
        """Whether it is spoken to by TLS."""
        return self._settings.tls is not None

    async def read(self, path: str, *, urgent: bool = False) -> tuple[Item | None, int]:
        """Return a key and its index; for one that is not there, the last write to any key.

        Args:
            path: of the key.
            urgent: see `Pool.request`.

        Raises:
            StoreUnavailable, PermissionDenied, StoreUnusable: see `Store`.
        """
        response = await self._get(self._requests, path, {"consistent": ""}, urgent=urgent)
        with _meanings("read", self._place):
            if response.status == 404:
                return None, int(response.headers[_INDEX])
            (obj,) = json.loads(response.body)
            item = Item.of(obj)
        return item, item.index

    async def readable(self, folder: str) -> int:
        """Return the index of the last write to any key, if we may read all below `folder`.

        Raises:
            PermissionDenied: we may not.
            StoreUnavailable, StoreUnusable: see `Store`.
        """
        return (await self.read(f"{folder.rstrip('/')}/"))[1]

    async def below(self, beginning: str, index: int = 0, wait_s: float = 0.0) -> Listing:
        """Return all keys that begin like this; with an index, when there is a later one.

        Without one it comes at once, else after `wait_s` and a sixteenth of it at the latest.
        """
        query = {"recurse": "", "consistent": ""}
        pool = self._requests
        if index:
            query |= {"index": str(index), "wait": f"{int(wait_s)}s"}
            pool = self._watches
        response = await self._get(pool, beginning, query)
        with _meanings("read", self._place):
            found = int(response.headers[_INDEX])
        body = b"[]" if response.status == 404 else response.body
        return Listing(body, found, self._place)

    async def transact(
        self, operations: Sequence[Operation], *, urgent: bool = False
    ) -> dict[str, Item]:
        """Do all operations, or none; return what was written, by its path.

        Args:
            operations: what to compare and to do.
            urgent: see `Pool.request`.

        Raises:
            Conflict: a comparison failed.
            OutcomeUnknown: they may have been done.
            StoreUnavailable, PermissionDenied, StoreUnusable: they were not.
        """
        body = json.dumps([{"KV": operation} for operation in operations]).encode()
        with _meanings("write", self._place):
            response = await self._send(
                self._requests, "PUT", _target("/v1/txn", self._where), body, urgent=urgent
            )
            if response.status == 200:
                results = [result["KV"] for result in json.loads(response.body)["Results"] or ()]
                return {obj["Key"]: Item.of(obj) for obj in results if obj}
            if response.status == 409:
                errors = json.loads(response.body)["Errors"]
                for error in errors:
                    if _DENIED in error["What"]:
                        path = operations[error["OpIndex"]]["Key"]
                        raise PermissionDenied(_missing("write", path, self._place))
                raise Conflict("; ".join(str(error["What"]) for error in errors))
        raise refusal(response, "write", self._place)

    async def put(self, path: str, body: Any = None, *, urgent: bool = False) -> Any:
        """Return the answer to a request about a session; None if there is no such session.

        Args:
            path: what is asked for.
            body: what is said with it.
            urgent: see `Pool.request`.

        Raises:
            OutcomeUnknown: it may have been done.
            StoreUnavailable, PermissionDenied, StoreUnusable: it was not.
        """
        data = b"" if body is None else json.dumps(body).encode()
        with _meanings("write", self._place):
            target = _target(path, self._where)
            response = await self._send(self._requests, "PUT", target, data, urgent=urgent)
            if response.status == 200:
                return json.loads(response.body)
        if response.status == 404:
            return None
        raise refusal(response, "write", self._place)

    async def ask(self, path: str) -> Any:
        """Return what the agent says of itself at `path`."""
        with _meanings("read", self._place):
            response = await self._send(self._requests, "GET", path, None)
            if response.status == 200:
                return json.loads(response.body)
        raise refusal(response, "read", self._place)

    async def connect(self) -> None:
        """Have a connection ready for the next request."""
        with _meanings("read", self._place):
            await self._requests.connect()

    async def close(self) -> None:
        """Give back every connection."""
        await self._requests.close()
        await self._watches.close()

    # -- one request ------------------------------------------------------------------------------

    async def _get(
        self, pool: Pool, path: str, query: dict[str, str], *, urgent: bool = False
    ) -> Response:
        target = _target(f"/v1/kv/{quote(path)}", {**query, **self._where})
        with _meanings("read", self._place):
            response = await self._send(pool, "GET", target, None, urgent=urgent)
        if response.status in (200, 404):
            return response
        if response.status == 403:
            raise PermissionDenied(_missing("read", path, self._place))
        raise refusal(response, "read", self._place)

    async def _send(
        self, pool: Pool, method: str, target: str, body: bytes | None, *, urgent: bool = False
    ) -> Response:
        """Send a request; once more only if it was refused for a token that was replaced."""
        response = await pool.request(method, target, self._headers(), body, urgent=urgent)
        if response.status == 403 and self._settings.token.renew():
            response = await pool.request(method, target, self._headers(), body, urgent=urgent)
        return response

    def _headers(self) -> list[tuple[str, str]]:
        headers = [("Accept", "application/json"), ("User-Agent", "incumbent")]
        if self._settings.token.value:
            headers.append(("X-Consul-Token", self._settings.token.value))
        if self._settings.authorization:
            headers.append(("Authorization", self._settings.authorization))
        return headers


def _target(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _missing(policy: str, path: str, where: str) -> str:
    rule = f'key_prefix "{path}" {{ policy = "{policy}" }}'
    return f"Consul at {where} forbids it; the rule that is missing: {rule}"


def refusal(response: Response, effect: _Effect, where: str) -> IncumbentError:
    """Return what an answer means that is no success."""
    code = response.status
    text = response.body[:200].decode("utf-8", "replace").strip()
    if code in (401, 403):
        return PermissionDenied(f"Consul at {where} does not let us ({code}): {text}")
    if code == 429:
        return StoreUnavailable(f"the agent of Consul at {where} is too busy (429): {text}")
    if 400 <= code < 500:
        return StoreUnusable(f"Consul at {where} refused the request ({code}): {text}")
    if code == 500 and text.endswith(_NO_LEADER):
        return StoreUnavailable(f"Consul at {where} has no leader at the moment")
    return _doubt(effect, f"Consul at {where} answered {code}: {text}")


@contextlib.contextmanager
def _meanings(effect: _Effect, where: str) -> Iterator[None]:
    """Turn the errors of the transport and of the JSON decoder into ours."""
    try:
        yield
    except IncumbentError:
        raise
    except NotSent as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise StoreUnusable(
                f"the certificate of Consul at {where} is not trusted: {error}"
            ) from None
        raise StoreUnavailable(f"Consul at {where} cannot be reached: {error}") from None
    except Broken as error:
        raise _doubt(effect, f"no answer of Consul at {where}: {error}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _doubt(
            effect, f"the answer of Consul at {where} cannot be understood: {error!r}"
        ) from None


def _doubt(effect: _Effect, text: str) -> IncumbentError:
    return OutcomeUnknown(text) if effect == "write" else StoreUnavailable(text)
