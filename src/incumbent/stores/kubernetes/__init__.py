"""The store `kubernetes://`: one Lease per election, as client-go writes it.

    kubernetes://                   the Pod's own namespace, or the current context of a kubeconfig
    kubernetes://NAMESPACE
    kubernetes://NAMESPACE?context=NAME&kubeconfig=PATH
    kubernetes://NAMESPACE?session=1    one Lease per process is renewed; see `sessions`

The name of the election is the name of the Lease. Candidates of client-go, and of everything that
uses it, may compete for the same Lease, but for those of the last form.

`store` has the rules, `wire` the record, `watch` and `ledger` the following; `api` is the seam
below which `client` and `config` speak to a real server.
"""

from __future__ import annotations

import re

from incumbent.errors import ConfigError
from incumbent.stores.api import Capabilities, Store, StoreURL, missing_extra
from incumbent.stores.kubernetes.store import KubernetesStore

__all__ = ["KubernetesStore", "open", "set_ups"]

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared where an option makes it another store, by that option."""
    from incumbent.stores.kubernetes.sessions import CAPABILITIES

    return {"session=1": CAPABILITIES}


def open(url: StoreURL) -> Store:
    """Return the store of `kubernetes://NAMESPACE`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or the configuration that it leads to, cannot be used.
        MissingExtra: the HTTP client is not installed.
    """
    options = url.take_options("context", "kubeconfig", "session")
    sessions = options.get("session", "0")
    if sessions not in ("0", "1"):
        raise ConfigError(f"kubernetes://: session={sessions!r} is neither 0 nor 1")
    if url.path not in ("", "/") or url.port is not None or url.username is not None:
        raise ConfigError("kubernetes:// takes a namespace and no more: kubernetes://NAMESPACE")
    if url.host and not _NAMESPACE.fullmatch(url.host):
        raise ConfigError(f"{url.host!r} cannot be the name of a Kubernetes namespace")
    try:
        from incumbent.stores.kubernetes.client import Client
    except ModuleNotFoundError as error:
        raise missing_extra("kubernetes", "kubernetes", error) from None
    from incumbent.stores.kubernetes import config

    connection = config.load(
        kubeconfig=options.get("kubeconfig", ""), context=options.get("context", "")
    )
    namespace = url.host or connection.namespace
    client = Client(connection, namespace)
    shown, candidate = f"kubernetes://{namespace}", config.candidate_name()
    if sessions == "1":
        from incumbent.stores.kubernetes.sessions import SessionStore

        return SessionStore(client, f"{shown}?session=1", candidate)
    return KubernetesStore(client, shown, candidate)
