"""The store `etcd://`: elections in an etcd v3 cluster, over the JSON gateway of its members.

    etcd://HOST[:2379]
    etcd://USER:PASSWORD@A:2379,B:2379,C:2379/PREFIX?cafile=…&certfile=…&keyfile=…
    etcd://127.0.0.1:2379?tls=0

TLS unless `tls=0` says otherwise. Several hosts are members of one cluster. Without a prefix the
keys begin with `incumbent/`.

`driver` says what a transaction promises, `client` what an answer means and which member is asked,
`watch` how keys are followed, `settings` what stands in the URL, `wire` the messages. The elections
themselves are `stores.kv`.
"""

from __future__ import annotations

from incumbent.stores.api import ON_QUORUM, Capabilities, Grade, StoreURL, missing_extra
from incumbent.stores.kv import KeyValueStore

__all__ = ["CAPABILITIES", "open"]

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
)


def open(url: StoreURL) -> KeyValueStore:
    """Return the store of `etcd://HOST/PREFIX`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or a file that it names, cannot be used.
        MissingExtra: the HTTP client is not installed.
    """
    try:
        from incumbent.stores.etcd import driver, settings
    except ModuleNotFoundError as error:
        raise missing_extra("etcd", "etcd", error) from None
    found = settings.read(url)
    hosts = ",".join(server.partition("://")[2] for server in found.servers)
    shown = f"etcd://{hosts}/{found.prefix.removesuffix('/')}"
    return KeyValueStore(driver.EtcdKeyValue(found), shown, CAPABILITIES)
