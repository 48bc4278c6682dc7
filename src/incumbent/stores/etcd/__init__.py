"""The store `etcd://`: elections in an etcd v3 cluster, over the JSON gateway of its members.

    etcd://HOST[:2379]
    etcd://USER:PASSWORD@A:2379,B:2379,C:2379/PREFIX?cafile=…&certfile=…&keyfile=…
    etcd://127.0.0.1:2379?tls=0
    etcd://HOST?recipe=RECIPE&lock=NAME         a lock of `etcdctl lock`, or election of `elect`

TLS unless `tls=0` says otherwise. Several hosts are members of one cluster. Without a prefix the
keys begin with `incumbent/`.

`driver` says what a transaction promises, `client` what an answer means and which member is asked,
`watch` how keys are followed, `settings` what stands in the URL, `wire` the messages. The elections
themselves are `stores.kv`. With a recipe, `stores.queue` makes elections of `queue`, and of the
`lease` that its keys are attached to.
"""

from __future__ import annotations

from incumbent.errors import ConfigError
from incumbent.stores.api import ON_QUORUM, Capabilities, Grade, Store, StoreURL, missing_extra
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.queue import QueueStore
from incumbent.stores.recipes import LockName, recipe_of

__all__ = ["CAPABILITIES", "open", "set_ups"]

CAPABILITIES = Capabilities(
    scheme="etcd",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a transaction that rewrites the session's key at its mod_revision",
    wakes_by="a watch, and a read after 20 s of silence",
    evidence="",
    absent_is_vacant=False,
    whole_seconds=False,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="etcd is linearizable, and clock rates differ by no more than rho",
    survives=ON_QUORUM,
    bars=True,
    checkpoints=True,
)


PARTNERS = {
    "election": "etcdctl elect",
    "lock": "etcdctl lock",
}
_BREAKS = (
    "may go on when its lease is over, as a command of etcdctl lock does; may delete our key, or "
    "revoke our lease; keeps us out for ever by a key without a lease"
)


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared of each recipe."""
    return {f"recipe={recipe}": _queue_capabilities(recipe) for recipe in PARTNERS}


def _queue_capabilities(recipe: str) -> Capabilities:
    return Capabilities(
        scheme="etcd",
        sessions=False,
        token=True,
        judged_by="server",
        confirmed_by=(
            "a keep-alive of the lease, and after it, of the same raft term, a transaction that "
            "compares our key and writes"
        ),
        wakes_by=CAPABILITIES.wakes_by,
        evidence="",
        absent_is_vacant=True,
        whole_seconds=False,
        one_host=False,
        grade=Grade.EXCLUSIVE_WITH_FENCING,
        assumes="etcd 3.5.13 or later is linearizable, and clock rates differ by no more than rho",
        survives=ON_QUORUM,
        one_process=False,
        unseen_ttls=0.5,
        takeover_trips=8,
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
    """Return the store of `etcd://HOST/PREFIX`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or a file that it names, cannot be used.
        MissingExtra: the HTTP client is not installed.
    """
    try:
        from incumbent.stores.etcd import driver, queue, settings
    except ModuleNotFoundError as error:
        raise missing_extra("etcd", "etcd", error) from None
    recipe = recipe_of("etcd", url.options, PARTNERS)
    locks = LockName(url.options.get("lock", "{name}"))
    if url.options.get("lock", "").endswith("/"):
        raise ConfigError("etcd://: lock= ends in a slash, which etcd's own library puts there")
    found = settings.read(url)
    hosts = ",".join(server.partition("://")[2] for server in found.servers)
    shown = f"etcd://{hosts}/{found.prefix.removesuffix('/')}"
    if recipe:
        shown = f"{shown}?recipe={recipe}"
        driven = queue.EtcdQueue(found)
        return QueueStore(driven, shown, _queue_capabilities(recipe), locks.of)
    return KeyValueStore(driver.EtcdKeyValue(found), shown, CAPABILITIES)
