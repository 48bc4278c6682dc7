"""Where elections are kept. Which store, and how it is named in a URL, is decided here.

`api` is what a store must do; each further module is one store, and they do not know one another.
Stores are found over the entry point group `incumbent.stores`: a third party adds one by
installing a package. Our own are found by name first: reading the entry points of everything that
is installed costs 12 ms and 3 MiB, which is much for a process that shall be small.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from incumbent.errors import StoreRequired, UnknownScheme
from incumbent.stores.api import Store, StoreURL, missing_extra, redact
from incumbent.stores.shifted import Shifted, shift_of

__all__ = ["default_url", "open_store", "schemes"]

_GROUP = "incumbent.stores"
_CHOICES = (
    "kubernetes:// (a Lease in the Pod's own namespace), or sqlite:///PATH if every replica "
    "mounts the same local disk"
)


OURS = {
    "consul": "incumbent.stores.consul",
    "dapr": "incumbent.stores.dapr",
    "etcd": "incumbent.stores.etcd",
    "file": "incumbent.stores.file",
    "kubernetes": "incumbent.stores.kubernetes",
    "mariadb": "incumbent.stores.mysql",
    "memory": "incumbent.stores.memory",
    "mysql": "incumbent.stores.mysql",
    "postgres": "incumbent.stores.postgresql",
    "postgresql": "incumbent.stores.postgresql",
    "redis": "incumbent.stores.redis",
    "rediss": "incumbent.stores.redis",
    "sqlite": "incumbent.stores.sqlite",
    "valkey": "incumbent.stores.redis",
    "valkeys": "incumbent.stores.redis",
    "zookeeper": "incumbent.stores.zookeeper",
}
"""The stores of this package, by scheme. `pyproject.toml` has the same as entry points, but for
further schemes of one store."""


def schemes() -> list[str]:
    """Return the schemes of the installed stores."""
    from importlib.metadata import entry_points

    return sorted({*OURS, *(point.name for point in entry_points(group=_GROUP))})


def open_store(url: str) -> Store:
    """Return the store that `url` names. It is not connected yet.

    The option `tokens_from` is every store's, and understood here; see `shifted`.

    Raises:
        UnknownScheme: no installed store has this scheme.
        MissingExtra: it has, but its driver is not installed.
        ConfigError: the store does not understand the rest of the URL.
    """
    parsed = StoreURL.parse(url)
    shift = shift_of(parsed.options)
    try:
        store: Store = _opener(parsed.scheme, url)(parsed)
    except ModuleNotFoundError as error:
        raise missing_extra(parsed.scheme, parsed.scheme, error) from error
    return Shifted(store, shift) if shift else store


def _opener(scheme: str, url: str) -> Any:
    if scheme in OURS:
        return import_module(OURS[scheme]).open
    from importlib.metadata import entry_points

    for point in entry_points(group=_GROUP, name=scheme):
        return point.load()
    raise UnknownScheme(
        f"no store answers to {scheme}:// (in {redact(url)!r}); installed: {', '.join(schemes())}"
    )


def default_url(environ: Mapping[str, str] | None = None, *, root: Path = Path("/")) -> str:
    """Return the store for somebody who named none.

    `INCUMBENT_STORE` if it is set; else the embedded one, in the user's state folder. In a Pod or
    any other container that would give every replica a store of its own, and so a leader of its
    own, so there it is an error.

    Raises:
        StoreRequired: replicas here need not share a file system.
    """
    environ = os.environ if environ is None else environ
    if chosen := environ.get("INCUMBENT_STORE"):
        return chosen
    if where := _isolated(environ, root):
        raise StoreRequired(
            f"this is {where}, where replicas do not share a file system: with a store of its own "
            f"every replica would lead. Set INCUMBENT_STORE or --store to {_CHOICES}"
        )
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "~")) / ".local/state")
    path = Path(state).expanduser() / "incumbent" / "incumbent.db"
    return f"sqlite://{quote(str(path))}"


def _isolated(environ: Mapping[str, str], root: Path) -> str:
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "a Kubernetes Pod"
    for variable, what in (
        ("ECS_CONTAINER_METADATA_URI_V4", "an ECS task"),
        ("NOMAD_ALLOC_ID", "a Nomad allocation"),
        ("container", "a container"),
    ):
        if environ.get(variable):
            return what
    for mark in (".dockerenv", "run/.containerenv"):
        if (root / mark).exists():
            return "a container"
    return ""
