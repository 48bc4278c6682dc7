"""A candidate in a process of its own: `python -m tests.cli.candidate NAME URL AS TTL [HOW]`.

Prints a JSON line for what it hears, and leaves when it is told to by SIGTERM. HOW is "good" (stops
when asked) or "deaf" (does not, and has no dead-man).
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from types import FrameType

from incumbent.runtime.candidacy import Sighting
from incumbent.runtime.term import Term
from incumbent.sync import Election


def say(sighting: Sighting) -> None:
    line = {"event": sighting.event, "identity": sighting.identity, "token": sighting.token}
    print(json.dumps(line), flush=True)


def leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def good(term: Term) -> None:
    term.lost.wait()


def deaf(_: Term) -> None:
    threading.Event().wait()


def main(name: str, url: str, as_: str, ttl_s: str, how: str = "good") -> None:
    signal.signal(signal.SIGTERM, leave)
    election = Election(name, store=url, ttl_s=float(ttl_s), as_=as_, observer=say)
    election.lead(deaf if how == "deaf" else good, deadman=how != "deaf")


if __name__ == "__main__":
    main(*sys.argv[1:])
