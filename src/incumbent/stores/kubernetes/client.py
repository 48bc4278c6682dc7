"""The real API server behind the seam: requests, and what its answers mean.

Why no Kubernetes client library
--------------------------------
lightkube is the smallest that there is for asyncio. Read in its version 1.0.1 (`config/`,
`core/generic_client.py`): its watch has no end on a dead connection, starts again without a pause,
and does not know an answer of 410 as such; an error without a Content-Type becomes a KeyError; a
transport with a bounded pool loses the configured trust; a list of files in KUBECONFIG and exec
plugins that speak v1 are refused; a private key stays in a temporary file; and it stands on httpx2,
for which see `http`. What is left, seven requests on one resource, and others as they are told, is
this module.

What is known after an error
----------------------------
Nothing was sent if there was no connection. An answer tells for certain that a write had no effect
if it is about the request (400 to 429: the server decides these before it writes, or as the result
of the comparison). Any answer of 500 and more may come after the write ("etcdserver: request timed
out", a proxy that lost its upstream), and so may silence: unknown.

Watches have connections of their own, so that they never keep a renewal waiting. Kernel keepalives
end a connection whose other side is gone without a word.
"""

from __future__ import annotations

import contextlib
import copy
import json
import ssl
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlencode, urlsplit

from incumbent.errors import (
    IncumbentError,
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.http import Broken, NotSent, Pool, Response
from incumbent.stores.kubernetes import rbac
from incumbent.stores.kubernetes.api import Change, Conflict, Expired, Kind, Listing, NotFound
from incumbent.stores.kubernetes.config import Connection
from incumbent.stores.kubernetes.resource import LEASES, Resource
from incumbent.stores.kubernetes.wire import Object, trimmed

__all__ = ["Client", "Recorded"]

POOL_CONNECTIONS = 16
_KINDS = {kind.value: kind for kind in Kind}
_OK = range(200, 300)
_Effect = Literal["read", "write"]
_JSON, _MERGE = "application/json", "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Objects with the server's own account of who wrote what, and when, in `managedFields`.

    Attributes:
        items: the objects.
        at: the server's clock at its answer, in whole seconds; None if it did not say.
    """

    items: list[Object]
    at: datetime | None


class Client:
    """The objects of one resource in one namespace of a real API server."""

    def __init__(self, connection: Connection, namespace: str, resource: Resource = LEASES) -> None:
        self.namespace = namespace
        self.resource = resource
        self.url = connection.server
        self._place = urlsplit(connection.server).netloc.rpartition("@")[2]
        self._credentials = connection.credentials
        self._objects = resource.path(namespace)
        server, tls, name = connection.server, connection.tls, connection.tls_name
        self._requests = Pool(server, tls, name, POOL_CONNECTIONS)
        self._watches = Pool(server, tls, name, None)

    def beside(self, resource: Resource, namespace: str = "") -> Client:
        """Return a client for another resource on the same connections, to be closed once."""
        made = copy.copy(self)
        made.resource = resource
        made.namespace = namespace or self.namespace
        made._objects = resource.path(made.namespace)
        return made

    async def get(self, name: str) -> Object:
        """Read one object."""
        return trimmed(await self._ask("get", name, "GET", f"{self._objects}/{name}"))

    async def create(self, obj: Object) -> Object:
        """Create an object."""
        name = obj["metadata"]["name"]
        return trimmed(await self._ask("create", name, "POST", self._objects, obj))

    async def replace(self, obj: Object) -> Object:
        """Replace an object."""
        name = obj["metadata"]["name"]
        return trimmed(await self._ask("update", name, "PUT", f"{self._objects}/{name}", obj))

    async def patch(self, name: str, change: Object) -> Object:
        """Merge a change into an object; a uid or resourceVersion in it is compared."""
        path = f"{self._objects}/{name}"
        return trimmed(await self._ask("patch", name, "PATCH", path, change, content_type=_MERGE))

    async def delete(self, name: str, uid: str, version: str) -> None:
        """Delete an object."""
        preconditions = {"uid": uid, "resourceVersion": version}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        await self._ask("delete", name, "DELETE", f"{self._objects}/{name}", body)

    async def list(self, selector: str = "") -> Listing:
        """Read all objects."""
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        answer = await self._ask("list", "", "GET", self._objects + query)
        return Listing([trimmed(o) for o in answer["items"]], answer["metadata"]["resourceVersion"])

    async def page(self, limit: int, after: str = "") -> tuple[Listing, str]:
        """Read some objects, and return them with what the next page is asked for by; "": the last.

        All pages show one version, that of the first. `Expired`: the server has forgotten it.
        """
        query = {"limit": str(limit), **({"continue": after} if after else {})}
        answer = await self._ask("list", "", "GET", f"{self._objects}?{urlencode(query)}")
        about = answer["metadata"]
        found = Listing([trimmed(o) for o in answer["items"]], about["resourceVersion"])
        return found, about.get("continue", "")

    async def recorded(self) -> Recorded:
        """Read all objects as the server keeps them, and what its own clock says: one request."""
        with _meanings("read", self._place):
            response = await self._send("GET", self._objects, None)
            if response.status in _OK:
                date = response.headers.get(b"date", b"").decode("ascii")
                at = parsedate_to_datetime(date) if date else None
                return Recorded(json.loads(response.body)["items"], at)
        raise self._refusal("list", "", response.status, response.body)

    async def watch(
        self, name: str, version: str, limit_s: float, selector: str = ""
    ) -> AsyncGenerator[Change]:
        """Report what happens."""
        query = {"watch": "1", "allowWatchBookmarks": "1", "timeoutSeconds": str(int(limit_s))}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        if selector:
            query["labelSelector"] = selector
        if version:
            query["resourceVersion"] = version
        path = f"{self._objects}?{urlencode(query)}"
        header, refused = None, False
        with _meanings("read", self._place):
            while True:
                newer = await self._credentials.header(refused=refused)
                if refused and newer in (None, header):
                    raise PermissionDenied(
                        f"the API server {self._place} does not know us any more"
                    )
                header = newer
                stream = self._watches.stream(path, _headers(header, None))
                async with stream as (response, lines):
                    refused = response.status == 401
                    if refused:
                        continue
                    if response.status != 200:
                        raise self._refusal("watch", name, response.status, response.body)
                    yield Change(Kind.OPENED, {})
                    async for line in lines:
                        yield self._change(name, line)
                    return

    async def send(
        self,
        verb: str,
        name: str,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = _JSON,
    ) -> Object:
        """Send any request, about an object of this resource, and return the answer as it is.

        Raises:
            Conflict, NotFound: see `api`; so are the others.
        """
        return await self._ask(verb, name, method, path, body, content_type=content_type)

    async def allowed(self, verb: str, name: str) -> bool:
        """Ask the server's authorizer."""
        attributes = {
            "namespace": self.namespace,
            "verb": verb,
            "group": self.resource.group,
            "resource": self.resource.plural,
            "name": name,
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await self._ask("create", "", "POST", path, review, effect="read")
        return bool(answer["status"]["allowed"])

    async def user(self) -> str:
        """Ask the server who we are to it."""
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self._ask("create", "", "POST", path, review, effect="read")
        return str(answer["status"]["userInfo"]["username"])

    async def namespace_found(self) -> bool:
        """Look for the namespace."""
        try:
            await self._ask("get", "", "GET", f"/api/v1/namespaces/{self.namespace}")
        except NotFound:
            return False
        return True

    async def resource_found(self) -> bool:
        """Look for the group, and for the resource in it: of an unknown group it has no answer."""
        if self.resource.group:
            groups = await self._ask("get", "", "GET", "/apis")
            if all(known["name"] != self.resource.group for known in groups["groups"]):
                return False
        found = await self._ask("get", "", "GET", self.resource.root)
        return any(known["name"] == self.resource.plural for known in found["resources"])

    async def server_version(self) -> str:
        """Ask for the version, which everybody may."""
        return str((await self._ask("get", "", "GET", "/version"))["gitVersion"])

    async def connect(self) -> None:
        """Have a connection ready for the next request."""
        with _meanings("read", self._place):
            await self._requests.connect()

    async def close(self) -> None:
        """Give back every connection."""
        await self._requests.close()
        await self._watches.close()

    # -- one request ------------------------------------------------------------------------------

    async def _ask(
        self,
        verb: str,
        name: str,
        method: str,
        path: str,
        body: Object | None = None,
        effect: _Effect | None = None,
        content_type: str = _JSON,
    ) -> Object:
        if effect is None:
            effect = "read" if body is None else "write"
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        with _meanings(effect, self._place):
            response = await self._send(method, path, content, content_type)
            if response.status in _OK:
                parsed: Object = json.loads(response.body)
                return parsed
        raise self._refusal(verb, name, response.status, response.body, effect)

    async def _send(
        self, method: str, path: str, content: bytes | None, content_type: str = _JSON
    ) -> Response:
        """Send a request; once more only if it was refused for credentials that got old."""
        header = await self._credentials.header(refused=False)
        while True:
            headers = _headers(header, content, content_type)
            response = await self._requests.request(method, path, headers, content)
            if response.status != 401:
                return response
            newer = await self._credentials.header(refused=True)
            if newer is None or newer == header:
                return response
            header = newer

    # -- what an answer means ---------------------------------------------------------------------

    def _refusal(
        self, verb: str, name: str, code: int, answer: bytes, effect: _Effect = "read"
    ) -> Exception:
        text, is_status = _message(answer)
        where = self._place
        match code:
            case 401:
                return PermissionDenied(f"the API server {where} does not know us: {text}")
            case 403 if " cannot " in text and self.resource.plural in text:
                missing = rbac.rule((verb,), name, self.resource)
                return PermissionDenied(
                    f"the API server {where}: {text}; the rule that is missing: {missing}"
                )
            case 403:
                return PermissionDenied(f"the API server {where}: {text}")
            case 404 if is_status:
                return NotFound(text)
            case 409:
                return Conflict(text)
            case 410:
                return Expired(text)
            case 429:
                return StoreUnavailable(f"the API server {where} is too busy (429): {text}")
            case _ if 400 <= code < 500 and is_status:
                return StoreUnusable(
                    f"the API server {where} refused to {verb} {name!r} ({code}): {text}"
                )
            case _:
                return _doubt(effect, f"the API server {where} answered {code}: {text}")

    def _change(self, name: str, line: bytes) -> Change:
        event = json.loads(line)
        kind = _KINDS.get(event["type"])
        if kind is not None:
            return Change(kind, trimmed(event["object"]))
        status = event["object"]
        code = status.get("code") if isinstance(status, dict) else None
        raise self._refusal("watch", name, code or 500, json.dumps(status).encode())


def _headers(
    authorization: str | None, content: bytes | None, content_type: str = _JSON
) -> list[tuple[str, str]]:
    headers = [("Accept", _JSON), ("User-Agent", "incumbent")]
    if content is not None:
        headers.append(("Content-Type", content_type))
    if authorization is not None:
        headers.append(("Authorization", authorization))
    return headers


@contextlib.contextmanager
def _meanings(effect: _Effect, where: str) -> Iterator[None]:
    """Turn the errors of the HTTP client and of the JSON decoder into ours."""
    try:
        yield
    except IncumbentError:
        raise
    except NotSent as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            text = f"the certificate of the API server {where} is not trusted: {error}"
            raise StoreUnusable(text) from None
        raise StoreUnavailable(f"the API server {where} cannot be reached: {error}") from None
    except Broken as error:
        raise _doubt(effect, f"no answer of the API server {where}: {error}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _doubt(
            effect, f"the answer of the API server {where} cannot be understood: {error!r}"
        ) from None


def _doubt(effect: _Effect, text: str) -> IncumbentError:
    return OutcomeUnknown(text) if effect == "write" else StoreUnavailable(text)


def _message(answer: bytes) -> tuple[str, bool]:
    """Return what the answer says, and whether it is in the API server's own words."""
    try:
        status = json.loads(answer)
        return str(status["message"]), status["kind"] == "Status"
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode("utf-8", "replace"), False
