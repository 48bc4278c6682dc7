"""The store `postgresql://`: elections in three small tables of a PostgreSQL database.

    postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=PATH
    postgresql:///DATABASE?host=/var/run/postgresql
    postgresql://USER@POOLER/DATABASE?listen=HOST:PORT

All of libpq's ways apply (a password file, a service file, the variables PGHOST, PGPASSWORD, …).
`recipe` joins the lock of another library in its own table (`incumbent.stores.sql.joined`).

`listen` says where the server itself is if the URL leads to a pooler in transaction mode, and
`schema` where the tables are. `server` speaks to PostgreSQL, `connection` has its errors, `bell`
wakes standbys; what is done there is `incumbent.stores.sql`.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from incumbent.errors import ConfigError, MissingExtra
from incumbent.stores.api import ON_ONE_SERVER, Capabilities, Grade, StoreURL
from incumbent.stores.sql import SqlStore
from incumbent.stores.sql.joined import OPTIONS, RECIPES, JoinedStore, capabilities, joined

__all__ = ["PostgresStore", "open", "set_ups"]

CAPABILITIES = Capabilities(
    scheme="postgresql",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a committed UPDATE of the session's row",
    wakes_by="LISTEN on a direct connection; behind a pooler, a query several times a TTL",
    evidence="",
    absent_is_vacant=True,
    whole_seconds=False,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes=(
        "one primary at a time, which loses no confirmed commit at a failover, nobody drops the "
        "tables, and clock rates differ by no more than rho"
    ),
    survives=ON_ONE_SERVER,
    bars=True,
    checkpoints=True,
)

_LIBPQ = (
    "application_name",
    "channel_binding",
    "connect_timeout",
    "gssencmode",
    "host",
    "hostaddr",
    "passfile",
    "require_auth",
    "service",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
)
_DEFAULTS = {
    "application_name": "incumbent",
    "connect_timeout": "10",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


class PostgresStore(SqlStore):
    """The elections in one PostgreSQL database."""

    capabilities = CAPABILITIES


def set_ups() -> dict[str, Capabilities]:
    """Return the capabilities of set-ups that differ from those of the scheme, by the option."""
    return {f"recipe={recipe}": capabilities("postgresql", recipe) for recipe in RECIPES}


def open(url: StoreURL) -> PostgresStore | JoinedStore:
    """Return the store of `postgresql://…`; nothing is sent yet.

    Raises:
        ConfigError: the URL has an option that is not known, or a value that cannot be.
        MissingExtra: psycopg is not installed.
    """
    options = url.take_options(*_LIBPQ, "listen", "schema", *OPTIONS)
    guest = joined(url.scheme, options)
    schema, listen = options.pop("schema", ""), options.pop("listen", "")
    if guest is not None and listen:
        raise ConfigError("listen= does not go with recipe=: its members notify nobody")
    if schema and not _SCHEMA.fullmatch(schema):
        raise ConfigError(f"schema={schema!r}: use up to 40 of a-z, A-Z, 0-9 and '_'")
    database = url.path.removeprefix("/")
    if "/" in database:
        raise ConfigError(f"{url.scheme}:// takes the name of one database, not {database!r}")
    try:
        import psycopg
        from psycopg.conninfo import make_conninfo

        from incumbent.stores.postgresql.server import PostgresServer
    except ImportError as error:  # psycopg raises it, too, where it finds no libpq.
        text = (
            "postgresql:// needs the package 'psycopg', with libpq: "
            f"pip install 'incumbent[postgresql]' ({error})"
        )
        raise MissingExtra(text) from None
    given = {
        "host": url.host,
        "port": None if url.port is None else str(url.port),
        "user": url.username,
        "password": url.password,
        "dbname": database,
    }
    params = {**_DEFAULTS, **{key: value for key, value in given.items() if value}, **options}
    try:
        conninfo = make_conninfo("", **params)
        direct = make_conninfo("", **{**params, **_place(listen)}) if listen else conninfo
    except psycopg.Error as error:
        raise ConfigError(f"{url.scheme}:// cannot be used: {error}") from None
    if guest is not None:
        have = capabilities("postgresql", guest.table.recipe)
        shown = _shown(url, database, schema, guest.query)
        server = PostgresServer(conninfo, direct, schema, guest.tables)
        return JoinedStore(server, guest.table, guest.lock, shown, have)
    server = PostgresServer(conninfo, direct, schema)
    return PostgresStore(server, _shown(url, database, schema), CAPABILITIES)


def _place(listen: str) -> dict[str, str]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ConfigError(f"listen={listen!r}: write the server's HOST:PORT")
    return {"host": host.strip("[]"), "port": port}


def _shown(url: StoreURL, database: str, schema: str, more: str = "") -> str:
    user = f"{quote(url.username)}@" if url.username else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = "" if url.port is None else f":{url.port}"
    query = "&".join(filter(None, (f"schema={schema}" if schema else "", more)))
    return f"postgresql://{user}{host}{port}/{quote(database)}{query and '?'}{query}"
