"""Fencing for applications that speak WSGI (PEP 3333)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from incumbent.fencing import header
from incumbent.fencing.http.received import KEY, SAFE_METHODS, Answer, ReceivedFence, Rules

__all__ = ["FencingMiddleware"]

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class FencingMiddleware:
    """Hands `environ["incumbent.fence"]` to the application, and answers for it when it is refused.

    Args:
        app: the application.
        resource: the name under which the tokens are remembered; see `Fence.resource`.
        safe_methods: the methods that need no token.
        unasked: whether a handler may answer with success without having asked the fence, because
            it asks later (in a task of its own, say).

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

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        fields = (_values(environ, name) for name in (header.TOKEN, header.RESOURCE))
        fence = self._rules.fence(environ["REQUEST_METHOD"], *fields)
        if isinstance(fence, Answer):
            return _answer(start_response, fence)
        start = _Start(start_response, self._rules, fence)
        try:
            return start.judged(self._app({**environ, KEY: fence}, start))
        except Exception as error:
            told = self._rules.failed(fence, error)
            if told is None:
                raise
            # If the answer has begun, the server raises the error again, and breaks it off.
            return _answer(start_response, told, sys.exc_info())


class _Start:
    """The application's `start_response`: what it says is passed on, unless we answer instead."""

    def __init__(self, start: StartResponse, rules: Rules, fence: ReceivedFence | None) -> None:
        self._start = start
        self._rules = rules
        self._fence = fence
        self._said = False
        self._judged = False
        self._instead: Answer | None = None
        self._exc_info: Any = None

    def __call__(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        more = [] if exc_info is None else [exc_info]
        if self._judged:
            # Its body is on the way, and ours cannot be put in its place: what it says of an error
            # is the server's to pass on, or to break off.
            return self._start(status, headers, *more)
        self._exc_info = exc_info
        self._instead = self._rules.verdict(self._fence, int(status[:3]))
        if self._instead is not None:
            return lambda _: None
        self._said = True
        return self._start(status, headers, *more)

    def judged(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return `body`, or what is answered instead of it.

        An application may begin its answer only when it is asked for the first piece.
        """
        if not self._said and self._instead is None:
            body = _Begun(body)
        self._judged = True
        if self._instead is None:
            return body
        _close(body)
        return _answer(self._start, self._instead, self._exc_info)


class _Begun:
    """A body whose first piece was asked for."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        self._rest = iter(body)
        try:
            self._first = [next(self._rest)]
        except StopIteration:
            self._first = []
        except BaseException:
            _close(body)
            raise

    def __iter__(self) -> Iterator[bytes]:
        yield from self._first
        yield from self._rest

    def close(self) -> None:
        _close(self._body)


def _values(environ: Environ, name: str) -> list[str]:
    """Return what was sent; of several fields the server has made one value, with commas."""
    variable = "HTTP_" + name.upper().replace("-", "_")
    return [environ[variable]] if variable in environ else []


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _answer(start_response: StartResponse, answer: Answer, exc_info: Any = None) -> Iterable[bytes]:
    more = [] if exc_info is None else [exc_info]
    start_response(f"{answer.status} {answer.reason}", answer.headers, *more)
    return [answer.body]
