"""A poller that leads whenever it is elected. End it with Ctrl-C."""

import signal
import sys

import incumbent


def poll(term: incumbent.Term) -> None:
    """Look for work once a second, for as long as the term lasts."""
    while not term.lost.wait(1.0):
        term.check()
        print("polling as", term.identity, flush=True)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    incumbent.Election("inbox").lead(poll)
except KeyboardInterrupt:  # By then the work has been stopped, and its term given up.
    sys.exit(130)
