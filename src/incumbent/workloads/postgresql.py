"""Connections to PostgreSQL for work: how they are made, named, and taken from a predecessor.

psycopg is PostgreSQL's own client for Python, has both faces, and is what the store uses, too.

A predecessor that is paused, or cut off, may have an open transaction that holds the row which the
successor has to seal. The server would keep it for as long as the session lives: hours. Its term is
over, so the successor has the server end its sessions, which are known by their application name:

    incumbent/WORK/TOKEN/PART

Only sessions with a token that is not above one's own are ended, so one that wakes up late and
connects once more ends nobody's. A session is either ended before its commit, and nothing of it is
left, or after it, and all of it is there: the seal that waits for it sees which. It takes the same
user of the database, or the right `pg_signal_backend`; without either, the successor waits until
the server gives up on the other one (`idle_in_transaction_session_timeout`, TCP keep-alive).
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from incumbent.errors import ConfigError, MissingExtra
from incumbent.fencing.both import settled
from incumbent.stores.api import StoreURL

if TYPE_CHECKING:
    from incumbent.runtime.term import Term

__all__ = [
    "STOOD_STILL",
    "application",
    "conninfo",
    "end_earlier",
    "gone",
    "named",
    "same_database",
    "settle_session",
]

_PORT = 5432
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_CANCELLED = "57014"
_GONE = ("08", "40", "53", "57P", "58", "25006", "55P03", _CANCELLED, "XX000")
"""Classes and codes that say nothing of the statement: no connection, conflict of transactions, out
of resources, shutdown, system error, a server that is read-only, a lock that is not to be had, or
not within the time that the server gives to a statement."""

_MISCONFIGURED = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "certificate verify failed",
    "permission denied",
    "no password supplied",
)

STOOD_STILL = "25P03"
"""The transaction stood still for longer than the server permits: its handler did."""

_END_EARLIER = """\
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user
AND application_name LIKE %s
AND CAST(split_part(application_name, '/', 3) AS bigint) <= %s
"""


def application(work: str, token: int | None, part: str) -> str:
    """Return the name of a session; it has to fit into 63 bytes."""
    name = work if len(work) <= 20 and work.isascii() and "/" not in work else ""
    short = name or sha256(work.encode()).hexdigest()[:16]
    return f"incumbent/{short}/{token or 0}/{part}"


def _earlier(work: str, token: int | None, part: str) -> tuple[str, int]:
    """Return the values of `_END_EARLIER`."""
    head, _, _ = application(work, token, part).rpartition(f"/{token or 0}/")
    pattern = head.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"{pattern}/%/{part}", token or 0


def conninfo(url: StoreURL, *ours: str) -> str:
    """Return what libpq understands, with limits for a server that is silent.

    Args:
        url: all of its options but `ours` are libpq's.
        *ours: options that are somebody else's.

    Raises:
        MissingExtra: psycopg is not installed.
        ConfigError: it cannot be used.
    """
    try:
        import psycopg
        from psycopg.conninfo import make_conninfo
    except ImportError as error:  # psycopg raises it, too, where it finds no libpq.
        raise MissingExtra(
            "postgresql:// needs the package 'psycopg', with libpq: "
            f"pip install 'incumbent[postgresql]' ({error})"
        ) from None
    servers = url.servers(_PORT) if "," in url.host else ((url.host, url.port or _PORT),)
    given = {
        "host": ",".join(host for host, _ in servers),
        "port": ",".join(str(port) for _, port in servers),
        "user": url.username,
        "password": url.password,
        "dbname": url.path.removeprefix("/"),
    }
    options = {key: value for key, value in url.options.items() if key not in ours}
    params = {key: value for key, value in given.items() if value}
    if not url.host and url.port is None:
        del params["port"]
    try:
        return make_conninfo("", **{**_DEFAULTS, **params, **options})
    except psycopg.Error as error:
        raise ConfigError(f"{url.scheme}://: {' '.join(str(error).split())}") from None


def named(url: StoreURL) -> str:
    """Return the URL without secrets and options, for messages."""
    port = "" if url.port is None else f":{url.port}"
    return f"postgresql://{url.host}{port}{url.path}"


def same_database(one: str, other: str) -> bool:
    """Tell whether two connection strings say that they lead to the same database."""
    from psycopg.conninfo import conninfo_to_dict

    def place(info: str) -> tuple[str, ...]:
        found: dict[str, Any] = dict(conninfo_to_dict(info))
        name = found.get("dbname") or found.get("user") or ""
        server = (str(found.get(key, "")) for key in ("host", "hostaddr", "service"))
        return *server, str(found.get("port", "5432")), str(name)

    return place(one) == place(other)


def gone(error: BaseException, connection: Any, *, theirs: bool = False) -> str:
    """Return why the server is not there for us, or "" if it is.

    Who cannot connect because of what was configured is told so: the server is there. A statement
    of the user's (`theirs`) that takes longer than the server permits is his to mend.
    """
    import psycopg

    text = " ".join(str(error).split()) or "the connection was lost"
    if not isinstance(error, psycopg.Error):
        return text if connection is not None and connection.closed else ""
    if connection is None:
        return "" if any(words in text for words in _MISCONFIGURED) else text
    state = error.sqlstate or ""
    if state == STOOD_STILL or (theirs and state == _CANCELLED):
        return ""
    return text if connection.closed or state.startswith(_GONE) else ""


async def settle_session(connection: Any) -> None:
    """Make a new session what the others are, whatever stands between, and however it was set up.

    A pooler lends the server's sessions to one client after the other. What one has prepared stays
    there, and is carried out in place of another's statement of the same name: so behind a pooler,
    which calls the server's process otherwise than that does itself, nothing is prepared.

    A database without an encoding has texts given back as bytes; UTF-8 goes through it as it is.
    """
    cursor = await settled(connection.execute("SELECT pg_backend_pid()"))
    (process,) = await settled(cursor.fetchone())
    if process != connection.info.backend_pid:
        connection.prepare_threshold = None
    if connection.info.parameter_status("client_encoding") == "SQL_ASCII":
        await settled(connection.execute("SET client_encoding TO 'UTF8'"))


async def end_earlier(execute: Any, term: Term, work: str, part: str) -> None:
    """Have the server end the sessions of this and earlier terms, but for the one that asks."""
    term.check()
    await execute(_END_EARLIER, _earlier(work, term.token, part))
