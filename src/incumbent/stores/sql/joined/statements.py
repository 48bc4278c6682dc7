"""The transactions on another library's lock, as SQL for both families of databases.

Each is one message, and changes both rows or none:

1. Our row is locked first, then theirs. A member of theirs locks only its own, so nobody waits in a
   circle, and what is compared under both locks cannot change until the commit.
2. Their row is written only if both are as the caller saw them, and the database's clock says that
   their rule permits it. Ours follows only if theirs now carries the mark of this very attempt:
   where both wanted to insert the row at once, theirs may have come first.
3. A renewal and a release touch nothing unless our row names that term and theirs has its mark.
4. What is written keeps a member of theirs out for the TTL from *now on the database's clock*. That
   is not before the instant at which the request was sent: longer than the term is trusted.
5. A bar is written over a term as 3 has it, or over a bar at exactly its serial, and both only if
   theirs has the mark: what a member of theirs has taken since is not taken back, and no success is
   told of a bar that does not keep them out. It is lifted at its serial whatever theirs says, and
   frees theirs only if that has the mark.

The token of a term is the serial of its take, and no less than the taker's wall clock in
microseconds; see `stores.sql.statements`.
"""

from __future__ import annotations

from collections.abc import Sequence

from incumbent.core.records import FORMAT, Bar, Claim, Held, Lease, Snapshot, StepDownRequest
from incumbent.stores.recipes import LockName
from incumbent.stores.sql.joined.api import Clocked
from incumbent.stores.sql.joined.rows import COLUMNS, Version
from incumbent.stores.sql.joined.tables import LockTable
from incumbent.stores.sql.rows import BARRED

__all__ = ["ALL", "OURS", "Statements", "create"]

OURS = "incumbent_lock"


def create(dialect: Clocked) -> list[str]:
    """Return what makes our table."""
    text, long = "VARCHAR(255) NOT NULL", "VARCHAR(512) NOT NULL"
    return [
        (
            f"CREATE TABLE IF NOT EXISTS {dialect.prefix}{OURS} (name {text} PRIMARY KEY, "
            f"place {text}, lock_name {text}, election {text}, serial BIGINT NOT NULL, "
            f"format INTEGER NOT NULL, held INTEGER NOT NULL, holder {long}, term {long}, "
            f"token BIGINT NOT NULL, ttl_s DOUBLE PRECISION NOT NULL, successor {long}, "
            f"request_term {long}, request_to {long}, mark {text}){dialect.form}"
        ),
        dialect.insert_new(
            f"{dialect.prefix}{OURS}",
            ALL,
            f"VALUES ('', '', '', '', {FORMAT}, {_NOTHING})",
        ),
    ]


ALL = ("name", "place", "lock_name", "election", *COLUMNS)
"""The columns of our table."""
_NOTHING = f"{FORMAT}, 0, '', '', 0, 0, '', '', '', ''"
"""`COLUMNS` of a row that no term has had yet, but the serial."""


