"""The records and the swaps of the embedded store, as SQL.

Everything here is synchronous and runs in one thread. Each write is one transaction that takes the
database's write lock first (`BEGIN IMMEDIATE`), so what it compares cannot change before it swaps.

Two tables. `election` has one row per election, never deleted. `session` has one row per process
that holds something; its `beat` is what a renewal moves, and `VOID` says that the session is over.
(A third one has the checkpoints: see `checkpoints`.)
Every change takes the next number of one counter, the *serial*. The number of an acquiring
transaction is the fencing token: so tokens grow over release, expiry, and deletion of a row.

The counter starts at the wall-clock time of the database's creation, in milliseconds: if somebody
deletes the file, the tokens of the next one are still greater, unless the clock was set back. That
is the only use of a wall clock, and no decision hangs on it.

The counter's row has a random number, by which a database is known from another one that somebody
put in its place: an absence in the one says nothing of the other, so it is a part of the swap.

A takeover first voids the session that it takes from, in the same transaction. Whatever else was
held under that session is vacant with it: the one who voided it had watched it for its whole TTL.

An election that is barred has the format `BARRED`, which no candidate of any version takes for its
own; `holder` has the text then, `term` the nonce, and `token` stays.

Forks: SQLite keeps in memory, by inode, which file locks its process has. A forked child gets that
memory and not the locks. Opening the database beside its copy of the parent's connection, it would
have no lock at all, and the next one who opens the file would take it for unused, truncate the
index of the log, and in the end remove it under the child. So the child's copy is closed first,
which gives up nothing of the parent's; and while a process forks, nobody is in the middle of using
a connection.

Durability: an acquiring transaction is synced to the disk before it is confirmed, since its token
may already be known to some other machine when the power fails. Renewals and releases are not:
after a power cut every process of this host is gone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from incumbent.core.records import (
    FORMAT,
    Bar,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    absent,
    barred,
)
from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    SessionGone,
    StoreAbsent,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.sqlite.checkpoints import TableCheckpoints

__all__ = ["Tables"]

APPLICATION_ID = 0x1C0BE47
BUSY_S = 1.0
OPENING_BUSY_S = 10.0
"""Twenty replicas that start at once all want to create the file; nobody has a term yet."""
VARIABLES = 500
"""How many a statement may have is a setting of SQLite's build; all allow so many."""
VOID = -1
BARRED = -1
"""The format of an election that is barred."""

_OPEN: weakref.WeakValueDictionary[int, Tables] = weakref.WeakValueDictionary()
_QUIET: list[Tables] = []
"""Those that the thread that forks keeps from being used."""
_LEFT_OPEN: set[Path] = set()
"""Databases that were in use when this process was forked."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counter (serial INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS session (
    key TEXT PRIMARY KEY, opener TEXT NOT NULL, owner TEXT NOT NULL, ttl_s REAL NOT NULL,
    beat INTEGER NOT NULL, serial INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS election (
    name TEXT PRIMARY KEY, format INTEGER NOT NULL, serial INTEGER NOT NULL,
    holder TEXT NOT NULL, term TEXT NOT NULL, token INTEGER NOT NULL, session TEXT NOT NULL,
    successor TEXT NOT NULL, request_term TEXT NOT NULL, request_to TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS election_serial ON election (serial);
CREATE INDEX IF NOT EXISTS election_session ON election (session);
CREATE INDEX IF NOT EXISTS session_serial ON session (serial);
"""

_SELECT = """
SELECT e.name, e.format, e.serial, e.holder, e.term, e.token, e.session, e.successor,
       e.request_term, e.request_to, s.ttl_s, s.beat
FROM election AS e LEFT JOIN session AS s ON s.key = e.session
"""


