"""The fence of one request, and which answer an outcome has. What ASGI and WSGI share."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from incumbent.errors import StaleToken
from incumbent.fencing.fence import HEADER, Fence

__all__ = ["HEADER", "KEY", "SAFE_METHODS", "Answer", "ReceivedFence", "Rules"]

KEY = "incumbent.fence"
"""Where the handler finds the fence: in ASGI's scope, in WSGI's environ."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""What changes nothing (RFC 9110, 9.2.1), and so needs no token. One that is sent is used."""
LARGEST_TOKEN = 2**63 - 1
"""What every resource can keep."""

logger = logging.getLogger("incumbent")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered instead of what the handler says."""

    status: int
    reason: str
    detail: str

    @property
    def body(self) -> bytes:
        """As `application/problem+json`."""
        problem = {"title": self.reason, "status": self.status, "detail": self.detail}
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
        self.asked = True
        try:
            super()._judge(highest)
        except StaleToken as error:
            self.refused = error
            raise


@dataclass(frozen=True, slots=True)
class Rules:
    """Which requests need a token, and what an outcome is answered with."""

    resource: str
    safe_methods: frozenset[str] = SAFE_METHODS
    unasked: bool = False

    def fence(self, method: str, values: Sequence[str]) -> ReceivedFence | Answer | None:
        """Return the fence of a request whose header has `values`; None if it needs none."""
        if not values:
            if method.upper() in self.safe_methods:
                return None
            detail = f"send the header {HEADER} with the token of the term under which this is done"
            return Answer(428, "Precondition Required", detail)
        text = values[0].strip()
        # `isdecimal` alone would let other scripts' digits through, and leading zeros say nothing.
        good = len(values) == 1 and text.isascii() and text.isdecimal() and len(text) <= 20
        if not good or not 0 < int(text) <= LARGEST_TOKEN:
            detail = f"{HEADER} must be one whole number, from 1 to {LARGEST_TOKEN}"
            return Answer(400, "Bad Request", detail)
        return ReceivedFence(self.resource, int(text))

    def verdict(self, method: str, fence: ReceivedFence | None, status: int) -> Answer | None:
        """Return what must be answered in place of the handler's `status`, or None."""
        if fence is None:
            return None
        if fence.refused is not None:
            return Answer(412, "Precondition Failed", str(fence.refused))
        if self.unasked or fence.asked or status >= 400 or method.upper() in self.safe_methods:
            return None
        logger.error(
            "a handler answered %s with %d, and has never asked the fence of %r: put "
            "`fence.sql(connection)`, or another call of the fence, into its transaction",
            method,
            status,
            self.resource,
        )
        return Answer(500, "Internal Server Error", "the fencing token was not checked")
