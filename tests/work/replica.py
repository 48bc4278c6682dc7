"""One replica: the program that does the work, whatever its kind.

    python -m tests.work.replica KIND SOURCE NAME [--raw] [--planted MISTAKE]

The store and the TTL come from the environment (INCUMBENT_STORE, INCUMBENT_TTL), and so do the
places of the source and of the effects (WORK_SOURCE, WORK_EFFECTS).
"""

from __future__ import annotations

import argparse
import os

import incumbent
from tests.faults.worker import say
from tests.work import raw

ELECTION = "work"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.work.replica", description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("source")
    parser.add_argument("name")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--planted", default="")
    options = parser.parse_args(arguments)
    effects = os.environ["WORK_EFFECTS"]
    work = raw.consume(effects, options.name, options.planted)
    # What has a mistake planted is to have the time to make it.
    deadman = options.planted != "unsealed"
    incumbent.Election(ELECTION, observer=say).lead(work, deadman=deadman)


if __name__ == "__main__":
    main()