class Tables:
    """A connection to the database at `path`.

    Args:
        path: the database file.
        opener: identifies this process's store, so that its own renewals are no news to it.
        wall: the wall clock at which the tokens of a new database start.
        create: make the database if there is none.

    Raises:
        StoreAbsent: there is none, and none is to be made.
    """

    def __init__(
        self,
        path: Path,
        opener: str,
        wall: Callable[[], float] = time.time,
        *,
        create: bool = True,
    ) -> None:
        self._path = path
        self._opener = opener
        self._wall = wall
        self._create = create
        self._used = threading.RLock()
        self._found_at = -1
        self._found: set[str] = set()
        if path in _LEFT_OPEN:
            raise StoreUnusable(
                f"{path} was in use when this process was forked, and SQLite cannot open it here: "
                "start the process anew (exec, or the start method `spawn`)"
            )
        if not create and not _is_there(path):
            raise self._absent()
        _OPEN[id(self)] = self
        with self._using():
            self._db = sqlite3.connect(
                f"file:{quote(os.fsencode(path))}?mode={'rwc' if create else 'rw'}",
                uri=True,
                timeout=OPENING_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.text_factory = _text
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        db = self._db
        if sqlite3.sqlite_version_info < (3, 35):
            raise StoreUnusable(f"SQLite 3.35 is needed; this is {sqlite3.sqlite_version}")
        with self._reading():  # One look: another process may be creating it right now.
            application_id = _one(db, "PRAGMA application_id")
            tables = _one(db, "SELECT count(*) FROM sqlite_master")
        if application_id != APPLICATION_ID:
            if application_id or tables:
                raise StoreUnusable(
                    f"{self._path} is a database of another program: give incumbent a file of "
                    "its own"
                )
            if not self._create:
                raise self._absent()  # An empty file, which somebody is about to make one of.
            self._use_wal()
            with self._writing():
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {FORMAT}")
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                start = int(self._wall() * 1000)  # wall clock: where tokens start, see above
                db.execute(
                    "INSERT INTO counter (rowid, serial) SELECT random() & 0x7fffffffffffffff, ? "
                    "WHERE NOT EXISTS (SELECT 1 FROM counter)",
                    (start,),
                )
        if (version := _one(db, "PRAGMA user_version")) != FORMAT:
            raise StoreUnusable(
                f"{self._path} has format {version}; this incumbent knows format {FORMAT}: use "
                "one release of incumbent for all candidates of a host"
            )
        db.execute("PRAGMA cache_size = -256")
        db.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")

    def _absent(self) -> StoreAbsent:
        return StoreAbsent(
            f"there is no database at {self._path} yet: the first candidate creates it; if there "
            "are candidates, they use another path"
        )

    def _use_wal(self) -> None:
        """Switch to the write-ahead log; of several processes that create the file, all do."""
        give_up_s = time.monotonic() + OPENING_BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # For this one lock SQLite does not wait, whatever its timeout.
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > give_up_s:
                    raise
                time.sleep(0.005)

    def close(self) -> None:
        """Close the connection."""
        with self._used:
            self._db.close()

    @property
    def checkpoints(self) -> TableCheckpoints:
        """How far the work has come. Made for each use: kept, the two would keep one another."""
        return TableCheckpoints(self._one_look, self._one_write)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, name: str) -> Snapshot:
        """Return one election."""
        with self._using():
            return self._read(name)

    def elections(self) -> list[Snapshot]:
        """Return every election, by name."""
        with self._using():
            return [_snapshot(row) for row in self._db.execute(_SELECT + "ORDER BY e.name")]

    def changes(self, since: int, there: Set[str] = frozenset()) -> tuple[int, list[Snapshot]]:
        """Return the serial now, and what changed after `since`, our own renewals left out.

        Of the elections in `there`, those whose row somebody has deleted are reported, too. Who
        does that by hand moves no counter, so the report has the next number: a holder would not
        believe what is as old as its own term.
        """
        with self._using(), self._reading():
            serial = self._serial()
            found = []
            if serial != since:
                rows = self._db.execute(
                    _SELECT + "WHERE e.serial > ? "
                    "OR e.session IN (SELECT key FROM session WHERE serial > ? AND opener <> ?)",
                    (since, since, self._opener),
                )
                found = [_snapshot(row) for row in rows]
            return serial, found + [self._absent_at(name, serial + 1) for name in self._gone(there)]

    def _gone(self, there: Set[str]) -> list[str]:
        """Return which of `there` have no row; what was found stays until others have written."""
        version = _one(self._db, "PRAGMA data_version")
        if version != self._found_at:
            self._found_at, self._found = version, set()
        sought = sorted(there - self._found)
        for start in range(0, len(sought), VARIABLES):
            some = sought[start : start + VARIABLES]
            places = ", ".join("?" * len(some))
            query = f"SELECT name FROM election WHERE name IN ({places})"
            self._found.update(name for (name,) in self._db.execute(query, some))
        return [name for name in sought if name not in self._found]

    def held(self, name: str, claim: Claim) -> Held | Snapshot:
        """Return the term of `claim` if the record carries its nonce, else the record."""
        snapshot = self.read(name)
        if snapshot.holding is Holding.HELD and snapshot.term == claim.term:
            return _held(claim, snapshot)
        return snapshot

    # -- writing ----------------------------------------------------------------------------------

    def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Swap the record `over` for one that names the claim."""
        session = claim.session.key if claim.session else ""
        with self._synced(), self._writing():
            if not self._alive(session):
                raise SessionGone(f"session {session!r} was closed or voided")
            now = self._read(name)
            if now.watched != over.watched or now.holding is not over.holding:
                raise Refused(now)
            if over.holding is Holding.FOREIGN:
                raise Refused(now)
            serial = self._next()
            if over.lease_key and over.lease_key != session:
                self._db.execute(
                    "UPDATE session SET beat = ?, serial = ? WHERE key = ?",
                    (VOID, serial, over.lease_key),
                )
            self._db.execute(
                "INSERT OR REPLACE INTO election VALUES (?, ?, ?, ?, ?, ?, ?, '', '', '')",
                (name, FORMAT, serial, claim.identity, claim.term, serial, session),
            )
            taken = self._read(name)
        return _held(claim, taken)

    def renew(self, lease: Lease) -> Lease:
        """Move the session's beat."""
        with self._writing():
            beat = self._db.execute(
                "UPDATE session SET beat = beat + 1, serial = ? WHERE key = ? AND beat <> ? "
                "RETURNING beat",
                (self._next(), lease.key, VOID),
            ).fetchall()
            if not beat:
                raise Refused(absent("the session", self._serial()))
        return lease.at(beat[0][0])

    def release(self, held: Held, successor: str) -> Snapshot:
        """Make the record vacant if it still carries exactly this term."""
        with self._writing():
            if self._is_foreign(held.name):
                return self._read(held.name)
            self._db.execute(
                "UPDATE election SET session = '', successor = ?, request_term = '', "
                "request_to = '', serial = ? WHERE name = ? AND term = ? AND session <> ''",
                (successor, self._next(), held.name, held.term),
            )
            return self._read(held.name)

    def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request in the record if it still carries `request.term`."""
        with self._writing():
            if self._is_foreign(name):
                raise Refused(self._read(name))
            changed = self._db.execute(
                "UPDATE election SET request_term = ?, request_to = ?, serial = ? "
                "WHERE name = ? AND term = ? AND session <> ''",
                (request.term, request.to, self._next(), name, request.term),
            ).rowcount
            now = self._read(name)
            if not changed:
                raise Refused(now)
            return now

    def bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        """Bar what is held under a term, or replace exactly one bar; None lifts that."""
        form, text, nonce = (FORMAT, "", "") if bar is None else (BARRED, bar.text, bar.nonce)
        with self._synced(), self._writing():
            now = self._read(over.name)
            exact = now.bar is not None and now.version == over.version
            held = now.holding is Holding.HELD is over.holding and now.term == over.term
            if not exact and (bar is None or not held):
                raise Refused(now)
            self._db.execute(
                "UPDATE election SET format = ?, holder = ?, term = ?, session = '', "
                "successor = '', request_term = '', request_to = '', serial = ? WHERE name = ?",
                (form, text, nonce, self._next(), over.name),
            )
            return self._read(over.name)

    def open_session(self, key: str, owner: str, ttl_s: float) -> Lease:
        """Write a session, and clear away those that are over and named by nothing."""
        with self._writing():
            self._db.execute(
                "DELETE FROM session WHERE beat = ? AND key NOT IN (SELECT session FROM election)",
                (VOID,),
            )
            self._db.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, 0, ?)",
                (key, self._opener, owner, ttl_s, self._next()),
            )
        return Lease(key=key, version=0, ttl_s=ttl_s, owner=owner)

    def close_session(self, key: str) -> None:
        """Void a session; what is held under it is vacant."""
        with self._writing():
            self._db.execute(
                "UPDATE session SET beat = ?, serial = ? WHERE key = ?", (VOID, self._next(), key)
            )

    def sessions(self) -> set[str]:
        """Return the keys of the sessions that are not over."""
        with self._using():
            rows = self._db.execute("SELECT key FROM session WHERE beat <> ?", (VOID,))
            return {key for (key,) in rows}

    # -- helpers ----------------------------------------------------------------------------------

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._used, _mapped(self._path):
            yield

    @contextmanager
    def _synced(self) -> Iterator[None]:
        """Sync what is committed to the disk."""
        with self._used:
            self._db.execute("PRAGMA synchronous = FULL")
            try:
                yield
            finally:
                self._db.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._using():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _one_look(self) -> Iterator[sqlite3.Connection]:
        with self._using(), self._reading():
            yield self._db

    @contextmanager
    def _one_write(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        with self._synced(), self._writing():
            yield self._db, self._next()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def _read(self, name: str) -> Snapshot:
        row = self._db.execute(_SELECT + "WHERE e.name = ?", (name,)).fetchone()
        return _snapshot(row) if row is not None else self._absent_at(name, self._serial())

    def _absent_at(self, name: str, serial: int) -> Snapshot:
        origin = _one(self._db, "SELECT rowid FROM counter")
        return replace(absent(name, serial), lease_version=f"absent from {origin}")

    def _is_foreign(self, name: str) -> bool:
        return self._read(name).holding is Holding.FOREIGN

    def _alive(self, session: str) -> bool:
        query = "SELECT count(*) FROM session WHERE key = ? AND beat <> ?"
        return bool(_one(self._db, query, (session, VOID)))

    def _serial(self) -> int:
        return int(_one(self._db, "SELECT serial FROM counter"))

    def _next(self) -> int:
        return int(_one(self._db, "UPDATE counter SET serial = serial + 1 RETURNING serial"))


def _one(db: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Any:
    rows = db.execute(query, values).fetchall()
    if len(rows) != 1:
        raise StoreUnusable(f"the database is damaged: {query!r} gave {len(rows)} rows, not one")
    return rows[0][0]


def _is_there(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # Whoever opens it is told what is the matter.
    return True


def _text(data: bytes) -> str | bytes:
    """Decode a text column. One that cannot be makes its row foreign, and no other."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _held(claim: Claim, snapshot: Snapshot) -> Held:
    if claim.session is None:
        raise AssertionError("held without a session")
    return Held(snapshot.name, claim.term, snapshot.token, claim.session, snapshot)


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    (name, form, serial, holder, term, token, session, successor, asked, to, ttl_s, beat) = row
    sound = (
        form == FORMAT
        and type(name) is str
        and type(serial) is int
        and type(token) is int
        and all(type(text) is str for text in (holder, term, session, successor, asked, to))
        and (ttl_s is None or (type(ttl_s) is float and ttl_s > 0))
        and (beat is None or type(beat) is int)
    )
    numbered = type(name) is str and type(serial) is int and type(token) is int
    if form == BARRED and numbered and (bar := Bar.of(holder, term)) is not None:
        return barred(name, bar, serial, serial, token)
    if not sound:
        why = f"format {form!r}" if form != FORMAT else "a column has a value of the wrong type"
        number = serial if type(serial) is int else 0
        name = name if type(name) is str else repr(name)
        return Snapshot(name, Holding.FOREIGN, version=repr(row), serial=number, why=why)
    live = bool(session) and beat is not None and beat != VOID
    return Snapshot(
        name=name,
        holding=Holding.HELD if live else Holding.VACANT,
        version=serial,
        serial=serial,
        holder=holder,
        term=term,
        token=token,
        ttl_s=ttl_s or 0.0,
        lease_key=session,
        lease_version=beat if live else "void",
        successor=successor,
        request=StepDownRequest(asked, to) if asked else None,
    )


