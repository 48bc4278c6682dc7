"""Periodic jobs for a process of their own, in both faces: they note who runs, and never stop."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO, Any

import incumbent
from incumbent import aio

LOG = "TESTS_ISOLATED_LOG"
"""The variable that says where to."""


_LIVING: list[IO[str]] = []


def _noted(tick: incumbent.Tick) -> None:
    """Write a line, and hold a lock for as long as this process lives: its number says little.

    In a namespace of its own it is another one than we see.
    """
    living = open(f"{os.environ[LOG]}.{tick.token}", "w", encoding="utf-8")  # noqa: SIM115
    fcntl.flock(living, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _LIVING.append(living)
    with open(os.environ[LOG], "a", encoding="utf-8") as log:
        log.write(f"{tick.id} {tick.attempt} {tick.token}\n")


def alive(log: Path, token: int) -> bool:
    """Tell whether the job of that term lives."""
    with open(f"{log}.{token}", encoding="utf-8") as living:
        try:
            fcntl.flock(living, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stubborn(tick: incumbent.Tick) -> None:
    """Go on for ever, whatever the term says."""
    _noted(tick)
    while True:
        time.sleep(60)  # sleep: work that will not stop, whatever anybody tells it


async def stubborn_later(tick: incumbent.Tick) -> None:
    """Do the same on a loop, which nothing else has a turn on."""
    stubborn(tick)


def made(face: str, url: str) -> incumbent.Job[..., Any] | aio.Job[..., Any]:
    """Return the job of a face."""
    if face == "sync":
        return incumbent.every("300ms", name="stubborn", store=url, ttl_s=2, isolate=True)(stubborn)
    later = aio.every("300ms", name="stubborn", store=url, ttl_s=2, isolate=True)
    return later(stubborn_later)
