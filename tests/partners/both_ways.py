"""All four dialogues of a pair at once: who begins, and how it ends. They mostly wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.partners.member import Member
from tests.partners.passing import Passed, passes_on

__all__ = ["DIALOGUES", "Makes", "all_pass_on"]

Makes = Callable[[str], tuple[Member, Member]]
"""Returns a member of ours and one of theirs, on a lock of this name that nobody has used."""

DIALOGUES = tuple((who, how) for who in ("ours", "theirs") for how in ("release", "crash"))


def all_pass_on(makes: Makes, *, beats: int, limit_s: float) -> dict[tuple[str, str], Passed]:
    """Play the four dialogues, and return what was said, by who began and how it ended."""

    def play(who: str, how: str) -> Passed:
        ours, theirs = makes(f"{who}-{how}")
        first, second = (ours, theirs) if who == "ours" else (theirs, ours)
        passed = passes_on(first, second, how, beats=beats, limit_s=limit_s)
        print(f"-- {who} first, {how}\n{passed.transcript(first.name, second.name)}", flush=True)
        return passed

    with ThreadPoolExecutor(len(DIALOGUES)) as pool:
        plays = {dialogue: pool.submit(play, *dialogue) for dialogue in DIALOGUES}
        return {dialogue: played.result() for dialogue, played in plays.items()}
