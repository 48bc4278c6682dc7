"""The transactions of the elections, as SQL that PostgreSQL, MySQL and MariaDB all understand.

Each is a list of statements that are sent together. What they compare they have locked before, so
each statement may look for itself, and none has to know what another one returned:

1. The counter of an election is locked before anything is done to the election.
2. Sessions are locked after counters, and in the order of their keys: no two takes can deadlock.
3. The row of the election is written only if everything is as the caller saw it.
4. What follows asks whether the row carries the nonce of this very attempt now.

The serial of a change is one more than the counter. That of a take, which is the token of the term,
is besides no less than the taker's wall clock in microseconds. The counter alone would give a token
twice where the database forgets: a standby that lags is promoted, a backup is restored, somebody
drops the tables; and of two holders with one token no resource can refuse the older. Unless a
clock was behind by more than what was forgotten, the later holder has the greater token. No
decision hangs on it, and where nothing is forgotten the counter alone makes tokens grow.
"""

from __future__ import annotations

from collections.abc import Sequence

from incumbent.core.records import FORMAT, Bar, Claim, Held, Holding, Snapshot, StepDownRequest
from incumbent.stores.sql.api import Dialect
from incumbent.stores.sql.rows import BARRED, COLUMNS, VOID

__all__ = ["Statements"]


