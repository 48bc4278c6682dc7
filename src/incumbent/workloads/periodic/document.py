"""What is noted of one periodic task: which tick it has come to, what runs, and what has run.

One small document in JSON, in a checkpoint that is sealed with the token of the term. It has a
version; one of another version is left alone: whoever reads half of it would run a tick twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

from incumbent.errors import StoreUnusable
from incumbent.stores.api import MAX_CHECKPOINT_BYTES
from incumbent.workloads.periodic.stretches import Stretch
from incumbent.workloads.reason import LONGEST

__all__ = ["PENDING", "RETRY", "RUNNING", "Document", "Row", "Run"]

FORMAT = 1
_BARRING = 2
"""The format of a document with barred stretches, or with a run that was put aside: who does not
know of them would claim twice, or never."""
RUNNING, RETRY, PENDING = "running", "retry", "pending"
_TEXT_CHARACTERS = 120
_ROOM_BYTES = MAX_CHECKPOINT_BYTES - 2_000


@dataclass(frozen=True, slots=True)
class Run:
    """The run that was claimed, and of which no end is noted yet.

    Attributes:
        id: of its tick, or of the order to run now.
        due_ms: when it was due.
        attempt: 1 for the first; it counts retries and reruns alike.
        token: of the term that claimed it.
        begun_ms: what the wall clock showed there.
        state: RUNNING; RETRY if the last attempt failed and there shall be another; PENDING if it
            was claimed, and given back before it was begun.
        failures: how many attempts have failed.
        interruptions: how many were cut short by the end of a term.
        order: the serial number of the order to run now; 0 for a tick.
        text: what the last failure said.
    """

    id: str
    due_ms: int
    attempt: int = 1
    token: int = 0
    begun_ms: int = 0
    state: str = RUNNING
    failures: int = 0
    interruptions: int = 0
    order: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the history.

    Attributes:
        id: of the tick, or of the order; of several ticks that were dropped, the last.
        due_ms: when it was due.
        attempt: which attempt it was.
        token: of the term.
        begun_ms: what the wall clock showed when it began.
        took_ms: how long it took.
        outcome: "done", "failed", "timed out" or "interrupted" of a run; "missed", "overrun" or
            "paused" of ticks that were not run.
        text: what was raised.
        count: how many ticks were dropped; 0 if they were too many to be counted.
    """

    id: str
    due_ms: int
    attempt: int
    token: int
    begun_ms: int
    took_ms: int
    outcome: str
    text: str = ""
    count: int = 1


# Not `astuple`, which copies each field in depth: that was a quarter of the work of a tick.
_RUN = attrgetter(*(one.name for one in fields(Run)))
_ROW = attrgetter(*(one.name for one in fields(Row)))


@dataclass(frozen=True, slots=True)
class Document:
    """All that is noted of one task.

    Attributes:
        rule: its schedule, as text; another one begins anew.
        through_ms: every tick up to here was run, claimed or dropped; none of them is begun again.
        run: what was claimed and has no end yet.
        paused: whether it was found to be paused.
        served: the serial number of the last order to run now that was claimed.
        next_ms: when it is due next, for people.
        rows: the history, the oldest first.
        free: stretches of ticks that were never claimed: see `stretches`.
        barred: stretches in which no tick is claimed any more.
        rewound: the last order to begin at the present that was obeyed.
        since_ms: since when it is paused, if it is.
        held: a tick that was claimed and has no end, put aside for an order during a pause.
    """

    rule: str = ""
    through_ms: int = 0
    run: Run | None = None
    paused: bool = False
    served: int = 0
    next_ms: int | None = None
    rows: tuple[Row, ...] = field(default=())
    free: tuple[Stretch, ...] = ()
    barred: tuple[Stretch, ...] = ()
    rewound: str = ""
    since_ms: int = 0
    held: Run | None = None

    def with_row(self, row: Row) -> Document:
        """Return it with one more line of history."""
        text = " ".join(row.text.split())[:_TEXT_CHARACTERS]
        return replace(self, rows=(*self.rows, replace(row, text=text)))

    def encode(self, history: int) -> bytes:
        """Return it as it is kept, with the last `history` lines, or as many as find room.

        The texts of its runs are bounded, as those of its lines are: without lines it finds room.
        """
        rows = self.rows[-history:] if history else ()
        while True:
            data = json.dumps(self._plain(rows), separators=(",", ":"), ensure_ascii=False)
            encoded = data.encode("utf-8", "replace")
            if len(encoded) <= _ROOM_BYTES or not rows:
                return encoded
            rows = rows[len(rows) // 8 + 1 :]

    def _plain(self, rows: tuple[Row, ...]) -> dict[str, Any]:
        return {
            "v": _BARRING if self.barred or self.held else FORMAT,
            "rule": self.rule,
            "through": self.through_ms,
            "run": _run(self.run),
            "paused": self.paused,
            "served": self.served,
            "next": self.next_ms,
            "rows": [_ROW(row) for row in rows],
            "free": self.free,
            "barred": self.barred,
            "rewound": self.rewound,
            "since": self.since_ms,
            "held": _run(self.held),
        }

    @classmethod
    def decode(cls, value: bytes, where: str) -> Document:
        """Return what was kept; an empty one if nothing was.

        Raises:
            StoreUnusable: it cannot be understood.
        """
        if not value:
            return cls()
        try:
            data = json.loads(value)
            if data["v"] not in (FORMAT, _BARRING):
                raise ValueError(f"its version is {data['v']!r}, and this one knows {_BARRING}")
            run, held = data["run"], data.get("held")
            return cls(
                rule=str(data["rule"]),
                through_ms=int(data["through"]),
                run=Run(*run) if run else None,
                paused=bool(data["paused"]),
                served=int(data["served"]),
                next_ms=data["next"],
                rows=tuple(Row(*row) for row in data["rows"]),
                free=_stretches(data.get("free", ())),
                barred=_stretches(data.get("barred", ())),
                rewound=str(data.get("rewound", "")),
                since_ms=int(data.get("since", 0)),
                held=Run(*held) if held else None,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StoreUnusable(
                f"what is noted in {where} cannot be understood, and is left alone: {error}. "
                "Upgrade this program, or give the work another name"
            ) from error


def _run(run: Run | None) -> tuple[Any, ...] | None:
    return None if run is None else _RUN(replace(run, text=run.text[:LONGEST]))


def _stretches(found: Any) -> tuple[Stretch, ...]:
    return tuple((int(begin_ms), int(end_ms)) for begin_ms, end_ms in found)
