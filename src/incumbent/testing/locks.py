"""The reference lock of another library, in memory: for the rules of `stores.beside`.

Manner.LAPSES    the lock lapses by the server's clock, as a key of Redis does
Manner.SESSION   the same, and then nobody has it for a while, as Consul's lock-delay has it
Manner.PROCESS   it ends with the process that has it as well, as a lock of the kernel does, and
                 a free lock ends the term of the record, if it is the lock that this term had
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from incumbent.stores.api import Finding
from incumbent.stores.beside import Conflict, Deed, Lost, Owner, State
from incumbent.stores.beside.wire import Object

__all__ = ["OURS", "STRANGE", "Lock", "Manner", "MemoryLocks", "Shelf"]

OURS = "incumbent:"
"""What the owner of a lock of ours begins with; the term follows."""
STRANGE = "moo"
"""An owner that is none."""


class Manner(Enum):
    """How such a lock ends that nobody gives up."""

    LAPSES = "lapses"
    SESSION = "session"
    PROCESS = "process"


@dataclass(slots=True)
class Lock:
    """A lock, and our record beside it.

    Attributes:
        owner: who has the lock; "" if nobody, or if its time has passed.
        until: when it lapses, on the server's clock.
        delay_s: for how long nobody has it after that.
        barred_until: until when nobody has it but who takes over.
        file: another one for each lock that was made anew.
        record: as it was parsed, why it cannot be understood, or None.
        version: of the record.
        mark: of its absence.
        ttl_s: of the last record.
    """

    owner: str = ""
    until: float = 0.0
    delay_s: float = 0.0
    barred_until: float = 0.0
    file: int = 0
    record: Object | str | None = None
    version: int = 0
    mark: int = 0
    ttl_s: float = 0.0


@dataclass
class Shelf:
    """The locks of one server.

    Attributes:
        clock: the server's.
        manner: how its locks end.
        theirs_s: after how long a lock of theirs is worth a look.
        number: the last number that was given out; never set back.
    """

    clock: Callable[[], float]
    manner: Manner
    theirs_s: float = 1.0
    locks: dict[str, Lock] = field(default_factory=dict)
    number: int = 0

    def at(self, name: str) -> Lock:
        """Return a lock as it is now."""
        lock = self.locks.setdefault(name, Lock())
        if lock.owner and self.clock() >= lock.until:
            lock.owner, lock.barred_until = "", lock.until + lock.delay_s
        return lock

    def is_free(self, name: str) -> bool:
        """Tell whether a member of theirs may take the lock."""
        lock = self.at(name)
        return not lock.owner and self.clock() >= lock.barred_until

    def give(self, name: str, owner: str, for_s: float) -> None:
        """Let somebody have the lock."""
        lock = self.at(name)
        lock.owner, lock.until = owner, self.clock() + for_s
        lock.delay_s = for_s if self.manner is Manner.SESSION else 0.0

    def free(self, name: str, *, delayed: bool = False) -> None:
        """Let nobody have the lock any more."""
        lock = self.at(name)
        lock.barred_until = self.clock() + lock.delay_s if delayed and lock.owner else 0.0
        lock.owner = ""

    def remove(self, name: str) -> None:
        """Delete the record."""
        lock = self.at(name)
        self.number += 1
        lock.record, lock.version, lock.mark = None, 0, self.number

    def write(self, name: str, record: Object | str) -> int:
        """Write the record; return its number."""
        lock = self.at(name)
        self.number += 1
        lock.record, lock.version, lock.mark = record, self.number, 0
        if isinstance(record, dict):
            lock.ttl_s = float(record["ttl_s"])
        return self.number

    def state(self, name: str) -> State:
        """Return lock and record as they are."""
        lock = self.at(name)
        record, term = lock.record, lock.record["term"] if isinstance(lock.record, dict) else None
        owner = Owner.THEIRS if lock.owner else Owner.FREE
        if lock.owner == STRANGE:
            owner = Owner.STRANGE
        elif term is not None and lock.owner == OURS + term:
            owner = Owner.OURS
        proves = self.manner is Manner.PROCESS and isinstance(record, dict)
        if proves and isinstance(record, dict) and not lock.owner and record["file"] == lock.file:
            record = {**record, "vacant": True}
        wait_s = self.theirs_s if owner is Owner.THEIRS else 0.0
        return State(
            owner=owner,
            number=lock.version or self.number,
            who=lock.owner,
            record=record,
            version=None if record is None else lock.version,
            mark=lock.mark,
            token=record["token"] if isinstance(record, dict) else None,
            wait_s=lock.ttl_s if record is None and not wait_s else wait_s,
        )

    def swap(self, name: str, over: State, record: Object, deed: Deed) -> State:
        """Write the record and do the deed; see `stores.beside.api.Locks`."""
        now, lock = self.state(name), self.at(name)
        if (now.version, now.mark) != (over.version, over.mark):
            raise Conflict(f"the record of {name!r} is not as expected")
        own = OURS + record["term"]
        if deed is Deed.TAKE:
            before = OURS + over.record["term"] if isinstance(over.record, dict) else ""
            if not self.is_free(name) and (not lock.owner or lock.owner != before):
                raise Conflict(f"{name!r} is locked")
            record = {**record, "token": self.number + 1}
        if deed is Deed.KEEP and lock.owner != own:
            raise Lost(f"{name!r} is not locked by us")
        if deed in (Deed.TAKE, Deed.KEEP):
            self.give(name, own, float(record["ttl_s"]))
        elif deed is Deed.FREE and lock.owner == own:
            self.free(name)
        self.write(name, {**record, "file": lock.file})
        return self.state(name)


class MemoryLocks:
    """A driver of such locks, but for `changed`. See `incumbent.stores.beside.api.Locks`."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def open(self, *, create: bool) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def connect(self) -> None:
        """Do nothing."""

    async def read(self, lock: str, *, urgent: bool = False) -> State:
        """Return lock and record as they are."""
        return self._shelf.state(lock)

    async def swap(
        self, lock: str, over: State, record: Object, deed: Deed, *, urgent: bool = False
    ) -> State:
        """Write the record and do the deed."""
        return self._shelf.swap(lock, over, record, deed)

    def descriptors(self, term: str) -> Sequence[int]:
        """Return none."""
        return ()

    async def elections(self, beginning: str, end: str) -> list[str]:
        """Return the elections of whose locks there are records."""
        records = (lock.record for lock in self._shelf.locks.values())
        return sorted(record["election"] for record in records if isinstance(record, dict))

    async def examine(self) -> list[Finding]:
        """Say the one thing that can be wrong with it."""
        return [Finding("scope", None, "elects among the candidates of this process only")]
