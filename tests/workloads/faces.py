"""The two faces, so that one test runs in both: what it starts, and functions for its calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from incumbent.aio.work import Work as AioWork
from incumbent.sync.work import Work

__all__ = ["FACES", "LIMIT_S", "Face"]

LIMIT_S = 20.0


class Face:
    """Runs work in a thread of its own until `stop`, whatever face it has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: Any = None
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None
        self.result: Any = None

    def func(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call` as this face wants its functions."""
        if self.name == "sync":
            return call

        async def wrapped(*args: Any) -> Any:
            return call(*args)

        return wrapped

    def make(self, *args: Any, **settings: Any) -> Any:
        """Return the work."""
        return (Work if self.name == "sync" else AioWork)(*args, **settings)

    def start(self, work: Any) -> None:
        """Run it."""
        self._work = work
        begun = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(begun,), daemon=True)
        self._thread.start()
        assert begun.wait(LIMIT_S)

    def _serve(self, begun: threading.Event) -> None:
        try:
            if self.name == "sync":
                begun.set()
                self.result = self._work.run()
            else:
                self.result = asyncio.run(self._main(begun))
        except BaseException as error:
            self.failure = error

    async def _main(self, begun: threading.Event) -> Any:
        self._loop = asyncio.get_running_loop()
        begun.set()
        return await self._work.run()

    def step_down(self) -> None:
        """Hand over."""
        self._work.election.step_down()

    def stop(self) -> None:
        """Withdraw, and wait for the end."""
        assert self._thread is not None
        for _ in range(400):
            self._work.election.withdraw()
            self._thread.join(LIMIT_S / 400)
            if not self._thread.is_alive():
                return
        raise AssertionError("it does not end")

    def join(self) -> None:
        """Wait for the end."""
        assert self._thread is not None
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "it does not end"


FACES = ("sync", "aio")
