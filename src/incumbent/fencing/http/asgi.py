"""Fencing for applications that speak ASGI (https://asgi.readthedocs.io, version 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from incumbent.fencing import header
from incumbent.fencing.http.received import KEY, SAFE_METHODS, Answer, Rules

__all__ = ["FencingMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class FencingMiddleware:
    """Hands `scope["incumbent.fence"]` to the application, and answers for it when it is refused.

    Only HTTP is looked at: a WebSocket goes through untouched, and finds no fence.

    Args:
        app: the application.
        resource: the name under which the tokens are remembered; see `Fence.resource`.
        safe_methods: the methods that need no token.
        unasked: whether a handler may answer with success without having asked the fence, because
            it asks later (in a background task, say).

    Raises:
        ConfigError: the name is empty, or too long.
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
        fields = (_values(scope, name) for name in (header.TOKEN, header.RESOURCE))
        fence = self._rules.fence(scope["method"], *fields)
        if isinstance(fence, Answer):
            await _answer(send, fence)
            return
        passed = replaced = False

        async def judged(message: Message) -> None:
            nonlocal passed, replaced
            if message["type"] == "http.response.start":
                instead = self._rules.verdict(fence, message["status"])
                if instead is not None:
                    replaced = True
                    await _answer(send, instead)
                    return
                passed = True
            if not replaced:
                await send(message)

        try:
            await self._app({**scope, KEY: fence}, receive, judged)
        except Exception as error:
            told = self._rules.failed(fence, error)
            # What has begun cannot be taken back: the server breaks it off.
            if told is None or passed:
                raise
            # A framework may have answered for its handler, and let the error through as well.
            if not replaced:
                await _answer(send, told)


def _values(scope: Scope, name: str) -> list[str]:
    key = name.lower().encode()
    return [value.decode("latin-1") for field, value in scope["headers"] if field.lower() == key]


async def _answer(send: Send, answer: Answer) -> None:
    headers = [(key.lower().encode(), value.encode()) for key, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
