"""The records of the stores on one host's disk: different files, one behaviour.

Whatever a few candidates do to two elections, in whatever order and however old what they go by is,
the tables and the plain files answer alike. Numbers differ; that they grow does not.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.errors import Refused, SessionGone
from incumbent.stores.file.records import FileRecords
from incumbent.stores.local.store import Records
from incumbent.stores.sqlite.tables import Tables

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where nobody waits for a disk."""
NAMES = ("a", "b")
CANDIDATES = 2

Deed = tuple[str, int, str, int]
"""What, who, which election, and how old what it goes by is."""

deeds = st.tuples(
    st.sampled_from(["read", "take", "take", "take", "renew", "release", "ask", "open", "close"]),
    st.integers(0, CANDIDATES - 1),
    st.sampled_from(NAMES),
    st.integers(0, 1),
)


@dataclass
class World:
    """One store, and what its candidates remember."""

    records: Records
    seen: dict[tuple[int, str], list[Snapshot]] = field(default_factory=dict)
    held: dict[tuple[int, str], list[Held]] = field(default_factory=dict)
    leases: dict[int, list[Lease]] = field(default_factory=dict)
    attempts: int = 0
    tokens: list[int] = field(default_factory=list)
    serials: dict[str, list[int]] = field(default_factory=dict)

    def do(self, deed: Deed) -> object:
        """Do something, and return what came of it, without numbers."""
        what, who, name, age = deed
        try:
            return _plain(getattr(self, f"_{what}")(who, name, age))
        except Refused as error:
            return "refused", _plain(error.snapshot)
        except SessionGone:
            return "gone"

    def _read(self, who: int, name: str, age: int) -> Snapshot:
        snapshot = self.records.read(name)
        self.seen.setdefault((who, name), []).append(snapshot)
        self.serials.setdefault(name, []).append(snapshot.serial)
        return snapshot

    def _take(self, who: int, name: str, age: int) -> object:
        over = _aged(self.seen.get((who, name), []), age)
        lease = _aged(self.leases.get(who, []), 0)
        if over is None or lease is None:
            return None
        self.attempts += 1
        claim = Claim(f"c{who}", f"c{who}/r.{self.attempts}", 5.0, lease)
        held = self.records.take(name, claim, over)
        assert self.records.held(name, claim) == held
        self.tokens.append(held.token or 0)
        self.serials.setdefault(name, []).append(held.snapshot.serial)
        self.held.setdefault((who, name), []).append(held)
        self.seen.setdefault((who, name), []).append(held.snapshot)
        return held.snapshot

    def _renew(self, who: int, name: str, age: int) -> object:
        lease = _aged(self.leases.get(who, []), age)
        return None if lease is None else self.records.renew(lease).version

    def _release(self, who: int, name: str, age: int) -> object:
        held = _aged(self.held.get((who, name), []), age)
        return None if held is None else self.records.release(held, f"c{age}")

    def _ask(self, who: int, name: str, age: int) -> object:
        snapshot = _aged(self.seen.get((who, name), []), age)
        if snapshot is None or not snapshot.term:
            return None
        return self.records.ask(name, StepDownRequest(snapshot.term, f"c{who}"))

    def _open(self, who: int, name: str, age: int) -> object:
        leases = self.leases.setdefault(who, [])
        key = f"c{who}-{len(leases)}"
        leases.append(self.records.open_session(key, f"c{who}", 5.0))
        return key

    def _close(self, who: int, name: str, age: int) -> object:
        lease = _aged(self.leases.get(who, []), age)
        if lease is not None:
            self.records.close_session(lease.key)
        return self.records.elections()


def _aged(things: list[Any], age: int) -> Any:
    """Return the last thing, or the one before it, and so on; None if there was none."""
    return things[-1 - age] if len(things) > age else None


def _plain(result: object) -> object:
    if isinstance(result, list):
        return [_plain(one) for one in result]
    if not isinstance(result, Snapshot):
        return result
    return (
        result.name,
        result.holding,
        result.holder,
        result.term,
        result.lease_key,
        # By what absences are told apart is each store's own.
        None if result.holding is Holding.ABSENT else result.lease_version,
        result.successor,
        result.request,
    )


@given(st.lists(deeds, min_size=40, max_size=80))
def test_tables_and_files_answer_alike(story: list[Deed]) -> None:
    makers: list[Callable[[Path], Records]] = [
        lambda folder: Tables(folder / "incumbent.db", "me"),
        lambda folder: FileRecords(folder / "elections.d"),
    ]
    begin: list[Deed] = [("open", who, "a", 0) for who in range(CANDIDATES)]
    begin += [("read", who, name, 0) for who in range(CANDIDATES) for name in NAMES]
    answers = []
    for make in makers:
        with (
            tempfile.TemporaryDirectory(dir=MEMORY) as folder,
            closing(make(Path(folder))) as records,
        ):
            world = World(records)
            answers.append([(deed, world.do(deed)) for deed in [*begin, *story]])
            assert world.tokens == sorted(set(world.tokens))
            assert all(one == sorted(one) for one in world.serials.values())
    assert answers[0] == answers[1]
