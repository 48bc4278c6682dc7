"""A small client of the API server, of the standard library alone.

Each thread keeps one connection. A request whose connection broke is sent again on a new one, once:
the server may have closed an idle one, and no request here does harm when it is carried out twice.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers.kubernetes import ApiError

__all__ = ["MERGE", "Api", "path_of"]

MERGE = "application/merge-patch+json"
_LIMIT_S = 30.0


class Api:
    """Sends requests to `url` as the user of `token`; `ca_file` is what is trusted."""

    def __init__(self, url: str, ca_file: Path, token: str, *, limit_s: float = _LIMIT_S) -> None:
        self.url = url
        self.ca_file = ca_file
        self.token = token
        self._limit_s = limit_s
        self._context: ssl.SSLContext | None = None
        self._kept = threading.local()
        self._open: set[http.client.HTTPSConnection] = set()

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Return the answer; an error as the answer raises `ApiError`, none raises OSError."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json",
            "Content-Type": content_type,
        }
        content = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request(method, path, content, headers)
                response = connection.getresponse()
                text = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.forget()
                if attempt == 2 or isinstance(error, TimeoutError):
                    raise OSError(f"{method} {path}: {error!r}") from error
        else:
            raise AssertionError("unreachable")
        try:
            answer: dict[str, Any] = json.loads(text)
        except ValueError:
            answer = {"reason": response.reason, "message": text.decode(errors="replace")}
        if response.status >= 400:
            reason = str(answer.get("reason", response.reason))
            raise ApiError(response.status, reason, str(answer.get("message", "")))
        return answer

    def get(self, path: str) -> dict[str, Any]:
        return self.request("GET", path)

    def items(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.request("GET", path)["items"]
        return found

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.request("PATCH", path, body, content_type=MERGE)

    def create(self, thing: Mapping[str, Any], namespace: str = "default") -> dict[str, Any]:
        """Make an object where its kind belongs."""
        return self.request("POST", path_of(thing, namespace), thing)

    def forget(self) -> None:
        """Close this thread's connection, so that the next request opens another one."""
        connection: http.client.HTTPSConnection | None = getattr(self._kept, "connection", None)
        if connection is not None:
            self._open.discard(connection)
            connection.close()
            self._kept.connection = None

    def close(self) -> None:
        """Close the connections of all threads, which send nothing any more."""
        while self._open:
            self._open.pop().close()

    def _connection(self) -> http.client.HTTPSConnection:
        connection: http.client.HTTPSConnection | None = getattr(self._kept, "connection", None)
        if connection is None:
            if self._context is None:
                self._context = ssl.create_default_context(cafile=str(self.ca_file))
            parts = urlsplit(self.url)
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=self._limit_s, context=self._context
            )
            self._kept.connection = connection
            self._open.add(connection)
        return connection


_CLUSTERED = {"ClusterRole", "ClusterRoleBinding", "Namespace", "Node"}


def path_of(thing: Mapping[str, Any], namespace: str = "default", name: str = "") -> str:
    """Return the path of an object's kind, or of one object of that kind."""
    version, kind = str(thing["apiVersion"]), str(thing["kind"])
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = "" if kind in _CLUSTERED else f"/namespaces/{namespace}"
    path = f"{root}{scope}/{kind.lower()}s"
    return f"{path}/{name}" if name else path
