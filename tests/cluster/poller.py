"""The worker of an application of which only a part is elected: every replica serves, one polls.

    python poller.py FILE ELECTION PORT

Each replica marks that it serves, always; the one that is elected marks that it polls, with its
token, after each `check`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time

import incumbent
from tests.cluster.marks import ACTIVE, EVERY_S, SERVING, listen, mark, open_file

SERVE_EVERY_S = 0.1


def main(arguments: list[str]) -> None:
    path, election, port = arguments
    file = open_file(path)

    def serve() -> None:
        while True:
            mark(file, SERVING, 0)
            time.sleep(SERVE_EVERY_S)  # sleep: this pace is the work

    def poll(term: incumbent.Term) -> None:
        while not term.lost.wait(EVERY_S):
            term.check()
            mark(file, ACTIVE, term.token or 0)

    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    threading.Thread(target=serve, daemon=True).start()
    threading.Thread(target=listen, args=(int(port),), daemon=True).start()
    incumbent.Election(election).lead(poll)


if __name__ == "__main__":
    main(sys.argv[1:])
