"""A lock of another library, and our record beside it: what its members and ours both keep to.

For the locks that have one place: a key, a file. What one of theirs writes there says no more than
who holds; whose turn of ours it is, its token, its time to live and who asked it to step down
stand in a record of our own, which is changed in one step with their lock.

`api`     what a driver of such a lock must do
`store`   makes elections of it
`wire`    what stands in the record
"""

from __future__ import annotations

from incumbent.stores.beside.api import Conflict, Deed, Locks, Lost, Owner, State
from incumbent.stores.beside.store import LockStore

__all__ = ["Conflict", "Deed", "LockStore", "Locks", "Lost", "Owner", "State"]
