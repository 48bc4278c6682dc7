"""The store `kubernetes://`: one object per election, which is a Lease as client-go writes it.

    kubernetes://                   the Pod's own namespace, or the current context of a kubeconfig
    kubernetes://NAMESPACE
    kubernetes://NAMESPACE?context=NAME&kubeconfig=PATH
    kubernetes://NAMESPACE?session=1    one Lease per process is renewed; see `sessions`
    kubernetes://NAMESPACE?role_label=1     the holder's Pod is labelled; see `label`
    kubernetes://NAMESPACE?evidence=1       a container's death is not waited out; see `deaths`
    kubernetes://NAMESPACE?recipe=configmap             a ConfigMap instead of a Lease
    kubernetes://NAMESPACE?recipe=slice&port=80 the holder's address beside it; `slices`
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
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from incumbent.errors import ConfigError
from incumbent.stores.api import Capabilities, Store, StoreURL, missing_extra
from incumbent.stores.kubernetes.store import KubernetesStore
from incumbent.stores.recipes import recipe_of

if TYPE_CHECKING:
    from incumbent.stores.kubernetes.config import Connection

__all__ = ["KubernetesStore", "open", "set_ups"]

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared where an option makes it another store, by that option."""
    from incumbent.stores.kubernetes import store
    from incumbent.stores.kubernetes.deaths import WHY
    from incumbent.stores.kubernetes.modes import MODES
    from incumbent.stores.kubernetes.sessions import CAPABILITIES

    recipes = {f"recipe={recipe}": mode.capabilities for recipe, mode in MODES.items()}
    proven = replace(store.CAPABILITIES, evidence=WHY)
    return {"session=1": CAPABILITIES, "evidence=1": proven, **recipes}


def open(url: StoreURL) -> Store:
    """Return the store of `kubernetes://NAMESPACE`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or the configuration that it leads to, cannot be used.
        MissingExtra: the HTTP client is not installed.
    """
    from incumbent.stores.kubernetes.modes import MODES

    recipe = recipe_of("kubernetes", url.options, MODES)
    mode = MODES.get(recipe)
    told: tuple[str, ...] = mode.options if mode is not None else ("session",)
    if mode is None or mode.ours:
        told = (*told, "role_label", "evidence", "termination_log")
    options = url.take_options("context", "kubeconfig", "recipe", *told)
    sessions, label, evidence = (
        _asked(options, key) for key in ("session", "role_label", "evidence")
    )
    if sessions and (label or evidence):
        raise ConfigError(
            "kubernetes://: role_label and evidence are about the one holder of one record, and "
            "session=1 has many in one process: choose"
        )
    if "termination_log" in options and not evidence:
        raise ConfigError("kubernetes://: termination_log= is for evidence=1")
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
        kubeconfig=options.get("kubeconfig", ""),
        context=options.get("context", ""),
        say_by=("?kubeconfig=PATH in the URL", "?context=NAME in the URL"),
    )
    namespace = url.host or connection.namespace
    shown, candidate = f"kubernetes://{namespace}", config.candidate_name()
    if made is not None:
        chosen = {key: value for key, value in options.items() if key in ("recipe", *told)}
        shown = f"{shown}?{urlencode(chosen, safe='{}/')}"
        store = made(lambda resource: Client(connection, namespace, resource), shown, candidate)
    else:
        client = Client(connection, namespace)
        if sessions:
            from incumbent.stores.kubernetes.sessions import SessionStore

            return SessionStore(client, f"{shown}?session=1", candidate)
        store = KubernetesStore(client, shown, candidate)
    if label or evidence:
        _equip(store, connection, namespace, options)
    return store


def _asked(options: dict[str, str], key: str) -> bool:
    told = options.get(key, "0")
    if told not in ("0", "1"):
        raise ConfigError(f"kubernetes://: {key}={told!r} is neither 0 nor 1")
    return told == "1"


def _equip(
    store: KubernetesStore, connection: Connection, namespace: str, options: dict[str, str]
) -> None:
    """Give the store what is about Pods. Who is in none only looks, and has no label to set."""
    from incumbent.stores.kubernetes.client import Client
    from incumbent.stores.kubernetes.config import own_pod
    from incumbent.stores.kubernetes.deaths import TERMINATION_LOG, Deaths, TerminationLog
    from incumbent.stores.kubernetes.label import RoleLabel
    from incumbent.stores.kubernetes.resource import PODS

    pod = own_pod()
    pods = Client(connection, (pod.namespace if pod is not None else "") or namespace, PODS)
    label = deaths = None
    if _asked(options, "role_label") and pod is not None:
        label = RoleLabel(pods, pod, namespace)
    if _asked(options, "evidence"):
        deaths = Deaths(pods, TerminationLog(options.get("termination_log", TERMINATION_LOG)))
    store.equip(label, deaths, pods)
