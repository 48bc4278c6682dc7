"""A poller that leads whenever it is elected. End it with Ctrl-C."""

import sys

import incumbent


def poll(term: incumbent.Term) -> None:
    """Look for work once a second, for as long as the term lasts."""
    while not term.lost.wait(1.0):
        term.check()
        print("polling as", term.identity, flush=True)


try:
    incumbent.Election("inbox").lead(poll)
except KeyboardInterrupt:  # By then the work has been stopped, and its term given up.
    sys.exit(130)