class Statements:
    """The transactions, in one dialect, on one table of theirs.

    Args:
        dialect: of the database.
        table: theirs.
        locks: how the lock of an election is called.
    """

    def __init__(self, dialect: Clocked, table: LockTable, locks: LockName) -> None:
        self._dialect = dialect
        self._text = dialect.text
        self._table = table
        self._locks = locks
        self._ours = f"{dialect.prefix}{OURS}"
        self._theirs = f"{dialect.prefix}{table.table}"

    def _row(self, lock: str) -> str:
        """Return the condition that finds our row."""
        return f"name = {self._name(lock)}"

    def _name(self, lock: str) -> str:
        return self._text(f"{self._table.place}/{next(iter(self._table.key(lock).values()))}")

    def _key(self, lock: str) -> str:
        """Return the condition that finds their row."""
        key = self._table.key(lock)
        return " AND ".join(f"{column} = {self._text(value)}" for column, value in key.items())

    def look(self, names: Sequence[str]) -> list[str]:
        """Return both rows of each, one result an election."""
        return [self.read(self._locks.of(name)) for name in names]

    def read(self, lock: str) -> str:
        """Return both rows of a lock, in one consistent look."""
        table, dialect = self._table, self._dialect
        ours = ", ".join(f"o.{column}" for column in COLUMNS)
        return (
            f"SELECT {ours}, t.{table.owner}, {dialect.written(f't.{table.since}')}, "
            f"{dialect.written(f't.{table.until}')}, "
            f"{dialect.seconds(f't.{table.since}', f't.{table.until}')}, "
            f"CASE WHEN t.{table.until} < {dialect.now} THEN 1 ELSE 0 END "
            f"FROM (SELECT 1 AS one) n LEFT JOIN {self._ours} o ON o.{self._row(lock)} "
            f"LEFT JOIN {self._theirs} t ON t.{self._key(lock).replace(' AND ', ' AND t.')}"
        )

    def read_all(self) -> str:
        """Return election and lock of each that one of ours has ever taken here."""
        return (
            f"SELECT election, lock_name FROM {self._ours} "
            f"WHERE place = {self._text(self._table.place)} AND token > 0 ORDER BY election"
        )

    def take(self, claim: Claim, over: Snapshot, least: int) -> list[str]:
        """Swap `over`. The last result is what is there then."""
        table, dialect, text = self._table, self._dialect, self._text
        lock = self._locks.of(over.name)
        seen = over.version
        if not isinstance(seen, Version):
            assert isinstance(over.lease_version, int)
            seen = Version(over.lease_version, None, ours=False)
        row, mark = self._row(lock), text(table.mark(claim.term))
        unchanged = f"SELECT 1 FROM {self._ours} WHERE {row} AND serial = {seen.serial}"
        if seen.row is None:
            key = table.key(lock)
            columns = (*key, table.owner, table.since, table.until)
            values = (*map(text, key.values()), mark, dialect.now, dialect.after(claim.ttl_s))
            source = f"SELECT {', '.join(values)} FROM {self._ours} WHERE {row}"
            write = dialect.insert_new(
                self._theirs, columns, f"{source} AND serial = {seen.serial}"
            )
        else:
            same = f"{table.owner} = {text(str(seen.row.owner))}"
            if not seen.ours:
                # Their own rule, and each bit of what stood still under our eyes.
                same = (
                    f"{same} AND {dialect.written(table.since)} = {text(seen.row.since)} "
                    f"AND {dialect.written(table.until)} = {text(seen.row.until)} "
                    f"AND {table.until} < {dialect.now}"
                )
            write = (
                f"UPDATE {self._theirs} SET {table.owner} = {mark}, {table.since} = {dialect.now}, "
                f"{table.until} = {dialect.after(claim.ttl_s)} "
                f"WHERE {self._key(lock)} AND {same} AND EXISTS ({unchanged})"
            )
        names = f"{self._name(lock)}, {text(table.place)}, {text(lock)}, {text(over.name)}"
        serial = f"GREATEST(serial + 1, {least})"
        return [
            dialect.insert_new(self._ours, ALL, f"VALUES ({names}, 0, {_NOTHING})"),
            *self._lock(lock),
            write,
            (
                f"UPDATE {self._ours} SET token = {serial}, serial = {serial}, held = 1, "
                f"holder = {text(claim.identity)}, term = {text(claim.term)}, "
                f"ttl_s = {claim.ttl_s!r}, election = {text(over.name)}, successor = '', "
                f"request_term = '', request_to = '', mark = {mark} "
                f"WHERE {row} AND serial = {seen.serial} AND format = {FORMAT} "
                f"AND {self._marked(lock, mark)}"
            ),
            self.read(lock),
        ]

    def renew(self, lease: Lease) -> list[str]:
        """Keep members of theirs out for another TTL. The last result is what is there then."""
        until = f"{self._table.until} = {self._dialect.after(lease.ttl_s)}"
        change = f"UPDATE {self._theirs} SET {until}"
        return self._change(self._locks.of(lease.name), lease.key, change, "serial = serial + 1")

    def release(self, held: Held, successor: str) -> list[str]:
        """Free the lock as they do it. The last result is what is there then."""
        lock, term = self._locks.of(held.name), held.term
        freed = f"UPDATE {self._theirs} SET {self._table.until} = {self._dialect.now}"
        ours = (
            f"held = 0, successor = {self._text(successor)}, request_term = '', request_to = '', "
            "serial = serial + 1"
        )
        if self._table.keeps:
            return self._change(lock, term, freed, ours)
        # Ours first: whether it may be released is read off their row, which then is gone.
        was, mark = self._held(lock, term), self._text(self._table.mark(term))
        gone = (
            f"DELETE FROM {self._theirs} WHERE {self._key(lock)} AND {self._table.owner} = {mark} "
            f"AND EXISTS (SELECT 1 FROM {self._ours} WHERE {self._row(lock)} "
            f"AND term = {self._text(term)} AND held = 0)"
        )
        update = f"UPDATE {self._ours} SET {ours} WHERE {was} AND {self._marked(lock, mark)}"
        return [*self._lock(lock), update, gone, self.read(lock)]

    def ask(self, name: str, request: StepDownRequest) -> list[str]:
        """Leave a request with that term. The last result is what is there then."""
        ours = (
            f"request_term = {self._text(request.term)}, request_to = {self._text(request.to)}, "
            "serial = serial + 1"
        )
        return self._change(self._locks.of(name), request.term, "", ours)

    def bar(self, over: Snapshot, bar: Bar | None) -> tuple[list[str], int]:
        """Bar what is held under a term, or replace exactly one bar; None lifts that.

        The result of that number has a row if that was so; the last one is what is there then.
        """
        lock, table, text = self._locks.of(over.name), self._table, self._text
        was, mark = self._held(lock, over.term), table.mark(over.term)
        if over.bar is not None:
            assert isinstance(over.version, Version)
            mark = table.bar_mark(over.bar.nonce)
            was = (
                f"{self._row(lock)} AND serial = {over.version.serial} "
                f"AND term = {text(over.bar.nonce)} AND format = {BARRED}"
            )
        left = mark if bar is None else table.bar_mark(bar.nonce)
        theirs = (
            f"WHERE {self._key(lock)} AND {table.owner} = {text(mark)} "
            f"AND EXISTS (SELECT 1 FROM {self._ours} WHERE {was})"
        )
        if bar is not None:
            write = f"SET {table.owner} = {text(left)}, {table.until} = {self._dialect.latest}"
            change = f"UPDATE {self._theirs} {write} {theirs}"
        elif table.keeps:
            change = f"UPDATE {self._theirs} SET {table.until} = {self._dialect.now} {theirs}"
        else:
            change = f"DELETE FROM {self._theirs} {theirs}"
        marked = "" if bar is None else f" AND {self._marked(lock, text(mark))}"
        follows = "" if bar is None else f" AND {self._marked(lock, text(left))}"
        ours = (
            f"format = {FORMAT if bar is None else BARRED}, held = 0, "
            f"holder = {text('' if bar is None else bar.text)}, "
            f"term = {text('' if bar is None else bar.nonce)}, mark = {text(left)}, "
            "successor = '', request_term = '', request_to = '', serial = serial + 1"
        )
        locked = self._lock(lock)
        statements = [
            *locked,
            f"SELECT 1 FROM {self._ours} WHERE {was}{marked}",
            change,
            f"UPDATE {self._ours} SET {ours} WHERE {was}{follows}",
            self.read(lock),
        ]
        return statements, len(locked)

    def _change(self, lock: str, term: str, theirs: str, ours: str) -> list[str]:
        """Change both rows if ours names this term, and theirs has its mark."""
        mark, held = self._text(self._table.mark(term)), self._held(lock, term)
        first = (
            f"{theirs} WHERE {self._key(lock)} AND {self._table.owner} = {mark} "
            f"AND EXISTS (SELECT 1 FROM {self._ours} WHERE {held})"
        )
        return [
            *self._lock(lock),
            *([first] if theirs else []),
            f"UPDATE {self._ours} SET {ours} WHERE {held} AND {self._marked(lock, mark)}",
            self.read(lock),
        ]

    def _held(self, lock: str, term: str) -> str:
        return f"{self._row(lock)} AND term = {self._text(term)} AND held = 1 AND format = {FORMAT}"

    def _marked(self, lock: str, mark: str) -> str:
        """Return the condition that their row has this owner."""
        key = f"{self._key(lock)} AND {self._table.owner} = {mark}"
        return f"EXISTS (SELECT 1 FROM {self._theirs} WHERE {key})"

    def _lock(self, lock: str) -> Sequence[str]:
        return (
            f"SELECT serial FROM {self._ours} WHERE {self._row(lock)} FOR UPDATE",
            f"SELECT 1 FROM {self._theirs} WHERE {self._key(lock)} FOR UPDATE",
        )
