"""Work for `lead`, importable by name, so that it can run in a process of its own."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import threading
from dataclasses import dataclass
from typing import Any

from incumbent import Election, LeadershipLost, NotElected, Term
from tests.faces.programs import MARK_EVERY_S, Mark


def answer(term: Term) -> tuple[str, int | None, int]:
    term.check()
    return (term.name, term.token, os.getpid())


def fail(term: Term) -> None:
    raise ValueError("it failed")


def unpicklable(term: Term) -> object:
    return threading.Lock()


class TwoParts(Exception):
    """Can be packed, and cannot be made again from what was packed."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def fail_in_two_parts(term: Term) -> None:
    raise TwoParts("one", "two")


def leave(term: Term) -> None:
    os._exit(7)


async def answer_later(term: Term) -> str:
    await asyncio.sleep(0)
    return term.name


@dataclass(frozen=True)
class Marking:
    """Marks until it is told to stop; `deaf`, until it is killed."""

    path: str
    deaf: bool = False
    once: bool = False

    def __call__(self, term: Term) -> str:
        mark = Mark(self.path, term.token)
        never = threading.Event()
        mark()
        while self.deaf or not term.lost.is_set():
            if not self.deaf:
                try:
                    term.check()
                except LeadershipLost:
                    break
            mark()
            (never if self.deaf else term.lost).wait(MARK_EVERY_S)
        if self.once:
            term.check()
        return "stopped"


@dataclass(frozen=True)
class GilHolder:
    """Marks once, then keeps the interpreter's lock for good, deaf to everything."""

    path: str

    def __call__(self, term: Term) -> None:
        Mark(self.path, term.token)()
        hold_the_gil()


@dataclass(frozen=True)
class OnceDeaf:
    """Deaf in the first term; in the next it answers."""

    path: str

    def __call__(self, term: Term) -> Any:
        if not os.path.exists(self.path):
            GilHolder(self.path)(term)
        return answer(term)


@dataclass(frozen=True)
class CancelledLater:
    """Says that it waits; when it is cancelled, it marks, and ends."""

    path: str

    async def __call__(self, term: Term) -> None:
        mark = Mark(self.path, term.token)
        mark()
        try:
            await asyncio.Event().wait()
        finally:
            mark()


def hold_the_gil() -> None:
    """Keep the interpreter's lock for good: PyDLL does not give it up."""
    ctypes.PyDLL(None).pause()
    while True:
        ctypes.PyDLL(None).sleep(1000)


@dataclass(frozen=True)
class UntilGone:
    """Makes a file and goes on, checking, until somebody removes it."""

    path: str

    def __call__(self, term: Term) -> str:
        with open(self.path, "w"):
            pass
        never = threading.Event()
        while os.path.exists(self.path):
            term.check()
            never.wait(MARK_EVERY_S)
        for _ in range(50):
            term.check()
            never.wait(MARK_EVERY_S)
        return "still trusted"


def try_to_lead(url: str) -> str:
    try:
        with Election("e", store=url, ttl_s=3).hold(timeout_s=0) as term:
            term.check()
            return "elected"
    except NotElected:
        return "not elected"


def sleeper(term: Term) -> subprocess.Popen[bytes]:
    """Start a program that does nothing but keep the descriptors of the term."""
    null = subprocess.DEVNULL
    return subprocess.Popen(
        ["sleep", "100"], pass_fds=term.pass_fds, stdin=null, stdout=null, stderr=null
    )
