"""The fence of one request, and which answer an outcome has. What ASGI and WSGI share."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from incumbent.errors import ConfigError, StaleToken
from incumbent.fencing import header
from incumbent.fencing.fence import LONGEST_NAME, Fence

__all__ = ["KEY", "SAFE_METHODS", "Answer", "ReceivedFence", "Rules"]

KEY = "incumbent.fence"
"""Where the handler finds the fence: in ASGI's scope, in WSGI's environ. None without a token."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""What changes nothing (RFC 9110, 9.2.1), and so needs no token. One that is sent is used."""

_SENT_ON = {307, 308}
"""Nothing was done, and the request is to be sent elsewhere: as good as a failure, here."""

logger = logging.getLogger("incumbent")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered instead of what the handler says."""

    status: int
    reason: str
    detail: str
    type: str = "about:blank"

    @property
    def body(self) -> bytes:
        """As `application/problem+json`."""
        problem = {
            "type": self.type,
            "title": self.reason,
            "status": self.status,
            "detail": self.detail,
        }
        return json.dumps(problem).encode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Of the response; nobody may keep it."""
        return [
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
        ]


class ReceivedFence(Fence):
    """The fence of the request's token. Use it as a leader does: first in every transaction.

    Attributes:
        asked: whether the handler has put it into a write or a read.
        refused: the refusal, if there was one.
    """

    __slots__ = ("asked", "refused")

    def __init__(self, resource: str, token: int) -> None:
        super().__init__(resource, token, self._trusted_by_whoever_sent_it)
        self.asked = False
        self.refused: StaleToken | None = None

    def _trusted_by_whoever_sent_it(self) -> None:
        """Check nothing: whether the term goes on is the sender's to know, and he has asked."""

    def _judge(self, highest: int) -> None:
        with self._noted():
            super()._judge(highest)

    def http_result(self, status: int, body: bytes | str) -> None:
        """Return, unless the service to which the request was passed on has refused the token.

        Raises:
            StaleToken: a later leader was there, and nothing was changed.
        """
        with self._noted():
            super().http_result(status, body)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        self.asked = True
        try:
            yield
        except StaleToken as error:
            self.refused = error
            raise


@dataclass(frozen=True, slots=True)
class Rules:
    """Which requests need a token, and what an outcome is answered with."""

    resource: str
    safe_methods: frozenset[str] = SAFE_METHODS
    unasked: bool = False

    def __post_init__(self) -> None:
        if not 0 < len(self.resource) <= LONGEST_NAME:
            raise ConfigError(f"resource {self.resource!r}: use 1 to {LONGEST_NAME} characters")

    def fence(
        self, method: str, tokens: Sequence[str], resources: Sequence[str]
    ) -> ReceivedFence | Answer | None:
        """Return the fence of a request that has these fields; None if it needs none."""
        if not tokens:
            if method.upper() in self.safe_methods:
                return None
            return Answer(
                428,
                "Precondition Required",
                f"send {header.TOKEN} with the token of the term under which this is done, and "
                f"{self._name}",
            )
        # The whitespace around a value is none of it, and not every server takes it off.
        token = header.read(tokens[0].strip(" \t")) if len(tokens) == 1 else None
        if token is None:
            return _bad(f"{header.TOKEN} must be one whole number, 1 to {header.LARGEST_TOKEN}")
        if [name.strip(" \t") for name in resources] != [header.spelled(self.resource)]:
            return _bad(f"the token must be for what is protected here: send {self._name}, once")
        return ReceivedFence(self.resource, token)

    def verdict(self, fence: ReceivedFence | None, status: int) -> Answer | None:
        """Return what must be answered in place of the handler's `status`, or None.

        A safe method is no exception: whoever sends a token with a read wants the resource sealed
        before it is read, and would believe that it was.
        """
        if fence is None:
            return None
        if fence.refused is not None:
            if status < 400:
                logger.error(
                    "a handler answered with %d though the fence of %r has refused: it has caught "
                    "StaleToken, which protects nothing if that was inside its transaction",
                    status,
                    self.resource,
                )
            return stale(fence.refused)
        if self.unasked or fence.asked or status >= 400 or status in _SENT_ON:
            return None
        logger.error(
            "a handler answered with %d, and has never asked the fence of %r: put "
            "`fence.sql(connection)`, or another call of the fence, into its transaction",
            status,
            self.resource,
        )
        return Answer(500, "Internal Server Error", "the fencing token was not checked")

    def failed(self, fence: ReceivedFence | None, error: Exception) -> Answer | None:
        """Return what is answered to a request whose handler raised; None: that is not ours.

        A refusal may come wrapped, or be followed by another error; the token is old either way.
        A `StaleToken` of another fence is not ours: this service can be a leader itself.
        """
        if fence is None or fence.refused is None:
            return None
        if error is not fence.refused:
            logger.error("after a refusal by the fence of %r", self.resource, exc_info=error)
        return stale(fence.refused)

    @property
    def _name(self) -> str:
        return f"{header.RESOURCE}: {header.spelled(self.resource)}"


def stale(refused: StaleToken) -> Answer:
    """Return the answer to an old leader."""
    return Answer(412, "Precondition Failed", str(refused), header.STALE)


def _bad(detail: str) -> Answer:
    return Answer(400, "Bad Request", detail)
