"""What a driver of another library's lock must do, so that `LockStore` makes elections of it.

Rules
-----
1. **Lock and record change in one step**, or in an order in which whatever was done before the
   step that failed means the same to everybody. What is compared is `State.version`, or for a
   record that is not there `State.mark`, and the lock.
2. **A lock of theirs is never taken from them.** `Deed.TAKE` succeeds only over a lock that is free
   by *their* rule, or that the very term has which the record names.
3. **A version belongs to one write**, and is not used again, not even after a deletion.
4. **What keeps them out lasts as long as our term is trusted**: from each confirmed take or
   renewal for W of its TTL (`core.timing`) at the least, by whatever clock their rule knows.
5. **A renewal (`Deed.KEEP`) is refused unless the lock is still ours** in the step that confirms
   it.
6. **The token grows with every take**, over release, deletion and restart: a number that the server
   gives to the acquiring write, or a counter that is kept apart and is never set back.
7. **Say what you know**, as everywhere: `Conflict` and `StoreUnavailable` promise that nothing was
   changed; what was sent and not answered is `OutcomeUnknown`, and is never sent again by a driver.
8. **A bar stands in the lock itself** (`Deed.BAR`) and in the record, for a driver that declares
   bars: so that members of theirs keep out of it by their own rule, it does not lapse, and no
   restart of a server ends it that keeps its data. It replaces the lock of the very term that the
   record names, or the very bar that was read, and no two writings of one have the same value.
   Where a lock ends with whoever has it (a process, a session of a server), there can be none.

All methods are called on the keeper's event loop and are cancelled when their time is up.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from incumbent.errors import StoreError
from incumbent.stores.api import Finding
from incumbent.stores.beside.wire import Object

__all__ = ["Conflict", "Deed", "Locks", "Lost", "Owner", "State"]


class Conflict(StoreError):
    """The lock or the record is not as expected; nothing was changed."""


class Lost(Conflict):
    """The lock is not that term's any more, whatever it looks like from outside."""


class Owner(Enum):
    """Who has the lock, by the other library's own rule."""

    FREE = "free"
    OURS = "ours"
    """The very term that the record names."""
    THEIRS = "theirs"
    """Somebody else: a member of theirs, or whatever looks like one to us."""
    BARRED = "barred"
    """Nobody: a bar of ours stands in it."""
    STRANGE = "strange"
    """Something that no member of theirs would have written."""


class Deed(Enum):
    """What a swap does with the lock, beside writing the record."""

    TAKE = "take"
    KEEP = "keep"
    """Make it last longer, if it is ours."""
    TOUCH = "touch"
    """Nothing, and whoever has it is not compared."""
    FREE = "free"
    """Give it up, if it is ours; of whoever else has it nothing is changed."""
    BAR = "bar"
    """Put the bar that the record is into it: in the place of our lock, of the bar that was read,
    or of what was free where the record was a bar."""
    UNBAR = "unbar"
    """Free it, if it is the bar that was read; of whoever else has it nothing is changed."""


@dataclass(frozen=True, slots=True)
class State:
    """Lock and record as they were at one instant.

    Attributes:
        owner: who has the lock.
        who: of their holder, what is known; of what is strange, why.
        record: as it was parsed, why it cannot be understood, or None if there is none.
        version: of the record; None if there is none.
        mark: of a record that is not there: stays as it is as long as there was none in between.
        number: of the last write of the record; of an absence, one that is not below any before.
        token: of the term that the record names.
        wait_s: of their lock, after how long it is worth a look; of an absent record, for how long
            whoever removed it may have a holder behind it.
        lock: what the driver compares of the lock; of a bar, what no other writing of one has.
        bar: what stands in the lock or else in the record, as `wire.parse_bar` returns it, if that
            is a bar; `token` is its own then.
        since: from where the driver waits for the next one; of what was read.
    """

    owner: Owner
    number: int
    who: str = ""
    record: Object | str | None = None
    version: Hashable = None
    mark: Hashable = None
    token: int | None = None
    wait_s: float = 0.0
    lock: Any = None
    bar: Object | None = None
    since: int = 0


class Locks(Protocol):
    """The locks of one server or one folder, by the names that they have there."""

    async def open(self, *, create: bool) -> None:
        """Connect; raises what `Store.open` does."""
        ...

    async def close(self) -> None:
        """Give back every resource, and no lock."""
        ...

    async def connect(self) -> None:
        """Have a connection ready for a swap that is due in a moment."""
        ...

    async def read(self, lock: str, *, urgent: bool = False) -> State:
        """Return lock and record as they are, by a linearizable read."""
        ...

    async def swap(
        self, lock: str, over: State, record: Object, deed: Deed, *, urgent: bool = False
    ) -> State:
        """Write the record and do the deed, if record and lock are still `over`.

        Args:
            lock: which.
            over: what is compared.
            record: what is written; its `ttl_s` says for how long the lock has to last.
            deed: what to do with the lock.
            urgent: whether to wait for no request that is not: it is a renewal.

        Raises:
            Conflict: they are not.
            Lost: the deed was to keep a lock that is ours no more; to read anew will not mend it.
            OutcomeUnknown: it may have happened.
            StoreUnavailable, StoreUnusable, PermissionDenied: it did not happen.
        """
        ...

    async def changed(self, lock: str, state: State) -> None:
        """Return when lock or record may not be `state` any more, or after the time of a poll."""
        ...

    def descriptors(self, term: str) -> Sequence[int]:
        """Return what the whole tree that works under a term must inherit."""
        ...

    async def elections(self, beginning: str, end: str) -> list[str]:
        """Return the elections of whose locks, called like this, there are records."""
        ...

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here, for `doctor`."""
        ...
