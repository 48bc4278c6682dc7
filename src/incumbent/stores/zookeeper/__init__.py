"""The store `zookeeper://`: elections in Apache ZooKeeper.

    zookeeper://HOST:PORT                               below /incumbent
    zookeeper://HOST:PORT,HOST2:PORT2/PREFIX
    zookeeper://USER:PASSWORD@HOST:PORT/PREFIX?cafile=PATH&certfile=PATH&keyfile=PATH
    zookeeper://HOST:PORT?recipe=RECIPE&lock=/path/{name}       a queue of Curator's or kazoo's

What confirms a renewal: a transaction that writes the session's znode at the version that it had.
A majority of the servers has logged it. A ping confirms nothing: a server that was cut off from its
peers answers pings for seconds after others have elected somebody else.

Who judges expiry: observers, who wait a TTL after the last change that they saw. Ephemeral znodes
are not used: that they vanish is the server's word, given also where nobody has died. They are in
the queues of other libraries, where that word is all that there is.

`stores.kv` makes elections of it; `driver` is the driver, `nodes` how keys are znodes, `follow` the
watches, `ensemble` which server we are connected to, and `link` one connection, the only place that
knows the client library. With a recipe, `stores.queue` makes elections of `queue`, and of the
`session` that its ephemeral znodes belong to.
"""

from __future__ import annotations

import re

from incumbent.errors import ConfigError
from incumbent.stores.api import ON_QUORUM, Capabilities, Grade, Store, StoreURL, missing_extra
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.queue import QueueStore
from incumbent.stores.recipes import LockName, recipe_of

__all__ = ["CAPABILITIES", "open", "set_ups"]

PORT = 2181
PREFIX = "/incumbent"

CAPABILITIES = Capabilities(
    scheme="zookeeper",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a transaction at the session's known version, logged by a majority",
    wakes_by="a watch",
    evidence="",
    absent_is_vacant=False,
    whole_seconds=False,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="a majority keeps what it has logged, and clock rates differ by no more than rho",
    survives=ON_QUORUM,
    bars=True,
    checkpoints=True,
)

PARTNERS = {
    "curator-latch": "Curator LeaderLatch",
    "curator-mutex": "Curator mutex",
    "kazoo-election": "kazoo Election",
    "kazoo-lock": "kazoo Lock",
}
_BREAKS = (
    "may go on when its session is over, for it is only told; may remove our node, or the whole "
    "queue; keeps us out for ever by a node that is not ephemeral"
)

_SEGMENT = re.compile(r"(?!\.{1,2}$)[\w.@:+=-]+", re.ASCII)


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared of each recipe."""
    return {f"recipe={recipe}": _queue_capabilities(recipe) for recipe in PARTNERS}


def _queue_capabilities(recipe: str) -> Capabilities:
    return Capabilities(
        scheme="zookeeper",
        sessions=False,
        token=True,
        judged_by="server",
        confirmed_by="a transaction that checks our znode, on the session that it goes with",
        wakes_by="a watch",
        evidence="",
        absent_is_vacant=True,
        whole_seconds=False,
        one_host=False,
        grade=Grade.EXCLUSIVE_WITH_FENCING,
        assumes=(
            "a majority keeps what it has logged, servers report to their leader every half tick, "
            "and clock rates differ by no more than rho, of at most 0.11"
        ),
        survives=ON_QUORUM,
        one_process=False,
        unseen_ttls=0.75,
        takeover_trips=12,
        bars=False,
        checkpoints=False,
        renews=True,
        queue=True,
        label_names=False,
        reads=True,
        partner=PARTNERS[recipe],
        partner_breaks=_BREAKS,
    )


def open(url: StoreURL) -> Store:
    """Return the store of `zookeeper://HOST:PORT/PREFIX`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or a file that it names, cannot be used.
        MissingExtra: the client library is not installed.
    """
    try:
        from incumbent.stores.zookeeper.driver import ZooKeeper
        from incumbent.stores.zookeeper.ensemble import Ensemble
        from incumbent.stores.zookeeper.link import Server, Settings
        from incumbent.stores.zookeeper.queue import RECIPES, ZooKeeperQueue, lock_path
    except ModuleNotFoundError as error:
        raise missing_extra("zookeeper", "zookeeper", error) from None
    options = url.take_options("cafile", "certfile", "keyfile", "lock", "recipe")
    recipe = recipe_of("zookeeper", options, PARTNERS)
    locks = LockName(lock_path(options.pop("lock", "{name}")))
    options.pop("recipe", None)
    servers = url.servers(PORT)
    if not servers:
        raise ConfigError("zookeeper:// needs a server: zookeeper://HOST:2181/PREFIX")
    prefix = _prefix(url.path)
    if (url.username is None) != (url.password is None):
        raise ConfigError("zookeeper:// needs both a user and a password, or none of the two")
    if url.username is not None and ":" in url.username:
        raise ConfigError("zookeeper://: a user name has no colon in ZooKeeper")
    if "keyfile" in options and "certfile" not in options:
        raise ConfigError("zookeeper://: keyfile= is the key of a certfile=, which is missing")
    settings = Settings(url.username or "", url.password or "", **options)
    try:
        settings.context()
    except OSError as error:
        files = ", ".join(f"{name}={path}" for name, path in sorted(options.items()))
        raise ConfigError(f"zookeeper://: {files} cannot be used for TLS: {error}") from None
    ensemble = Ensemble([Server(*server) for server in servers], settings)
    shown = ",".join(str(Server(*server)) for server in servers)
    shown = f"zookeeper://{shown}{prefix}"
    if recipe:
        return QueueStore(
            ZooKeeperQueue(ensemble, prefix, RECIPES[recipe]),
            f"{shown}?recipe={recipe}",
            _queue_capabilities(recipe),
            locks.of,
        )
    return KeyValueStore(ZooKeeper(ensemble, prefix), shown, CAPABILITIES)


def _prefix(path: str) -> str:
    if path in ("", "/"):
        return PREFIX
    segments = path.removeprefix("/").split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments) or segments[0] == "zookeeper":
        raise ConfigError(
            f"zookeeper://: {path!r} cannot be a prefix: write names with slashes between them, "
            "and not /zookeeper, which is the servers' own"
        )
    return path
