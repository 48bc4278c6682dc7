"""A worker that takes its time to end: `python -m tests.operator.slow FILE`.

One that ended at once would be gone before anything new could be made, whatever was waited for.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from tests.cluster.marks import ACTIVE, EVERY_S, mark, open_file

_ENDING_S = 2.0


def main(path: str) -> None:
    file = open_file(path)
    until_s = [float("inf")]

    def end(_signal: int, _frame: object) -> None:
        until_s[0] = min(until_s[0], time.monotonic() + _ENDING_S)

    signal.signal(signal.SIGTERM, end)
    while time.monotonic() < until_s[0]:
        mark(file, ACTIVE, int(os.environ.get("INCUMBENT_TOKEN", "0")))
        time.sleep(EVERY_S)  # sleep: this pace is the work


if __name__ == "__main__":
    main(sys.argv[1])
