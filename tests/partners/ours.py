"""Our member: `python -m tests.partners.ours URL NAME AS TTL_S`. See `member` for its lines."""

from __future__ import annotations

import json
import signal
import sys
import time
from types import FrameType
from typing import Any

from incumbent.runtime.candidacy import Sighting
from incumbent.runtime.term import Term
from incumbent.sync import Election

BEAT_S = 0.1


def say(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **more}), flush=True)


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


def leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def main(url: str, name: str, as_: str, ttl_s: str) -> None:
    signal.signal(signal.SIGTERM, leave)
    Election(name, store=url, ttl_s=float(ttl_s), as_=as_, observer=observe).lead(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
