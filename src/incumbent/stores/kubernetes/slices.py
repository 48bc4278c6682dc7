"""`?recipe=slice`: lock and address in one object, so that one write changes both.

The record stands in an annotation of one EndpointSlice, and its `endpoints` have the address of the
holder's Pod, and nothing else. The object is called like the election, and so is the Service, which
has no selector: Kubernetes leaves its slices alone then.

Rules
-----
1. **The write that takes the lock puts the address in; the write that gives it up takes it out.**
   Each write replaces the whole list, so the API never has two, and never that of somebody else.
   A bar empties it as well. A renewal says it again, whatever others made of it.
2. The slice must say that it is ours: `endpointslice.kubernetes.io/managed-by`. One that another
   controller manages is left alone; two would write one list.
3. **Without the annotation it is an absence** that a take can compare, as in the format of
   client-go: somebody may have taken it away under a live holder, so it is waited out for a TTL.
   That is also what a slice says that was made at installation, which has no record so that
   nothing that applies the manifest again can put an old one in its place.
4. The address is that of whoever claims. Who has none may look, and cannot take.

What it does not do: clients learn of a change from kube-proxy or DNS some moments later, and an
address of a holder that was killed stays until the next one takes over. Whoever is called checks
its term. Readiness is not looked at: the holder is the one that is to be called.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping

from incumbent.core.records import Bar, Claim, Holding, Snapshot
from incumbent.errors import ConfigError, StoreUnusable
from incumbent.stores.kubernetes.pods import OwnPod
from incumbent.stores.kubernetes.resource import ENDPOINT_SLICES
from incumbent.stores.kubernetes.wire import PREFIX, Format, Object, notes_of, parsed, version

__all__ = [
    "MANAGED_BY",
    "MANAGER",
    "RECORD_KEY",
    "SERVICE",
    "SliceFormat",
    "address_of",
    "ports_of",
    "service_name",
]

RECORD_KEY = PREFIX + "lease"
SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "incumbent.dev"

_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT = re.compile(r"(?:([a-z]([-a-z0-9]{0,61}[a-z0-9])?):)?(\d{1,5})")


class SliceFormat(Format):
    """The record in an annotation, and the holder's address beside it.

    Args:
        address: our own; "" for who only looks.
        ports: of the slice, if it has to be made; see `ports_of`.
        pod: our own Pod, to be named beside the address.
    """

    resource = ENDPOINT_SLICES

    def __init__(
        self, address: str = "", ports: tuple[Object, ...] = (), pod: OwnPod | None = None
    ) -> None:
        self._address = address
        self._ports = ports
        self._pod = pod

    # -- the record -------------------------------------------------------------------------------

    def record(self, obj: Object) -> Object | None:
        """Return the record; None of a slice without the annotation."""
        text = notes_of(obj).get(RECORD_KEY)
        return parsed(text) if text else None

    def laid(self, obj: Object, record: Object) -> Object:
        """Return the slice with this record in its annotation."""
        metadata = obj["metadata"]
        notes = {**notes_of(obj), RECORD_KEY: json.dumps(record)}
        return {**obj, "metadata": {**metadata, "annotations": notes}}

    def obstacle(self, obj: Object) -> str:
        """Return why the record cannot be read, or ""."""
        text = notes_of(obj).get(RECORD_KEY, "")
        if not parsed(text):
            return f"the annotation {RECORD_KEY} is no record: {text[:80]!r}"
        return _not_ours(obj)

    def without(self, name: str, obj: Object) -> Snapshot:
        """Return an absence that can be compared; leave alone what another manages."""
        at, why = self.version_of(obj), _not_ours(obj)
        return Snapshot(
            name=name,
            holding=Holding.FOREIGN if why else Holding.ABSENT,
            version=at,
            serial=version(obj),
            lease_version=at,
            why=why,
        )

    def is_election(self, obj: Object) -> bool:
        """Tell it by who manages it: other slices of the namespace are none of ours."""
        return not _not_ours(obj)

    def check(self, claim: Claim) -> None:
        """Make sure that there is an address to write."""
        if not self._address:
            raise StoreUnusable(
                "recipe=slice writes the holder's address, and ours is not known: set "
                "POD_IP from status.podIP by the downward API, or give address="
            )

    # -- the address, in the very write -----------------------------------------------------------

    def created(self, name: str, namespace: str, claim: Claim, wall_s: float) -> Object:
        """Return the slice to create: of our family of addresses, for the Service of its name."""
        made = super().created(name, namespace, claim, wall_s)
        labels = {SERVICE: name, MANAGED_BY: MANAGER}
        family = "IPv6" if ":" in self._address else "IPv4"
        return self._pointing(
            {
                **made,
                "metadata": {**made["metadata"], "labels": labels},
                "addressType": family,
                "ports": list(self._ports),
            }
        )

    def taken(self, obj: Object, claim: Claim, wall_s: float) -> Object:
        """Return the slice after `claim` took it over: the record is ours, and the address."""
        return self._pointing(super().taken(obj, claim, wall_s))

    def renewed(self, obj: Object, token: int | None, wall_s: float) -> Object:
        """Return the slice after a renewal, with our address whatever others wrote there."""
        return self._pointing(super().renewed(obj, token, wall_s))

    def released(self, obj: Object, successor: str, wall_s: float) -> Object:
        """Return the slice after its holder gave it up: nobody is to be called."""
        return {**super().released(obj, successor, wall_s), "endpoints": []}

    def barred(self, obj: Object, bar: Bar, wall_s: float) -> Object:
        """Return the slice after it was barred: nobody is to be called."""
        return {**super().barred(obj, bar, wall_s), "endpoints": []}

    def _pointing(self, obj: Object) -> Object:
        endpoint: Object = {
            "addresses": [self._address],
            "conditions": {"ready": True, "serving": True, "terminating": False},
        }
        if self._pod is not None:
            reference = {"kind": "Pod", "name": self._pod.name, "namespace": self._pod.namespace}
            endpoint["targetRef"] = {
                **reference,
                **({"uid": uid} if (uid := self._pod.uid) else {}),
            }
            if self._pod.node:
                endpoint["nodeName"] = self._pod.node
        return {**obj, "endpoints": [endpoint]}


def _not_ours(obj: Object) -> str:
    labels = obj.get("metadata", {}).get("labels") or {}
    manager = labels.get(MANAGED_BY)
    if manager == MANAGER:
        return ""
    return f"its label {MANAGED_BY} is {manager!r}, so somebody else writes its endpoints"


# -- what the URL says ----------------------------------------------------------------------------


def service_name(name: str) -> str:
    """Return the name of the slice, which is that of the Service.

    Raises:
        ConfigError: no Service can be called that.
    """
    if not _SERVICE_NAME.fullmatch(name):
        raise ConfigError(
            f"with recipe=slice the election {name!r} is a Service of its name: use at "
            "most 63 of a-z, 0-9 and '-', beginning with a letter"
        )
    return name


def ports_of(text: str) -> tuple[Object, ...]:
    """Return the ports of `port=`: `8080`, or `http:8080,metrics:9090`.

    Raises:
        ConfigError: it says something else.
    """
    found: list[Object] = []
    for each in filter(None, text.split(",")):
        match = _PORT.fullmatch(each)
        if match is None or not 0 < int(match[3]) < 1 << 16:
            raise ConfigError(f"kubernetes://: port={text!r} is not like 8080 or http:8080,x:9090")
        found.append({"name": match[1] or "", "port": int(match[3]), "protocol": "TCP"})
    if len({each["name"] for each in found}) < len(found):
        raise ConfigError(f"kubernetes://: port={text!r}: several ports need a name each")
    return tuple(found)


def address_of(options: Mapping[str, str], pod: OwnPod | None) -> str:
    """Return the address of `address=`, or that of our Pod, or "".

    Raises:
        ConfigError: it is no address that a slice may have.
    """
    text = options.get("address", "") or (pod.address if pod is not None else "")
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"kubernetes://: {text!r} is no IP address") from None
    if address.is_loopback or address.is_unspecified or address.is_link_local:
        raise ConfigError(f"kubernetes://: {text} is no address at which others reach a Pod")
    return str(address)
