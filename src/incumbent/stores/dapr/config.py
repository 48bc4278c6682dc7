"""Where the sidecar is: the URL first, then the variables that Dapr itself sets for a program.

    dapr://HOST:PORT/STORENAME?protocol=http|grpc&lock=TEXT

| variable          | is                                                       |
| `DAPR_HTTP_PORT`  | the port, for `protocol=http`; else 3500                 |
| `DAPR_GRPC_PORT`  | the port, for `protocol=grpc`; else 50001                |
| `DAPR_API_TOKEN`  | sent with each request; it stands in no URL and no text  |

A sidecar stands on loopback, and what is said to it is not encrypted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from incumbent.errors import ConfigError
from incumbent.stores.api import StoreURL
from incumbent.stores.recipes import LockName

__all__ = ["SEPARATOR", "Settings", "load"]

SEPARATOR = "||"
"""What Dapr puts a key together with, and refuses in a name."""

_PORTS = {"http": ("DAPR_HTTP_PORT", 3500), "grpc": ("DAPR_GRPC_PORT", 50001)}


@dataclass(frozen=True, slots=True)
class Settings:
    """One lock store behind one sidecar.

    Attributes:
        protocol: "http" or "grpc".
        host, port: of the sidecar.
        component: the lock store, by the name that the sidecar has for it.
        lock: how the lock of an election is called there (`resourceId`).
        token: for the sidecar, or "".
        url: for people, and without the token.
    """

    protocol: str
    host: str
    port: int
    component: str
    lock: LockName
    token: str = field(repr=False)
    url: str = ""

    @property
    def address(self) -> str:
        """Host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def load(url: StoreURL, environ: Mapping[str, str] | None = None) -> Settings:
    """Take the settings together.

    Raises:
        ConfigError: something that counts cannot be used.
    """
    environ = os.environ if environ is None else environ
    options = url.take_options("protocol", "lock")
    protocol = options.get("protocol", "http")
    if protocol not in _PORTS:
        raise ConfigError(f"dapr://: there is no protocol={protocol!r}; it knows: http, grpc")
    if url.username or url.password:
        raise ConfigError(
            "dapr:// has no users: a sidecar's token is read from DAPR_API_TOKEN, so that no URL "
            "has it"
        )
    component = url.path.strip("/")
    if not component or "/" in component:
        raise ConfigError(
            "dapr:// needs the name of the lock store, one word: dapr://HOST:PORT/STORENAME"
        )
    text = options.get("lock")
    if SEPARATOR in (text or ""):
        raise ConfigError(f"lock={text}: Dapr refuses {SEPARATOR!r} in the name of a lock")
    lock = LockName() if text is None else LockName(text)
    variable, usual = _PORTS[protocol]
    settings = Settings(
        protocol=protocol,
        host=url.host or "127.0.0.1",
        port=url.port or _port(environ, variable, usual),
        component=component,
        lock=lock,
        token=environ.get("DAPR_API_TOKEN", ""),
    )
    said = "&".join(f"{name}={value}" for name, value in options.items())
    where = f"dapr://{settings.address}/{component}"
    return replace(settings, url=f"{where}?{said}" if said else where)


def _port(environ: Mapping[str, str], variable: str, usual: int) -> int:
    text = environ.get(variable, "")
    if not text:
        return usual
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise ConfigError(f"{variable}={text!r} is no port")
    return int(text)
