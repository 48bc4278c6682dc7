"""Fencing for applications that speak WSGI (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from incumbent.errors import StaleToken
from incumbent.fencing.http.received import HEADER, KEY, SAFE_METHODS, Answer, ReceivedFence, Rules

__all__ = ["FencingMiddleware"]

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

_VARIABLE = "HTTP_" + HEADER.upper().replace("-", "_")


class FencingMiddleware:
    """Hands `environ["incumbent.fence"]` to the application, and answers for it when it is refused.

    Args:
        app: the application.
        resource: the name under which the tokens are remembered; see `Fence.resource`.
        safe_methods: the methods that need no token.
        unasked: whether a handler may answer with success without having asked the fence, because
            it asks later (in a task of its own, say).
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
        method = environ["REQUEST_METHOD"]
        values = [environ[_VARIABLE]] if _VARIABLE in environ else []
        fence = self._rules.fence(method, values)
        if isinstance(fence, Answer):
            return _answer(start_response, fence)
        start = _Start(start_response, self._rules, method, fence)
        try:
            return start.judged(self._app({**environ, KEY: fence}, start))
        except StaleToken as error:
            # Another fence than ours may have refused: this service can be a leader itself.
            if start.sent or fence is None or fence.refused is not error:
                raise
            return _answer(start_response, Answer(412, "Precondition Failed", str(error)))


class _Start:
    """The application's `start_response`: what it says is passed on, unless we answer instead."""

    def __init__(
        self, start: StartResponse, rules: Rules, method: str, fence: ReceivedFence | None
    ) -> None:
        self._start = start
        self._rules = rules
        self._method = method
        self._fence = fence
        self.sent = False
        self.instead: Answer | None = None

    def __call__(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        self.instead = self._rules.verdict(self._method, self._fence, int(status[:3]))
        if self.instead is not None:
            return lambda _: None
        self.sent = True
        return self._start(status, headers, *([exc_info] if exc_info is not None else []))

    def judged(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return `body`, or what is answered instead of it.

        An application may begin its answer only when it is asked for the first piece.
        """
        if not self.sent and self.instead is None:
            body = _Begun(body)
        if self.instead is None:
            return body
        _close(body)
        return _answer(self._start, self.instead)


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


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _answer(start_response: StartResponse, answer: Answer) -> Iterable[bytes]:
    start_response(f"{answer.status} {answer.reason}", answer.headers)
    return [answer.body]
