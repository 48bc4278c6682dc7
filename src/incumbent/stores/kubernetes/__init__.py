"""The store `kubernetes://`: one object per election, which is a Lease as client-go writes it.

    kubernetes://                   the Pod's own namespace, or the current context of a kubeconfig
    kubernetes://NAMESPACE
    kubernetes://NAMESPACE?context=NAME&kubeconfig=PATH
    kubernetes://NAMESPACE?session=1    one Lease per process is renewed; see `sessions`
    kubernetes://NAMESPACE?recipe=configmap             a ConfigMap instead of a Lease
    kubernetes://NAMESPACE?recipe=clientgo-configmap    client-go's annotation on a ConfigMap
    kubernetes://NAMESPACE?recipe=pekko&takeover_s=96   Pekko's lease; recipe=akka: Akka's
    kubernetes://NAMESPACE?recipe=camel-lease&takeover_s=15&labels=app%3Djobs   Camel's Lease
    kubernetes://NAMESPACE?recipe=camel-configmap&map=leaders   Camel's groups in one ConfigMap

The name of the election is the name of the object; in the formats of others `lock=` says otherwise.
Candidates of client-go, and of everything that uses it, may compete for the same Lease, but for
those of `session=1`.

`store` has the rules, `wire` and `formats` the records, `layout` in which objects they lie, `modes`
what `recipe=` can be, `watch` and `ledger` the following; `api` is the seam below which `client`
and `config` speak to a real server.
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

from incumbent.errors import ConfigError
from incumbent.stores.api import Capabilities, Store, StoreURL, missing_extra
from incumbent.stores.kubernetes.store import KubernetesStore
from incumbent.stores.recipes import recipe_of

__all__ = ["KubernetesStore", "open", "set_ups"]

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared where an option makes it another store, by that option."""
    from incumbent.stores.kubernetes.modes import MODES
    from incumbent.stores.kubernetes.sessions import CAPABILITIES

    recipes = {f"recipe={recipe}": mode.capabilities for recipe, mode in MODES.items()}
    return {"session=1": CAPABILITIES, **recipes}


def open(url: StoreURL) -> Store:
    """Return the store of `kubernetes://NAMESPACE`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or the configuration that it leads to, cannot be used.
        MissingExtra: the HTTP client is not installed.
    """
    from incumbent.stores.kubernetes.modes import MODES

    recipe = recipe_of("kubernetes", url.options, MODES)
    mode = MODES.get(recipe)
    told = mode.options if mode is not None else ("session",)
    options = url.take_options("context", "kubeconfig", "recipe", *told)
    sessions = options.get("session", "0")
    if sessions not in ("0", "1"):
        raise ConfigError(f"kubernetes://: session={sessions!r} is neither 0 nor 1")
    if url.path not in ("", "/") or url.port is not None or url.username is not None:
        raise ConfigError("kubernetes:// takes a namespace and no more: kubernetes://NAMESPACE")
    if url.host and not _NAMESPACE.fullmatch(url.host):
        raise ConfigError(f"{url.host!r} cannot be the name of a Kubernetes namespace")
    made = mode.prepared(options, mode.capabilities) if mode is not None else None
    try:
        from incumbent.stores.kubernetes.client import Client
    except ModuleNotFoundError as error:
        raise missing_extra("kubernetes", "kubernetes", error) from None
    from incumbent.stores.kubernetes import config

    connection = config.load(
        kubeconfig=options.get("kubeconfig", ""), context=options.get("context", "")
    )
    namespace = url.host or connection.namespace
    shown, candidate = f"kubernetes://{namespace}", config.candidate_name()
    if made is not None:
        chosen = {key: value for key, value in options.items() if key in ("recipe", *told)}
        shown = f"{shown}?{urlencode(chosen, safe='{}/')}"
        return made(lambda resource: Client(connection, namespace, resource), shown, candidate)
    client = Client(connection, namespace)
    if sessions == "1":
        from incumbent.stores.kubernetes.sessions import SessionStore

        return SessionStore(client, f"{shown}?session=1", candidate)
    return KubernetesStore(client, shown, candidate)
