"""The store `consul://`: elections in the key-value store of HashiCorp Consul.

    consul://                                the agent of CONSUL_HTTP_ADDR, or 127.0.0.1:8500
    consul://HOST:PORT/PREFIX
    consul://TOKEN@HOST:PORT/PREFIX?cafile=PATH&certfile=PATH&keyfile=PATH&tls=true&dc=NAME
    consul://HOST:PORT?recipe=lock&lock=KEY  the lock of `consul lock KEY`; see `recipe`

`driver` is what a key-value driver must do, `watch` its following, `client` the requests and what
their answers mean, `config` the URL and the environment variables of Consul's own tools. What makes
elections of it is `stores.kv`.

What confirms a renewal: a transaction that writes the session's key at the ModifyIndex that it had.
It is one entry of the raft log, so a server that was cut off from its peers cannot confirm it.

Who judges expiry: observers. Consul has sessions, locks and a lock-delay of its own, and none of it
is used. A session ends by default when gossip takes its node for dead, which frees the lock of a
holder that lives; its TTL is counted in the memory of the leading server, and anew by the next one;
the LockIndex starts again when the key is deleted; and a renewal is answered without a write.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from incumbent.errors import ConfigError
from incumbent.stores.api import ON_QUORUM, Capabilities, Grade, Store, StoreURL
from incumbent.stores.beside import LockStore
from incumbent.stores.consul import config
from incumbent.stores.consul.driver import Consul
from incumbent.stores.consul.recipe import ConsulLocks
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.recipes import recipe_of

__all__ = ["CAPABILITIES", "open", "set_ups"]

CAPABILITIES = Capabilities(
    scheme="consul",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a transaction at the session's known ModifyIndex: one raft entry",
    wakes_by="a blocking query",
    evidence="",
    absent_is_vacant=False,
    whole_seconds=False,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="Consul's raft is linearizable, no snapshot is restored under live candidates, and "
    "clock rates differ by no more than rho",
    survives=ON_QUORUM,
    takeover_trips=3,  # a renewal between two blocking queries is told by the second
    bars=True,
    checkpoints=True,
)


LOCK = Capabilities(
    scheme="consul",
    sessions=False,
    token=True,
    judged_by="observers",
    confirmed_by="a transaction at the record's known ModifyIndex, under our session: one raft "
    "entry",
    wakes_by="a blocking query",
    evidence="",
    absent_is_vacant=False,
    whole_seconds=False,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes=CAPABILITIES.assumes,
    survives=ON_QUORUM,
    one_process=False,
    unseen_ttls=0.0,
    takeover_trips=5,  # as above; what a query tells is read anew, and a take makes its session
    bars=False,  # a lock without a session is free to all of theirs
    checkpoints=False,
    renews=True,
    queue=False,
    label_names=False,
    reads=True,
    partner="consul lock",
    partner_breaks=(
        "its command works on when `consul lock` is killed, or its session has ended and the "
        "lock-delay with it; whoever deletes the key has the lock while we hold it, until our next "
        "renewal is refused. Fence"
    ),
)
RECIPES = {"lock": LOCK}


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared where an option makes it another store, by that option."""
    return {f"recipe={recipe}": declared for recipe, declared in RECIPES.items()}


def open(url: StoreURL) -> Store:
    """Return the store of `consul://HOST:PORT/PREFIX`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or an environment variable that counts, cannot be used.
    """
    settings = config.load(url)
    recipe = recipe_of(url.scheme, url.options, RECIPES)
    if not recipe:
        return KeyValueStore(Consul(settings), settings.url, CAPABILITIES)
    if url.path.strip("/"):
        raise ConfigError(f"consul://: recipe={recipe} has no prefix; name the whole key by lock=")
    template = url.options.get("lock", "{name}").strip("/")
    where = replace(settings, prefix="").url
    mark = "&" if "?" in where else "?"
    shown = urlencode({k: v for k, v in url.options.items() if k in ("recipe", "lock")})
    return LockStore(ConsulLocks(settings), f"{where}{mark}{shown}", RECIPES[recipe], template)
