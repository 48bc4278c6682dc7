"""Whether the thread that keeps this process's leases still turns: the answer to a liveness probe.

Whoever asks over HTTP has seen already that the application's own loop or worker answers. A keeper
that hangs cannot be elected nor renew; its work is ended and taken over whatever a probe says, and
only a restart makes a candidate of this process again. Nothing here asks the store, nor who leads:
a store that does not answer, or a leader elsewhere, is no reason to restart a replica.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from incumbent.runtime.keeper import Keeper

__all__ = ["pulse", "pulse_async"]

ANSWER_S = 0.9
"""Less than the second after which a kubelet gives up, if it is told nothing else."""

Answer = tuple[int, dict[str, Any]]

_ALIVE: Answer = (200, {"alive": True})
_SILENT: Answer = (503, {"alive": False, "error": "incumbent's own thread does not answer"})


def pulse() -> Answer:
    """Return the status and the body of an answer, from a thread that may wait."""
    asked = _ask()
    try:
        asked.result(ANSWER_S)
    except TimeoutError:
        asked.cancel()
        return _SILENT
    return _ALIVE


async def pulse_async() -> Answer:
    """Return the same on an event loop."""
    try:
        await asyncio.wait_for(asyncio.wrap_future(_ask()), ANSWER_S)
    except TimeoutError:
        return _SILENT
    return _ALIVE


def _ask() -> Future[None]:
    return Keeper.current().submit(asyncio.sleep(0))
