"""One replica: the program that does the work, whatever its kind.

    python -m tests.work.replica KIND SOURCE NAME [--raw] [--planted MISTAKE]

The store and the TTL come from the environment (INCUMBENT_STORE, INCUMBENT_TTL), and so do the
places of the source and of the effects (WORK_SOURCE, WORK_EFFECTS).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import psycopg

import incumbent
from tests.faults.worker import say
from tests.work import raw
from tests.work.effects import INSERT

WORK = "work"
EXACT: dict[str, Any] = {
    "missed": "all",
    "missed_limit": 10_000,
    "on_overrun": "all",
    "on_interrupted": "rerun",
    "reruns": 1000,
    "retries": 1000,
    "backoff_s": 0.05,
}
"""Each tick once, however long it takes."""


class Ticking:
    """What a periodic task does: one row for each tick, known by the tick's own id."""

    def __init__(self, effects: str, replica: str) -> None:
        self._effects, self._replica = effects, replica
        self._db: psycopg.Connection[Any] | None = None

    def __call__(self, tick: incumbent.Tick) -> None:
        if self._db is None or self._db.broken:
            self._db = psycopg.connect(self._effects)
        at_ms = round(tick.due.timestamp() * 1000)
        row = ("ticks", at_ms, str(at_ms), tick.token, self._replica)
        with self._db.transaction():
            if tick.term.fence(WORK).once(self._db, tick.id):
                self._db.execute(INSERT, row)


def _periodic(options: argparse.Namespace, effects: str) -> None:
    if options.source == "cron":
        decide = incumbent.cron("* * * * * *", tz="Europe/Vienna", name=WORK, observer=say, **EXACT)
    else:
        decide = incumbent.every(f"{options.every_ms}ms", name=WORK, observer=say, **EXACT)
    decide(Ticking(effects, options.name)).run()


def _raw(options: argparse.Namespace, effects: str) -> None:
    work = raw.consume(effects, options.name, options.planted)
    # What has a mistake planted is to have the time to make it.
    deadman = options.planted != "unsealed"
    incumbent.Election(WORK, observer=say).lead(work, deadman=deadman)


_KINDS: dict[str, Callable[[argparse.Namespace, str], None]] = {"periodic": _periodic}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.work.replica", description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("source")
    parser.add_argument("name")
    parser.add_argument("--every-ms", type=int, default=500)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--planted", default="")
    options = parser.parse_args(arguments)
    play = _raw if options.raw else _KINDS[options.kind]
    play(options, os.environ["WORK_EFFECTS"])


if __name__ == "__main__":
    main()
