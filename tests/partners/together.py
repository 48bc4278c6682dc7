"""All dialogues of one pair at once: most of each is waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from tests.partners.member import Member
from tests.partners.passing import Passed, passes_on

__all__ = ["DIALOGUES", "Together", "play"]

DIALOGUES = [(first, how) for first in ("theirs", "ours") for how in ("release", "crash")]

Pair = Callable[[Path], tuple[Member, Member]]
"""Makes one of theirs and one of ours, on a lock of their own, with their logs in the folder."""


class Together(AbstractContextManager["Together"]):
    """Dialogues under way; each is asked for by who is first, and how it ends."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=8)
        self._played: dict[object, Future[Any]] = {}

    def begin(self, key: object, work: Callable[[], Any]) -> None:
        """Begin `work`, whose result is known as `key`."""
        self._played[key] = self._pool.submit(work)

    def result(self, *key: object) -> Any:
        """Wait for a result, and return it; raises what it raised."""
        return self._played[key].result()

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()


def play(
    pair: Pair, folder: Path, *, beats: int, limit_s: float, dialogues: Iterable[Any] = DIALOGUES
) -> Together:
    """Begin all four dialogues. The result of each is its transcript, and what was passed on."""
    together = Together()

    def one(first: str, how: str) -> tuple[Passed, str]:
        place = folder / f"{first}-{how}"
        place.mkdir()
        theirs, ours = pair(place)
        one, other = (theirs, ours) if first == "theirs" else (ours, theirs)
        passed = passes_on(one, other, how, beats=beats, limit_s=limit_s)
        return passed, passed.transcript(one.name, other.name)

    for first, how in dialogues:
        together.begin((first, how), partial(one, first, how))
    return together
