"""Which agent is asked, how it is trusted, and who we are to it.

What the URL says comes first, then the environment variables of Consul's own tools:

    CONSUL_HTTP_ADDR         HOST:PORT, http://… or https://… (no Unix sockets)
    CONSUL_HTTP_TOKEN        the ACL token
    CONSUL_HTTP_TOKEN_FILE   a file with it, which comes before the variable
    CONSUL_HTTP_AUTH         USER:PASSWORD of a proxy in front
    CONSUL_HTTP_SSL          true for TLS
    CONSUL_HTTP_SSL_VERIFY   false for no check of the certificate
    CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY, CONSUL_TLS_SERVER_NAME

A file of CONSUL_HTTP_TOKEN_FILE is read again when its token was refused: a leader must survive
that its token is replaced. No message has a token in it.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from incumbent.errors import ConfigError
from incumbent.stores.api import StoreURL

__all__ = ["Settings", "Token", "load"]

DEFAULT_PREFIX = "incumbent"
_PORT, _TLS_PORT = 8500, 8501
_SEGMENT = re.compile(r"[A-Za-z0-9_][-.A-Za-z0-9_]*")
_GREATEST_PREFIX = 200
_TRUTH = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}

Environ = Mapping[str, str]


class Token:
    """The ACL token, or none; one from a file can be replaced."""

    def __init__(self, value: str = "", path: Path | None = None) -> None:
        self.value = value
        self._path = path
        if path is not None:
            self.value = _read(path)

    def renew(self) -> bool:
        """Look for another one, after this one was refused; tell whether there is."""
        if self._path is None:
            return False
        before = self.value
        try:
            self.value = _read(self._path) or before
        except ConfigError:
            return False
        return self.value != before


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client needs to know.

    Attributes:
        server: the URL of the agent.
        prefix: what all our keys begin with, without a slash at its end.
        tls: None for plain HTTP.
        tls_name: the name in the certificate, if it is not the host.
        datacenter: whose keys; "" for the agent's own.
        token: who we are.
        authorization: a header for a proxy in front, or "".
    """

    server: str
    prefix: str
    tls: ssl.SSLContext | None
    tls_name: str = ""
    datacenter: str = ""
    token: Token = field(default_factory=Token, repr=False)
    authorization: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The store's URL, without secrets."""
        where = urlsplit(self.server)
        query = {"tls": "true"} if self.tls else {}
        if self.datacenter:
            query["dc"] = self.datacenter
        tail = f"?{urlencode(query)}" if query else ""
        return f"consul://{where.netloc}{where.path}/{self.prefix}{tail}"


def load(url: StoreURL, environ: Environ = os.environ) -> Settings:
    """Find out where the agent is.

    Raises:
        ConfigError: the URL, or a variable that counts, cannot be used.
    """
    options = url.take_options("cafile", "certfile", "keyfile", "tls", "dc", "recipe", "lock")
    asked = _flag("the option tls", options["tls"]) if "tls" in options else None
    files = {name: value for name, value in options.items() if name.endswith("file")}
    if files and asked is False:
        raise ConfigError(f"consul://: {next(iter(files))} is for TLS, and tls is false")
    if url.port is not None and not url.host:
        raise ConfigError("consul:// has a port and no host")
    named, where = (False, "") if url.host else _address(environ)
    encrypted = bool(files) or named or _flag_of(environ, "CONSUL_HTTP_SSL")
    if asked is not None:
        encrypted = asked
    if url.host:
        host = f"[{url.host}]" if ":" in url.host else url.host
        where = f"{host}:{url.port or (_TLS_PORT if encrypted else _PORT)}"
    scheme = "https" if encrypted else "http"
    return Settings(
        server=f"{scheme}://{where}",
        prefix=_prefix(url.path),
        tls=_tls(files, environ) if encrypted else None,
        tls_name=environ.get("CONSUL_TLS_SERVER_NAME", ""),
        datacenter=_datacenter(options.get("dc", "")),
        token=_token(url, environ),
        authorization=_authorization(environ),
    )


