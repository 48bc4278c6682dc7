"""The store `dapr://`: elections on the distributed lock of Dapr, as its other clients take it.

    dapr:///STORENAME                         the sidecar of this Pod or process
    dapr://HOST:PORT/STORENAME?protocol=http|grpc&lock=TEXT

`api` is the two calls that there are, `rest` and `rpc` how each protocol makes them, `config` the
URL and Dapr's own environment variables, and `store` what can be made of two calls.

Dapr's lock can be tried and given back. It cannot be renewed, has no fencing token, and tells
nobody who holds it. So a term ends by plan in time to stop the work, and the candidate contends
again; who stands by tries; and what depends on more than that, `require=` refuses.

What confirms a renewal: nothing does, there is none.

Who judges expiry: the server behind Dapr, on its own clock. That is a wall clock in Redis, which is
what Dapr has a lock store for.
"""

from __future__ import annotations

from incumbent.stores.api import Capabilities, Fault, Grade, StoreURL
from incumbent.stores.dapr import config
from incumbent.stores.dapr.api import Sidecar
from incumbent.stores.dapr.store import TRIES_PER_TTL, DaprStore

__all__ = ["CAPABILITIES", "open"]

CAPABILITIES = Capabilities(
    scheme="dapr",
    sessions=False,
    token=False,
    judged_by="server",
    confirmed_by="nothing",
    wakes_by="a try every second, or four times a TTL if that is more often",
    evidence="",
    absent_is_vacant=True,
    whole_seconds=True,
    one_host=False,
    grade=Grade.EFFICIENCY_ONLY,
    assumes="the lock store keeps each lock for as long as it was asked to: one Redis that loses "
    "nothing, whose wall clock is never set forward; and all candidates reach it by the same "
    "store name and under the same app id",
    survives=frozenset(
        {
            Fault.HOLDER_KILLED,
            Fault.HOLDER_PAUSED,
            Fault.NETWORK_CUT,
            Fault.CONNECTION_KILLED,
            Fault.SERVER_PAUSED,
        }
    ),
    one_process=False,
    unseen_ttls=1 / TRIES_PER_TTL,
    takeover_trips=2,
    bars=False,
    checkpoints=False,
    renews=False,
    queue=False,
    label_names=False,
    reads=False,
    partner="Dapr's lock API",
    partner_breaks="works on beside us when its time is over, and no token refuses it; unlocks "
    "what it knows the owner of; and who writes to the lock store itself, or sets its clock "
    "forward, ends any lock",
)


def open(url: StoreURL) -> DaprStore:
    """Return the store of `dapr://HOST:PORT/STORENAME`; nothing is sent yet.

    Raises:
        ConfigError: the URL, or an environment variable that counts, cannot be used.
    """
    settings = config.load(url)
    return DaprStore(_sidecar(settings), settings, CAPABILITIES)


def _sidecar(settings: config.Settings) -> Sidecar:
    if settings.protocol == "grpc":
        from incumbent.stores.dapr.rpc import Rpc

        return Rpc(settings)
    from incumbent.stores.dapr.rest import Rest

    return Rest(settings)
