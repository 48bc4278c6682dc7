"""Elections in a store of keys that are compared and swapped.

etcd, ZooKeeper, Consul and Redis each can compare some keys with the versions at which they were
seen, and write some keys if all of them fit; Kubernetes can do so with one object after the other.
That is all that an election needs, so it is written once, here: `store` is the `Store` over any
`KeyValue`, `wire` is what the values look like, and `api` is what a driver of one such server must
do.
"""

from incumbent.stores.kv.api import ABSENT, Conflict, Entry, KeyValue, Report
from incumbent.stores.kv.store import KeyValueStore

__all__ = ["ABSENT", "Conflict", "Entry", "KeyValue", "KeyValueStore", "Report"]
