"""Fencing for applications that speak ASGI (https://asgi.readthedocs.io, version 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from incumbent.errors import StaleToken
from incumbent.fencing.http.received import HEADER, KEY, SAFE_METHODS, Answer, Rules

__all__ = ["FencingMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class FencingMiddleware:
    """Hands `scope["incumbent.fence"]` to the application, and answers for it when it is refused.

    Only HTTP is looked at: a WebSocket goes through untouched.

    Args:
        app: the application.
        resource: the name under which the tokens are remembered; see `Fence.resource`.
        safe_methods: the methods that need no token.
        unasked: whether a handler may answer with success without having asked the fence, because
            it asks later (in a background task, say).
    """

    def __init__(
        self,
        app: App,
        *,
        resource: str,
        safe_methods: Iterable[str] = SAFE_METHODS,
        unasked: bool = False,
    ) -> None:
        self._app = app
        self._rules = Rules(resource, frozenset(safe_methods), unasked)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        name = HEADER.lower().encode()
        values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
        fence = self._rules.fence(method, values)
        if isinstance(fence, Answer):
            await _answer(send, fence)
            return
        started = replaced = False

        async def judged(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "http.response.start":
                instead = self._rules.verdict(method, fence, message["status"])
                if instead is not None:
                    replaced = started = True
                    await _answer(send, instead)
                    return
                started = True
            if not replaced:
                await send(message)

        try:
            await self._app({**scope, KEY: fence}, receive, judged)
        except StaleToken as error:
            # Another fence than ours may have refused: this service can be a leader itself.
            if started or fence is None or fence.refused is not error:
                raise
            await _answer(send, Answer(412, "Precondition Failed", str(error)))


async def _answer(send: Send, answer: Answer) -> None:
    headers = [(key.lower().encode(), value.encode()) for key, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
