"""Work in an application that speaks ASGI (https://asgi.readthedocs.io, version 3).

    app = FastAPI(lifespan=lifespan(report, inbox))     # FastAPI, Starlette, Litestar
    app = Working(app, report, inbox)                   # anything else
    app.mount("/internal", status(report, inbox))       # who leads, as JSON

The work begins after the application's own start, and has ended before its shutdown.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from incumbent.aio.work import Work as AioWork
from incumbent.apps.crew import Crew
from incumbent.sync.work import Work

__all__ = ["Working", "lifespan", "status"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(*works: Work | AioWork, around: Lifespan | None = None) -> Lifespan:
    """Return a lifespan, for `FastAPI(lifespan=...)`, in which the work runs.

    Args:
        *works: what runs while the application does.
        around: a lifespan of your own: entered before the work begins and left after it has ended,
            so that what it provides is there for the work.

    Raises:
        ConfigError: one of them is no work, or two have the same name.
    """
    crew = Crew(works)

    @asynccontextmanager
    async def both(app: Any) -> AsyncIterator[Any]:
        if around is None:
            async with _running(crew):
                yield
            return
        async with around(app) as state, _running(crew):
            yield state

    return both


@asynccontextmanager
async def _running(crew: Crew) -> AsyncIterator[None]:
    await crew.start()
    try:
        yield
    finally:
        await crew.stop()


class Working:
    """An application with work beside it, for frameworks that have no lifespan of their own.

    It answers the server's lifespan events if the application does not, and passes on all else.

    Args:
        app: the application.
        *works: what runs while it does.

    Raises:
        ConfigError: one of them is no work, or two have the same name.
    """

    def __init__(self, app: App, *works: Work | AioWork) -> None:
        self._app = app
        self._crew = Crew(works)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the life of the application."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await _Life(self._app, self._crew, receive, send).serve(scope)


class _Life:
    """The lifespan of the application, with the work begun after its start and ended before."""

    def __init__(self, app: App, crew: Crew, receive: Receive, send: Send) -> None:
        self._app = app
        self._crew = crew
        self._receive = receive
        self._send = send
        self._heard = False
        self._running = False

    async def serve(self, scope: Scope) -> None:
        try:
            await self._app(scope, self._hear, self._say)
        except Exception:
            # By the protocol, an application that knows no lifespan raises at it.
            if self._running:
                await self._crew.stop()
            if self._said:
                raise
        if not self._said:
            await self._alone()

    _said = False

    async def _hear(self) -> Message:
        message = await self._receive()
        self._heard = True
        if message["type"] == "lifespan.shutdown":
            await self._end()
        return message

    async def _say(self, message: Message) -> None:
        self._said = True
        if message["type"] == "lifespan.startup.complete":
            message = await self._begun()
        await self._send(message)

    async def _begun(self) -> Message:
        try:
            await self._crew.start()
        except Exception as error:
            return {"type": "lifespan.startup.failed", "message": str(error)}
        self._running = True
        return {"type": "lifespan.startup.complete"}

    async def _end(self) -> None:
        if self._running:
            self._running = False
            await self._crew.stop()

    async def _alone(self) -> None:
        """Answer in the place of an application that knows no lifespan."""
        if not self._heard:
            await self._receive()
        await self._send(await self._begun())
        await self._receive()
        await self._end()
        await self._send({"type": "lifespan.shutdown.complete"})


def status(*works: Work | AioWork) -> App:
    """Return an application that tells, as JSON, what each work is doing in this process.

    It answers with 200 to every GET, whoever leads: it is for people, and for liveness probes of
    the event loop. As a readiness probe it says of every replica that it is ready, which is right.

    Raises:
        ConfigError: one of them is no work, or two have the same name.
    """
    crew = Crew(works)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"incumbent's status has no answer to {scope['type']!r}")
        good = scope["method"] in ("GET", "HEAD")
        body = json.dumps(crew.told() if good else {"error": "use GET"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if not good:
            headers.append((b"allow", b"GET, HEAD"))
        await send(
            {"type": "http.response.start", "status": 200 if good else 405, "headers": headers}
        )
        sent = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": sent})

    return app
