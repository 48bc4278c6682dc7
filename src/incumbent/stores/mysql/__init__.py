"""The store `mysql://`: elections in three small tables of a MySQL or MariaDB database.

    mysql://USER:PASSWORD@HOST:PORT/DATABASE?ssl-mode=VERIFY_IDENTITY&ssl-ca=PATH
    mariadb://USER:PASSWORD@/DATABASE?socket=/run/mysqld/mysqld.sock

`recipe` joins the lock of another library in its own table (`incumbent.stores.sql.joined`).

Neither of them can notify anybody, so standbys look: one query for all that is followed, several
times a TTL. `server` speaks to the database, `connection` has its errors; what is done there is
`incumbent.stores.sql`.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

from incumbent.errors import ConfigError
from incumbent.stores.api import ON_ONE_SERVER, Capabilities, Grade, StoreURL, missing_extra
from incumbent.stores.sql import LOOKS_PER_TTL, SqlStore
from incumbent.stores.sql.joined import OPTIONS, RECIPES, JoinedStore, capabilities, joined

__all__ = ["MysqlStore", "open", "set_ups"]

CAPABILITIES = Capabilities(
    scheme="mysql",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a committed UPDATE of the session's row",
    wakes_by="a query several times a TTL, one for all elections",
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
    unseen_ttls=1 / LOOKS_PER_TTL,
    takeover_trips=3,  # one is the look, of which the renewal may just have missed the answer
    bars=True,
    checkpoints=True,
)

_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")


class MysqlStore(SqlStore):
    """The elections in one MySQL or MariaDB database."""

    capabilities = CAPABILITIES


def set_ups() -> dict[str, Capabilities]:
    """Return the capabilities of set-ups that differ from those of the scheme, by the option."""
    return {f"recipe={recipe}": capabilities("mysql", recipe) for recipe in RECIPES}


def open(url: StoreURL) -> MysqlStore | JoinedStore:
    """Return the store of `mysql://…`; nothing is sent yet.

    Raises:
        ConfigError: the URL has no database, or an option that is not known or cannot be.
        MissingExtra: PyMySQL is not installed.
    """
    known = ("socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode")
    options = url.take_options(*known, *OPTIONS)
    guest = joined(url.scheme, options)
    database = url.path.removeprefix("/")
    if not database or "/" in database:
        raise ConfigError(
            f"{url.scheme}:// needs the name of one database: {url.scheme}://HOST/NAME"
        )
    try:
        from incumbent.stores.mysql.server import MysqlServer
    except ModuleNotFoundError as error:
        raise missing_extra(url.scheme, "mysql", error) from None
    params: dict[str, Any] = {
        "host": url.host or "localhost",
        "port": url.port or 3306,
        "user": url.username,
        "password": url.password or "",
        "database": database,
        "unix_socket": options.get("socket"),
    }
    context, required = _tls(options)
    user = f"{quote(url.username)}@" if url.username else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = "" if url.port is None else f":{url.port}"
    shown = f"mysql://{user}{host}{port}/{quote(database)}"
    if guest is not None:
        have = capabilities("mysql", guest.table.recipe)
        server = MysqlServer(params, context, required=required, tables=guest.tables)
        return JoinedStore(server, guest.table, guest.lock, f"{shown}?{guest.query}", have)
    server = MysqlServer(params, context, required=required)
    return MysqlStore(server, shown, CAPABILITIES)


def _tls(options: dict[str, str]) -> tuple[ssl.SSLContext | None, bool]:
    """Return the settings of TLS, and whether it must be; a file of authorities is to be used.

    Made once: a context that loads the authorities of the system costs as much as the connection.
    """
    ca, certificate = options.get("ssl-ca"), options.get("ssl-cert")
    mode = options.get("ssl-mode", "VERIFY_IDENTITY" if ca else "PREFERRED").upper()
    if mode not in _MODES:
        raise ConfigError(f"ssl-mode={mode!r}: use one of {', '.join(_MODES)}")
    if mode == "DISABLED":
        return None, False
    if mode.startswith("VERIFY") and not ca:
        raise ConfigError(f"ssl-mode={mode} needs ssl-ca, a file with the authorities to trust")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "VERIFY_IDENTITY"
    context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("VERIFY") else ssl.CERT_NONE
    try:
        if ca:
            context.load_verify_locations(ca)
        if certificate:
            context.load_cert_chain(certificate, options.get("ssl-key"))
    except OSError as error:
        raise ConfigError(f"ssl-ca, ssl-cert and ssl-key cannot be used: {error}") from None
    return context, mode != "PREFERRED"
