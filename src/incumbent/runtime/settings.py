"""What a candidate needs to know, taken together from arguments, environment and defaults.

An argument beats the environment, which beats the default:

| argument  | environment          | default                                                     |
| `store`   | `INCUMBENT_STORE`    | the embedded store; in a container an error                 |
| `ttl_s`   | `INCUMBENT_TTL`      | 15 seconds; none in a store that cannot renew               |
| `grace_s` | `INCUMBENT_GRACE`    | a fifth of the trusted time                                 |
| `rho`     | `INCUMBENT_RHO`      | 0.10                                                        |
| `as_`     | `INCUMBENT_IDENTITY` | the Pod's name and UID, or the host's name                  |
"""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import cast
from urllib.parse import quote

from incumbent.core.records import check_name
from incumbent.core.timing import DEFAULT_RHO, DEFAULT_TTL_S, Timing
from incumbent.errors import ConfigError, UnsupportedPlatform
from incumbent.runtime import deadman
from incumbent.stores import default_url, open_store
from incumbent.stores.api import Capabilities, Grade, Store

__all__ = ["REQUIREMENTS", "Settings", "check_timeout", "expect_number"]

_OTHERS = (
    "etcd://, consul://, zookeeper://, kubernetes://, postgresql://, mysql://, redis:// without "
    "replicas, or on one host sqlite:///PATH or file:///PATH"
)
"""What meets every demand."""

REQUIREMENTS = ("", "token", "exclusive", "renewal")


@dataclass(frozen=True, slots=True)
class Settings:
    """One candidate's settings, checked.

    Attributes:
        name: the election.
        store: not connected yet.
        timing: see `core.timing`.
        candidate: the first part of the identity, or "" for the store's or host's own name.
        armed: whether the kernel ends the work if it outlives its term.
        store_url: the store's URL as it was given, secrets and all.
        store_key: what candidates of one process share a connection by: the whole URL, or, for a
            `Store` that the caller made, that very object. `Store.url` would not do: it is for
            people, and leaves out secrets and options by which another server may be meant.
        isolated: whether the work has a process of its own, so that this one is never killed.
    """

    name: str
    store: Store
    timing: Timing
    candidate: str
    armed: bool
    store_url: str = field(repr=False)
    store_key: str = field(repr=False)
    isolated: bool = False

    @classmethod
    def resolve(
        cls,
        name: str,
        *,
        store: str | Store | None = None,
        ttl_s: float | None = None,
        grace_s: float | None = None,
        rho: float | None = None,
        as_: str | None = None,
        armed: bool = False,
        isolated: bool = False,
        require: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Check everything that can be checked before anything is touched.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
            UnsupportedPlatform: what was demanded needs a kernel that this is not.
        """
        environ = os.environ if environ is None else environ
        _expect(name, str, "name", "a str")
        check_name(name)
        if as_ is not None:
            _expect(as_, str, "as_", "a str")
        given = default_url(environ) if store is None else store
        opened = _opened(given)
        _meets(opened, require, armed=armed or isolated)
        chosen_s = _number_or_none(environ, "INCUMBENT_TTL", ttl_s, "ttl_s")
        if chosen_s is None and not opened.capabilities.renews:
            raise ConfigError(
                f"{opened.url} renews nothing: a term ends, and its work is stopped, before its "
                "TTL is over. So say how long that is, by ttl_s or INCUMBENT_TTL: the time of a "
                "whole piece of work, and of its stop"
            )
        timing = Timing.plan(
            DEFAULT_TTL_S if chosen_s is None else chosen_s,
            grace_s=_number_or_none(environ, "INCUMBENT_GRACE", grace_s, "grace_s"),
            rho=_number(environ, "INCUMBENT_RHO", rho, "rho", DEFAULT_RHO),
            whole_seconds=opened.capabilities.whole_seconds,
        )
        if armed and not isolated and (why := deadman.supported()):
            raise UnsupportedPlatform(why)
        candidate = as_ if as_ is not None else environ.get("INCUMBENT_IDENTITY", "")
        url = given if isinstance(given, str) else opened.url
        # On one host `Store.url` is where the files are, whatever name led there.
        same = opened.url if opened.capabilities.one_host else f"{url} {opened.url}"
        key = f"{opened.url}#{id(opened)}" if opened is given else same
        return cls(name, opened, timing, _clean(candidate), armed or isolated, url, key, isolated)


def check_timeout(timeout_s: object) -> None:
    """Refuse what is no time to wait.

    Raises:
        ConfigError: it is neither None nor a number of seconds, 0 or more.
    """
    if timeout_s is not None:
        number = expect_number(timeout_s, "timeout_s")
        if not 0 <= number < math.inf:
            raise ConfigError(
                f"timeout_s={timeout_s!r} must be 0 or more seconds, or None to wait for ever"
            )


def _opened(store: object) -> Store:
    if isinstance(store, PurePath):
        url = f"sqlite://{quote(os.path.abspath(store))}"
        raise ConfigError(f"store={store!r} is a path, and a store is named by a URL: {url!r}")
    if isinstance(store, str):
        return open_store(store)
    if isinstance(getattr(store, "capabilities", None), Capabilities):
        return cast(Store, store)
    raise ConfigError(
        f"store={store!r} is neither a URL, such as 'sqlite:///var/lib/app/incumbent.db', nor a "
        "Store"
    )


def _expect(value: object, kind: type | tuple[type, ...], argument: str, wanted: str) -> None:
    # A bool is an int, and never what somebody meant by a number of seconds.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"{argument}={value!r} must be {wanted}")


def expect_number(value: object, argument: str) -> float:
    """Return `value`, if it is a number.

    Raises:
        ConfigError: it is not.
    """
    _expect(value, (int, float), argument, "a number, an int or a float")
    return cast(float, value)


def host_name() -> str:
    """Return this host's name in the alphabet of identities."""
    return _clean(socket.gethostname()) or "host"


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:200]


def _number(
    environ: Mapping[str, str],
    variable: str,
    given: float | None,
    argument: str,
    default: float,
) -> float:
    number = _number_or_none(environ, variable, given, argument)
    return default if number is None else number


def _number_or_none(
    environ: Mapping[str, str], variable: str, given: float | None, argument: str
) -> float | None:
    if given is not None:
        return expect_number(given, argument)
    text = environ.get(variable)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{variable}={text!r} is not a number of seconds") from None


def _meets(store: Store, require: str, *, armed: bool) -> None:
    """Refuse a demand that this store or set-up cannot meet."""
    have = store.capabilities
    if require not in REQUIREMENTS:
        raise ConfigError(
            f"require={require!r} is not known: use 'token', 'exclusive' or 'renewal'"
        )
    if require == "renewal" and not have.renews:
        raise ConfigError(
            f"require={require!r}: {store.url} cannot renew, so each term ends before its TTL is "
            f"over, and {_OTHERS} renews"
        )
    if require in ("token", "exclusive") and not have.token:
        raise ConfigError(
            f"require={require!r}: {store.url} has no fencing token, and {_OTHERS} has one"
        )
    if require == "exclusive":
        if have.one_process:
            raise ConfigError(
                f"require='exclusive': {store.url} elects among the candidates of one process "
                f"only; {_OTHERS} among all"
            )
        if have.grade is Grade.EFFICIENCY_ONLY:
            raise ConfigError(
                f"require='exclusive': {store.url} is for efficiency only: {have.assumes}. "
                f"What excludes: {_OTHERS}"
            )
        if not armed:
            raise ConfigError(
                "require='exclusive' needs the kernel's timer: use lead(), or hold(deadman=True)"
            )
