"""How other libraries keep a lock in a table: the columns, and which row is whose.

Both of them say who has the lock, since when and until when. What a member of theirs does:

- **ShedLock**: a row per lock, which is never deleted. It takes a lock whose `lock_until` has
  passed, and unlocks by setting `lock_until` to now. By the database's clock (`usingDbTime()`) or
  by its own; with its own it unlocks by the lock's name alone, whoever has it by then.
- **Spring Integration 7**: a row per lock that is held; to unlock is to delete it. The key is the
  name's UUID (`UUID.nameUUIDFromBytes`), the owner a UUID per process. It takes a lock whose
  `EXPIRED_AFTER` has passed on its own clock, in UTC, and leaves `CREATED_DATE` as it was.

An owner of ours is made of the term's nonce, so no two terms have the same.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from incumbent.stores.sql.joined.api import Clocked

__all__ = ["LockTable", "shedlock", "spring"]

LONGEST_OWNER = 255
_OURS = uuid.UUID("6d1d38c6-32a1-5a1e-9f0b-8f2b8b1f4d27")
"""The name space of the UUIDs that stand for terms of ours."""


@dataclass(frozen=True, slots=True)
class LockTable:
    """The table of one library.

    Attributes:
        recipe: names the library.
        table: as its people have called it.
        region: the part of the table that one group of members shares; "" if it has none.
        owner, since, until: the columns.
        keeps: a lock that is free has a row; else it has none.
        ddl: how their documentation makes the table, by the database.
    """

    recipe: str
    table: str
    region: str
    owner: str
    since: str
    until: str
    keeps: bool
    ddl: Mapping[str, str]

    @property
    def place(self) -> str:
        """What all locks of this store have in common."""
        return "/".join(filter(None, (self.recipe, self.table, self.region)))

    def key(self, lock: str) -> dict[str, str]:
        """Return the columns that name a lock."""
        if self.recipe == "shedlock":
            return {"name": lock}
        return {"LOCK_KEY": _name_uuid(lock), "REGION": self.region}

    def mark(self, term: str) -> str:
        """Return the owner that stands for a term of ours."""
        if self.recipe == "shedlock" and len(term) <= LONGEST_OWNER:
            return term
        short = str(uuid.uuid5(_OURS, term))
        return f"{term[:200]}/{short}" if self.recipe == "shedlock" else short

    def bar_mark(self, nonce: str) -> str:
        """Return the owner that stands for a bar of ours."""
        return self.mark(f"incumbent-barred/{nonce}")

    def missing(self, dialect: Clocked) -> str:
        """Return what is said where the table is not there."""
        return (
            f"there is no table {self.table}, which its own people make and we do not; as they "
            f"document it: {self.ddl[dialect.family]}"
        )


@lru_cache(maxsize=1024)  # It is asked for at each look.
def _name_uuid(lock: str) -> str:
    """Return what Java's `UUID.nameUUIDFromBytes` does, unless the name is a UUID already."""
    try:
        if str(uuid.UUID(lock)) == lock.lower():
            return lock.lower()
    except ValueError:
        pass
    digest = hashlib.md5(lock.encode(), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest, version=3))


def shedlock(table: str = "shedlock") -> LockTable:
    """Return ShedLock's table."""
    rest = "locked_by VARCHAR(255) NOT NULL, PRIMARY KEY (name))"
    ddl = {
        family: f"CREATE TABLE {table} (name VARCHAR(64) NOT NULL, lock_until {kind} NOT NULL, "
        f"locked_at {kind} NOT NULL, {rest}"
        for family, kind in (("postgresql", "TIMESTAMP"), ("mysql", "TIMESTAMP(3)"))
    }
    return LockTable("shedlock", table, "", "locked_by", "locked_at", "lock_until", True, ddl)


def spring(prefix: str = "INT_", region: str = "DEFAULT") -> LockTable:
    """Return Spring Integration's table, as of its version 7."""
    table = f"{prefix}LOCK"
    ddl = {
        family: f"CREATE TABLE {table} (LOCK_KEY CHAR(36) NOT NULL, REGION VARCHAR(100) NOT NULL, "
        f"CLIENT_ID CHAR(36), CREATED_DATE {kind} NOT NULL, EXPIRED_AFTER {kind} NOT NULL, "
        "PRIMARY KEY (LOCK_KEY, REGION))"
        for family, kind in (("postgresql", "TIMESTAMP"), ("mysql", "DATETIME(6)"))
    }
    return LockTable(
        "spring", table, region, "CLIENT_ID", "CREATED_DATE", "EXPIRED_AFTER", False, ddl
    )
