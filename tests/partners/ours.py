"""Our member: `python -m tests.partners.ours URL NAME AS TTL_S`. See `member` for its lines.

SIGTERM is heard from the beginning. What is imported is imported after that, and until it holds or
waits the process ends at once: an exception that a signal raises in the middle of an import may be
lost there.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from tests.partners.python.lines import BEAT_S, say

if TYPE_CHECKING:
    from incumbent.runtime.candidacy import Sighting
    from incumbent.runtime.term import Term


def observe(sighting: Sighting) -> None:
    if sighting.event == "standby":
        say("waiting", text=sighting.text)
    elif sighting.event not in ("elected", "stopping", "ended", "closed"):
        say("note", text=sighting.text)


def work(term: Term) -> None:
    say("holding", token=term.token)
    try:
        while not term.lost.wait(BEAT_S):
            term.check()
            say("beat")
    finally:
        say("stopped")


def leave_at_once(_: int, __: FrameType | None) -> None:
    os._exit(0)


def leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def main(url: str, name: str, as_: str, ttl_s: str) -> None:
    signal.signal(signal.SIGTERM, leave_at_once)
    from incumbent.sync import Election

    election = Election(name, store=url, ttl_s=float(ttl_s), as_=as_, observer=observe)
    signal.signal(signal.SIGTERM, leave)
    election.lead(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