def _address(environ: Environ) -> tuple[bool, str]:
    """Return whether the variable names TLS, and host, port and path."""
    address = environ.get("CONSUL_HTTP_ADDR") or f"127.0.0.1:{_PORT}"
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "http", address
    try:
        parts = urlsplit(f"//{rest}")
        usable = bool(parts.hostname) and (parts.port or True) and not parts.username
    except ValueError:
        usable = False
    if scheme not in ("http", "https") or not usable:
        raise ConfigError(
            f"CONSUL_HTTP_ADDR is {_shown(address)!r}: HOST:PORT, http://… or https://… can be used"
        )
    return scheme == "https", rest.rstrip("/")


def _shown(address: str) -> str:
    return address.rpartition("@")[2]


def _prefix(path: str) -> str:
    prefix = path.strip("/") or DEFAULT_PREFIX
    sound = all(_SEGMENT.fullmatch(segment) for segment in prefix.split("/"))
    if not sound or len(prefix) > _GREATEST_PREFIX:
        raise ConfigError(
            f"consul://: {prefix!r} cannot be the prefix of our keys: write at most "
            f"{_GREATEST_PREFIX} letters, digits, '-', '_' and '.', with '/' between words"
        )
    return prefix


def _datacenter(name: str) -> str:
    if name and not _SEGMENT.fullmatch(name):
        raise ConfigError(f"consul://: {name!r} cannot be the name of a datacenter")
    return name


def _token(url: StoreURL, environ: Environ) -> Token:
    if url.username and url.password:
        raise ConfigError("consul:// takes one token and no user: consul://TOKEN@HOST:PORT/PREFIX")
    if given := url.username or url.password:
        return Token(_clean(given, "the token of the URL"))
    if path := environ.get("CONSUL_HTTP_TOKEN_FILE"):
        return Token(path=Path(path))
    return Token(_clean(environ.get("CONSUL_HTTP_TOKEN", ""), "CONSUL_HTTP_TOKEN"))


def _clean(token: str, origin: str) -> str:
    """Refuse what no header can carry."""
    if re.search(r"[^\x21-\x7e]", token):
        raise ConfigError(f"{origin} has a character that no token has")
    return token


def _read(path: Path) -> str:
    try:
        return _clean(path.read_text(encoding="utf-8").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"CONSUL_HTTP_TOKEN_FILE: cannot read {path}: {error}") from None


def _authorization(environ: Environ) -> str:
    pair = environ.get("CONSUL_HTTP_AUTH", "")
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii") if pair else ""


def _flag_of(environ: Environ, name: str, *, default: bool = False) -> bool:
    return _flag(name, environ[name]) if environ.get(name) else default


def _flag(what: str, text: str) -> bool:
    if text not in _TRUTH:
        raise ConfigError(f"{what} is {text!r}: write true or false")
    return _TRUTH[text]


def _tls(files: Mapping[str, str], environ: Environ) -> ssl.SSLContext:
    authority = files.get("cafile") or environ.get("CONSUL_CACERT") or None
    folder = None if authority else environ.get("CONSUL_CAPATH") or None
    certificate = files.get("certfile") or environ.get("CONSUL_CLIENT_CERT")
    key = files.get("keyfile") or environ.get("CONSUL_CLIENT_KEY")
    if key and not certificate:
        raise ConfigError("consul://: a client key, and no certificate to it: add certfile")
    try:
        context = ssl.create_default_context(cafile=authority, capath=folder)
        if not _flag_of(environ, "CONSUL_HTTP_SSL_VERIFY", default=True):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            # An empty pass phrase: OpenSSL would ask for one on the terminal, and wait.
            context.load_cert_chain(certificate, key or None, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the certificates to speak with Consul are wrong: {error}") from None
    return context
