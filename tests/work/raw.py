"""A consumer of the queue table that is written by hand, to try the nemesis and the checker on.

With nothing planted it is exact: each item in a transaction that seals, reads how far the work has
come, writes the effect and the new place. Planted are the mistakes that people make:

- `unsealed`: the place is remembered in the process, and the token is not looked at; nor is the
  end of the term, for a while;
- `ahead`: the place is committed before the effect.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import psycopg

import incumbent
from tests.work.effects import INSERT, QUEUE

__all__ = ["PLANTED", "consume"]

EMPTY_S = 0.02
AWAY_S = 0.1
DEAF_S = 0.2
_PLACE = "CREATE TABLE IF NOT EXISTS place (one int PRIMARY KEY, position bigint NOT NULL)"
_MOVE = """\
INSERT INTO place VALUES (1, %s) ON CONFLICT (one) DO UPDATE SET position = excluded.position
"""

Connection = psycopg.Connection[Any]


def consume(effects: str, replica: str, planted: str) -> Callable[[incumbent.Term], None]:
    """Return the work."""
    step = _STEPS[planted]

    def work(term: incumbent.Term) -> None:
        memory: list[int] = []
        while not term.lost.wait(0):
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(effects) as db:
                db.execute(_PLACE)
                db.commit()
                told_at: float | None = None
                while told_at is None or time.monotonic() < told_at + DEAF_S:
                    if told_at is None and term.lost.wait(0):
                        told_at = time.monotonic()
                        if planted != "unsealed":
                            break
                    if not step(db, term, replica, memory):
                        term.lost.wait(EMPTY_S)
            term.lost.wait(AWAY_S)

    return work


def _exact(db: Connection, term: incumbent.Term, replica: str, memory: list[int]) -> bool:
    with db.transaction():
        term.fence("raw").sql(db)
        found = _next(db, _place(db))
        if found is not None:
            _write(db, found, term, replica)
            db.execute(_MOVE, (found[0],))
    return found is not None


def _unsealed(db: Connection, term: incumbent.Term, replica: str, memory: list[int]) -> bool:
    with db.transaction():
        if not memory:
            memory.append(_place(db))
        found = _next(db, memory[0])
        if found is not None:
            _write(db, found, term, replica)
            db.execute(_MOVE, (found[0],))
    if found is not None:
        memory[0] = found[0]
    return found is not None


def _ahead(db: Connection, term: incumbent.Term, replica: str, memory: list[int]) -> bool:
    with db.transaction():
        term.fence("raw").sql(db)
        found = _next(db, _place(db))
        if found is not None:
            db.execute(_MOVE, (found[0],))
    if found is not None:
        with db.transaction():
            _write(db, found, term, replica)
    return found is not None


_STEPS = {"": _exact, "unsealed": _unsealed, "ahead": _ahead}
PLANTED = tuple(name for name in _STEPS if name)


def _place(db: Connection) -> int:
    found = db.execute("SELECT position FROM place").fetchone()
    return -1 if found is None else int(found[0])


def _next(db: Connection, after: int) -> tuple[int, str] | None:
    # Safe as a cursor here: the numbers are the producer's, who is alone and commits in order.
    found = db.execute(
        f"SELECT id, body FROM {QUEUE} WHERE id > %s ORDER BY id LIMIT 1", (after,)
    ).fetchone()
    return None if found is None else (int(found[0]), str(found[1]))


def _write(db: Connection, found: tuple[int, str], term: incumbent.Term, replica: str) -> None:
    item = json.loads(found[1])
    db.execute(INSERT, (item["lane"], item["position"], item["item"], term.token, replica))
