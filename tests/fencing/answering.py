"""A service around one handler, in this process: what its middleware makes of a request.

Every WSGI call is checked by the standard library's validator, on both sides of the middleware.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from incumbent.fencing.header import RESOURCE, TOKEN
from incumbent.fencing.http import KEY, ReceivedFence, asgi, wsgi

NAME = "ledger"
Handler = Callable[[ReceivedFence | None], int]


@dataclass
class Answered:
    """What a client gets."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        assert int(self.headers["content-length"]) == len(self.body)
        said = json.loads(self.body)
        assert said["status"] == self.status
        return str(said["detail"])


@dataclass
class Service:
    """An application around one handler, which gives the status of its answer.

    `reports`: it makes a 500 of an error, and lets that through as well, as frameworks do.
    """

    kind: str
    handler: Handler
    options: dict[str, Any] = field(default_factory=dict)
    lazy: bool = False
    reports: bool = False
    closed: int = 0

    def request(
        self, *tokens: str, method: str = "POST", names: Sequence[str] = (NAME,)
    ) -> Answered:
        """Send a request with so many fields of a kind; without a token, with none."""
        return (self._wsgi if self.kind == "wsgi" else self._asgi)(
            method, {TOKEN: tokens, RESOURCE: names} if tokens else {}
        )

    def _wsgi(self, method: str, fields: Mapping[str, Sequence[str]]) -> Answered:
        service = self

        class Body:
            def __init__(self, start: Callable[[], None] | None) -> None:
                self._start = start

            def __iter__(self) -> Iterator[bytes]:
                if self._start is not None:
                    self._start()
                yield b"do"
                yield b"ne"

            def close(self) -> None:
                service.closed += 1

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            def start() -> None:
                headers = [("Content-Type", "text/plain")]
                try:
                    status = service.handler(environ[KEY])
                except Exception:
                    if service.reports:
                        start_response("500 Oh", headers, sys.exc_info())
                    raise
                start_response(f"{status} Whatever", headers)

            if service.lazy:
                return Body(start)
            start()
            return Body(None)

        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ |= {"REQUEST_METHOD": method, "QUERY_STRING": ""}
        for name, values in fields.items():
            if values:
                environ["HTTP_" + name.upper().replace("-", "_")] = ",".join(values)
        said: list[Any] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            said.append((int(status[:3]), {key.lower(): value for key, value in headers}))
            return lambda _: None

        middleware = wsgi.FencingMiddleware(
            validator(app),
            resource=NAME,
            **self.options,
        )
        answered = validator(middleware)(environ, start_response)
        with closing(answered):  # type: ignore[type-var]
            body = b"".join(answered)
        ((status, headers),) = said
        return Answered(status, headers, body)

    def _asgi(self, method: str, fields: Mapping[str, Sequence[str]]) -> Answered:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            start = {"type": "http.response.start", "headers": []}
            try:
                status = self.handler(scope[KEY])
            except Exception:
                if self.reports:
                    await send({**start, "status": 500})
                    await send({"type": "http.response.body", "body": b"oh"})
                raise
            await send({**start, "status": status})
            await send({"type": "http.response.body", "body": b"do", "more_body": True})
            await send({"type": "http.response.body", "body": b"ne"})

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [
            (name.lower().encode(), value.encode("latin-1"))
            for name, values in fields.items()
            for value in values
        ]
        scope = {"type": "http", "method": method, "headers": headers}
        middleware = asgi.FencingMiddleware(app, resource=NAME, **self.options)
        asyncio.run(middleware(scope, receive, send))
        start, *bodies = sent
        assert {body["type"] for body in bodies} == {"http.response.body"}
        assert not bodies[-1].get("more_body")
        return Answered(
            start["status"],
            {key.decode(): value.decode() for key, value in start["headers"]},
            b"".join(body["body"] for body in bodies),
        )
