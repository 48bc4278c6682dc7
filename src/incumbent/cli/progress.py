"""A sign of life on stderr for whatever takes longer than a second.

On a terminal it is one line that is written over each second and goes away at the end; elsewhere a
line after the first second, and then one every five. The first second is silent, so that what is
quick stays clean.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType

from incumbent.clock import boottime

__all__ = ["Progress"]

FIRST_S = 1.0
ELSEWHERE_EVERY = 5


class Progress:
    """Use it as `async with Progress("connecting") as progress:`; set `text` to say more.

    Attributes:
        text: what is going on.
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        self.text = text
        self._quiet = quiet
        self._task: asyncio.Task[None] | None = None
        self._written = False

    async def __aenter__(self) -> Progress:
        """Start to count."""
        if not self._quiet:
            self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the line away."""
        if self._task is not None:
            self._task.cancel()
        self.clear()

    def clear(self) -> None:
        """Take the line away, before something else is written."""
        if self._written and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._written = False

    async def _tick(self) -> None:
        started_s = boottime()
        seconds = 0
        while True:
            await asyncio.sleep(FIRST_S)
            seconds += 1
            line = f"{self.text}, {boottime() - started_s:.0f} s"
            if sys.stderr.isatty():
                print(f"\r\x1b[K{line} ", end="", file=sys.stderr, flush=True)
                self._written = True
            elif seconds % ELSEWHERE_EVERY == 1:
                print(f"incumbent: {line}", file=sys.stderr, flush=True)