_UNAVAILABLE = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_NOMEM"}
_DENIED = {"SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH"}
_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}


def _open_ones() -> list[Tables]:
    return [tables for ref in _OPEN.valuerefs() if (tables := ref()) is not None]


def _before_fork() -> None:
    """Have no connection in the middle of anything, so that the child can close its copy."""
    _QUIET.extend(each for each in _open_ones() if each._used.acquire(timeout=2 * BUSY_S))


def _after_fork() -> None:
    while _QUIET:
        _QUIET.pop()._used.release()


def _after_fork_in_child() -> None:
    """Close what the parent has opened. The file locks are the parent's, and stay."""
    for tables in _open_ones():
        if tables not in _QUIET:
            _LEFT_OPEN.add(tables._path)
        elif hasattr(tables, "_db"):  # Else it is only about to be opened.
            with suppress(sqlite3.Error):
                tables._db.close()
    _OPEN.clear()
    _QUIET.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Make of SQLite's errors ours. A transaction that was not committed was rolled back."""
    try:
        yield
    except sqlite3.Error as error:
        raise _ours(path, error) from error


def _ours(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorname", "") or ""
    basic = "_".join(code.split("_")[:2])
    if basic == "SQLITE_FULL":
        return StoreFull(f"no room for {path}: free space on its disk; nothing was changed")
    # A full disk may also be an SQLITE_IOERR, of a sync or of the log's index, and that is left
    # unknown below: the commit may stand in the log already, unseen, and a recovery would find it.
    if basic == "SQLITE_CANTOPEN" and not os.access(path.parent, os.W_OK):
        basic = "SQLITE_READONLY"
    if basic in _UNAVAILABLE:
        return StoreUnavailable(f"{path}: {error}")
    if basic in _DENIED:
        return PermissionDenied(f"no right to write {path} and its folder: {error}")
    if basic in _DAMAGED:
        return StoreUnusable(f"{path} is not a database, or is damaged: {error}")
    return OutcomeUnknown(f"{path}: {error} ({code or type(error).__name__})")
