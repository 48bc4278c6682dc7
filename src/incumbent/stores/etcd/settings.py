"""Where etcd is, how it is trusted, and who we are to it: all of it stands in the URL.

TLS is the rule, and `tls=0` the exception that somebody has to write. A password is not sent over
plain HTTP to another host, unless that was written too (`plain_password=1`): who reads it there can
write every record below the prefix.

Certificates are files that something replaces while a process runs (a client certificate lives for
weeks, an elector for months), so they are loaded again when a connection failed and the files have
changed.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from incumbent.errors import ConfigError
from incumbent.stores.api import StoreURL

__all__ = ["Settings", "Tls", "read"]

DEFAULT_PORT = 2379
DEFAULT_PREFIX = "incumbent"

_log = logging.getLogger("incumbent.stores.etcd")


class Tls:
    """Whom we trust, and our own certificate.

    Args:
        cafile: the authorities; "" for those of the system.
        certfile: our certificate; "" for none.
        keyfile: its key; "" if it stands in `certfile`.

    Raises:
        ConfigError: a file is missing, or is not what it should be.
    """

    def __init__(self, cafile: str = "", certfile: str = "", keyfile: str = "") -> None:
        self._cafile = cafile
        self._certfile = certfile
        self._keyfile = keyfile
        try:
            self.context = ssl.create_default_context(cafile=cafile or None)
            self._stamps = self._look()
            self._load()
        except (OSError, ValueError) as error:
            raise ConfigError(f"the certificates to speak with etcd are wrong: {error}") from None

    def refresh(self) -> None:
        """Load what was replaced. Connections that stand keep what they have."""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return
            if self._cafile:
                self.context.load_verify_locations(cafile=self._cafile)
            self._load()
        except (OSError, ValueError) as error:
            _log.warning("cannot load the certificates that were replaced: %s", error)
        else:
            self._stamps = stamps

    def _look(self) -> list[tuple[int, int]]:
        names = [name for name in (self._cafile, self._certfile, self._keyfile) if name]
        found = [Path(name).stat() for name in names]
        return [(status.st_mtime_ns, status.st_ino) for status in found]

    def _load(self) -> None:
        if self._certfile:
            self.context.load_cert_chain(
                self._certfile, self._keyfile or None, password=_nobody_is_asked
            )


def _nobody_is_asked() -> NoReturn:
    raise ValueError("the client key is encrypted; nobody is asked for a pass phrase")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client needs to know.

    Attributes:
        servers: a URL for each member, in the order in which they were written.
        prefix: of all our keys, with the slash at its end.
        tls: None for plain HTTP.
        username, password: "" for none.
    """

    servers: tuple[str, ...]
    prefix: str
    tls: Tls | None = None
    username: str = ""
    password: str = field(default="", repr=False)


def read(url: StoreURL) -> Settings:
    """Return what the URL says.

    Raises:
        ConfigError: it cannot be used.
    """
    options = url.take_options(
        "cafile", "certfile", "keyfile", "lock", "plain_password", "recipe", "tls"
    )
    servers = url.servers(DEFAULT_PORT)
    if not servers:
        raise ConfigError("etcd:// needs a server: etcd://HOST:2379, or etcd://A:2379,B:2379")
    if (url.username is None) is not (url.password is None):
        raise ConfigError("etcd:// needs a user and a password, or neither: etcd://USER:PASSWORD@…")
    plain = not _switch(options, "tls", default=True)
    asked = _switch(options, "plain_password", default=False)
    files = {key: options.get(key, "") for key in ("cafile", "certfile", "keyfile")}
    if files["keyfile"] and not files["certfile"]:
        raise ConfigError("etcd:// has a keyfile= and no certfile= that it belongs to")
    if plain and any(files.values()):
        raise ConfigError("etcd:// has certificates and tls=0: leave out one or the other")
    away = [host for host, _ in servers if not _is_loopback(host)]
    if plain and url.password is not None and away and not asked:
        raise ConfigError(
            f"etcd:// would send a password to {away[0]!r} over plain HTTP: use TLS, or add "
            "plain_password=1 if everybody on the way may read it"
        )
    prefix = url.path[1:].rstrip("/") or DEFAULT_PREFIX
    if "\0" in prefix:
        raise ConfigError("the prefix of an etcd:// URL cannot have a NUL in it")
    scheme = "http" if plain else "https"
    return Settings(
        servers=tuple(f"{scheme}://{_bracketed(host)}:{port}" for host, port in servers),
        prefix=f"{prefix}/",
        tls=None if plain else Tls(**files),
        username=url.username or "",
        password=url.password or "",
    )


def _switch(options: dict[str, str], key: str, *, default: bool) -> bool:
    value = options.get(key, "1" if default else "0")
    if value not in ("0", "1"):
        raise ConfigError(f"etcd:// takes {key}=0 or {key}=1, and not {value!r}")
    return value == "1"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