class Statements:
    """The transactions, in one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._text = dialect.text
        self.election = f"{dialect.prefix}incumbent_election"
        self.session = f"{dialect.prefix}incumbent_session"
        self.counter = f"{dialect.prefix}incumbent_counter"

    # -- looking ----------------------------------------------------------------------------------

    def look(self, names: Sequence[str]) -> list[str]:
        """Return what looks at these."""
        return [self.read(names)]

    def read(self, names: Sequence[str]) -> str:
        """Return name, counter, TTL and `COLUMNS` of each of `names`, in one consistent look."""
        return (
            f"SELECT n.name, c.serial, c.ttl_s, {COLUMNS} FROM {self._dialect.names(names)} "
            f"LEFT JOIN {self.counter} c ON c.name = n.name "
            f"LEFT JOIN {self.election} e ON e.name = n.name "
            f"LEFT JOIN {self.session} s ON s.id = e.session"
        )

    def read_all(self) -> str:
        """Return name, NULL, NULL and `COLUMNS` of each election."""
        return (
            f"SELECT e.name, NULL, NULL, {COLUMNS} FROM {self.election} e "
            f"LEFT JOIN {self.session} s ON s.id = e.session ORDER BY e.name"
        )

    # -- terms ------------------------------------------------------------------------------------

    def take(self, claim: Claim, over: Snapshot, least: int) -> list[str]:
        """Swap `over`. The last but one result is our session's beat, the last one the record.

        The token is `least` or greater.
        """
        assert claim.session is not None
        name, own = self._text(over.name), self._text(claim.session.key)
        victim = over.lease_key if over.lease_key != claim.session.key else ""
        wanted = [f"EXISTS (SELECT 1 FROM {self.session} WHERE id = {own} AND beat <> {VOID})"]
        if victim:
            there = f"SELECT 1 FROM {self.session} WHERE id = {self._text(victim)}"
            if isinstance(over.lease_version, int):
                wanted.append(f"EXISTS ({there} AND beat = {over.lease_version})")
            else:
                wanted.append(f"NOT EXISTS ({there})")
        first = f"GREATEST(c.serial + 1, {least})"
        if over.holding is Holding.ABSENT:
            assert isinstance(over.lease_version, int)
            write = (
                f"INSERT INTO {self.election} (name, format, serial, holder, term, token, session, "
                f"ttl_s, successor, request_term, request_to) SELECT c.name, {FORMAT}, {first}, "
                f"{self._text(claim.identity)}, {self._text(claim.term)}, {first}, {own}, "
                f"{claim.ttl_s!r}, '', '', '' FROM {self.counter} c WHERE c.name = {name} "
                f"AND c.serial = {over.lease_version} AND {' AND '.join(wanted)} "
                f"AND NOT EXISTS (SELECT 1 FROM {self.election} WHERE name = {name})"
            )
        else:
            write = (
                f"UPDATE {self.election} SET holder = {self._text(claim.identity)}, "
                f"term = {self._text(claim.term)}, {self._next(name, least)}, "
                f"session = {own}, ttl_s = {claim.ttl_s!r}, "
                "successor = '', request_term = '', request_to = '' "
                f"WHERE name = {name} AND serial = {int(str(over.version))} "
                f"AND term = {self._text(over.term)} AND session = {self._text(over.lease_key)} "
                f"AND format = {FORMAT} AND {' AND '.join(wanted)}"
            )
        keys = ", ".join(self._text(key) for key in sorted({claim.session.key, victim} - {""}))
        taken = (
            f"EXISTS (SELECT 1 FROM {self.election} "
            f"WHERE name = {name} AND term = {self._text(claim.term)})"
        )
        statements = [
            self._dialect.ensure_counter(over.name),
            self._lock(name),
            f"SELECT id FROM {self.session} WHERE id IN ({keys}) ORDER BY id FOR UPDATE",
            write,
        ]
        if over.holding is not Holding.ABSENT:
            statements.append(self._token(name, claim.term))
        if victim:
            statements.append(
                f"UPDATE {self.session} SET beat = {VOID} "
                f"WHERE id = {self._text(victim)} AND {taken}"
            )
        return [
            *statements,
            self._count(name),
            *self._say_election(name, claim.term),
            *(self._say_session(self._text(victim)) if victim else ()),
            f"SELECT beat FROM {self.session} WHERE id = {own}",
            self.read([over.name]),
        ]

    def release(self, held: Held, successor: str) -> list[str]:
        """Make the record vacant if it carries this term. The last result is the record."""
        change = (
            f"session = '', successor = {self._text(successor)}, request_term = '', request_to = ''"
        )
        return self._change(held.name, held.term, change)

    def ask(self, name: str, request: StepDownRequest) -> list[str]:
        """Leave a request in the record if it carries that term. The last result is the record."""
        change = f"request_term = {self._text(request.term)}, request_to = {self._text(request.to)}"
        return self._change(name, request.term, change)

    def bar(self, over: Snapshot, bar: Bar | None) -> tuple[list[str], int]:
        """Bar what is held under a term, or replace exactly one bar; None lifts that.

        The result of that number has a row if that was so; the last one is the record.
        """
        change = (
            f"format = {FORMAT if bar is None else BARRED}, "
            f"holder = {self._text('' if bar is None else bar.text)}, "
            f"term = {self._text('' if bar is None else bar.nonce)}, "
            "session = '', successor = '', request_term = '', request_to = ''"
        )
        left = "" if bar is None else bar.nonce
        where = self._held(over.term)
        if over.bar is not None:
            where = (
                f"serial = {int(str(over.version))} AND term = {self._text(over.bar.nonce)} "
                f"AND format = {BARRED}"
            )
        lock, *rest = self._write(over.name, where, change, left)
        name = self._text(over.name)
        was_so = f"SELECT 1 FROM {self.election} WHERE name = {name} AND {where}"
        return [lock, was_so, *rest], 1

    def _change(self, name: str, term: str, change: str) -> list[str]:
        return self._write(name, self._held(term), change, term)

    def _held(self, term: str) -> str:
        return f"term = {self._text(term)} AND session <> '' AND format = {FORMAT}"

    def _write(self, name: str, where: str, change: str, term: str) -> list[str]:
        """Make a change where the row is so, and say so if the row carries `term` then."""
        quoted = self._text(name)
        return [
            self._lock(quoted),
            (
                f"UPDATE {self.election} SET {change}, {self._next(quoted)} "
                f"WHERE name = {quoted} AND {where}"
            ),
            self._count(quoted),
            *self._say_election(quoted, term),
            self.read([name]),
        ]

    def _say_election(self, name: str, term: str) -> Sequence[str]:
        """Say `e:NAME:SERIAL` if the election carries this term."""
        where = f"name = {name} AND term = {self._text(term)}"
        return self._dialect.say("'e:' || name || ':' || serial", f"{self.election} WHERE {where}")

    def _say_session(self, key: str) -> Sequence[str]:
        """Say `s:KEY:BEAT`."""
        return self._dialect.say("'s:' || id || ':' || beat", f"{self.session} WHERE id = {key}")

    def _lock(self, name: str) -> str:
        return f"SELECT serial FROM {self.counter} WHERE name = {name} FOR UPDATE"

    def _next(self, name: str, least: int = 0) -> str:
        """Give the row a new serial, whoever has touched its old one or the counter."""
        counted = f"SELECT c.serial FROM {self.counter} c WHERE c.name = {name}"
        return f"serial = GREATEST(serial + 1, COALESCE(({counted}), 0) + 1, {least})"

    def _count(self, name: str) -> str:
        """Let the counter follow the row."""
        row = f"FROM {self.election} e WHERE e.name = {name}"
        return (
            f"UPDATE {self.counter} "
            f"SET serial = GREATEST(serial, COALESCE((SELECT e.serial {row}), 0)), "
            f"ttl_s = COALESCE((SELECT e.ttl_s {row}), ttl_s) WHERE name = {name}"
        )

    def _token(self, name: str, term: str) -> str:
        """Make the serial of the acquiring write the token."""
        return (
            f"UPDATE {self.election} SET token = serial "
            f"WHERE name = {name} AND term = {self._text(term)}"
        )

    # -- sessions ---------------------------------------------------------------------------------

    def open_session(self, key: str, owner: str, ttl_s: float) -> list[str]:
        """Write a new session."""
        return [
            (
                f"INSERT INTO {self.session} (id, owner, ttl_s, beat) "
                f"VALUES ({self._text(key)}, {self._text(owner)}, {ttl_s!r}, 0)"
            )
        ]

    def over(self) -> str:
        """Return the keys of sessions that are over and that nothing names."""
        return (
            f"SELECT s.id FROM {self.session} s WHERE s.beat = {VOID} AND NOT EXISTS "
            f"(SELECT 1 FROM {self.election} e WHERE e.session = s.id)"
        )

    def sweep(self, keys: Sequence[str]) -> list[str]:
        """Remove sessions that are over and were named by nothing: none can be named any more."""
        listed = ", ".join(map(self._text, sorted(keys)))
        return [f"DELETE FROM {self.session} WHERE id IN ({listed}) AND beat = {VOID}"]

    def renew(self, key: str) -> list[str]:
        """Move the beat. The last result is the beat, and a print of what the session holds."""
        quoted = self._text(key)
        return [
            f"UPDATE {self.session} SET beat = beat + 1 WHERE id = {quoted} AND beat <> {VOID}",
            *self._say_session(quoted),
            (
                f"SELECT s.beat, COUNT(e.name), COALESCE(SUM(e.serial), 0) FROM {self.session} s "
                f"LEFT JOIN {self.election} e ON e.session = s.id "
                f"WHERE s.id = {quoted} GROUP BY s.id, s.beat"
            ),
        ]

    def close_session(self, key: str) -> list[str]:
        """Void a session; what is held under it is vacant."""
        quoted = self._text(key)
        return [
            f"UPDATE {self.session} SET beat = {VOID} WHERE id = {quoted}",
            *self._say_session(quoted),
        ]
