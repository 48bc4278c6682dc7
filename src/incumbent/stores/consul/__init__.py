"""The store `consul://`: elections in the key-value store of HashiCorp Consul.

    consul://                                the agent of CONSUL_HTTP_ADDR, or 127.0.0.1:8500
    consul://HOST:PORT/PREFIX
    consul://TOKEN@HOST:PORT/PREFIX?cafile=PATH&certfile=PATH&keyfile=PATH&tls=true&dc=NAME

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

from incumbent.stores.api import ON_QUORUM, Capabilities, Grade, StoreURL
from incumbent.stores.consul import config
from incumbent.stores.consul.driver import Consul
from incumbent.stores.kv import KeyValueStore

__all__ = ["CAPABILITIES", "open"]

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
)


def open(url: StoreURL) -> KeyValueStore:
    """Return the store of `consul://HOST:PORT/PREFIX`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or an environment variable that counts, cannot be used.
    """
    settings = config.load(url)
    return KeyValueStore(Consul(settings), settings.url, CAPABILITIES)
