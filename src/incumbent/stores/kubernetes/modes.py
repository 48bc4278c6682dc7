"""The modes that `?recipe=` chooses: where records lie, in what format, and what is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from incumbent.errors import ConfigError
from incumbent.stores.api import ON_ONE_SERVER, Capabilities, Grade
from incumbent.stores.kubernetes.api import ObjectApi
from incumbent.stores.kubernetes.camel import (
    CamelFormat,
    CamelStore,
    Members,
    PodFormat,
    camel_name,
    camel_text,
)
from incumbent.stores.kubernetes.camel_map import Groups, group_name
from incumbent.stores.kubernetes.formats import (
    AnnotationFormat,
    ConfigMapFormat,
    HeartbeatFormat,
    pekko_name,
    pekko_text,
)
from incumbent.stores.kubernetes.layout import Layout, ObjectEach
from incumbent.stores.kubernetes.names import Names
from incumbent.stores.kubernetes.resource import PODS, Resource, heartbeats_of
from incumbent.stores.kubernetes.slices import SliceFormat, address_of, ports_of, service_name
from incumbent.stores.kubernetes.store import CAPABILITIES, KubernetesStore
from incumbent.stores.kubernetes.wire import Format

__all__ = ["MODES", "Made", "Mode"]

TAKEOVER_S = 96.0
"""Pekko's and Akka's own: a heartbeat-timeout of 120 s less two heartbeat-intervals of 12 s."""

CAMEL_TAKEOVER_S = 15.0
"""Camel's own: its leaseDurationMillis."""

_Options = Mapping[str, str]

Made = Callable[[Callable[[Resource], ObjectApi], str, str | None], KubernetesStore]
"""Makes a store: of how the objects of a resource are reached, a URL for messages, and our name."""

Prepares = Callable[[_Options, Capabilities], Made]
"""Reads the options, and returns what makes the store."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode.

    Attributes:
        capabilities: what is declared.
        prepared: see `Prepares`.
        options: what it can be told beside `recipe`.
        ours: whether the format is our own, so that what goes with that may be asked for.
    """

    capabilities: Capabilities
    prepared: Prepares
    options: tuple[str, ...] = ()
    ours: bool = False


def _of_anybody(layout_of: Callable[[_Options], Layout[Format]]) -> Prepares:
    def prepared(options: _Options, capabilities: Capabilities) -> Made:
        layout = layout_of(options)
        return lambda objects, url, candidate: KubernetesStore(
            objects(layout.resource), url, candidate, layout=layout, capabilities=capabilities
        )

    return prepared


def _of_pods(layout_of: Callable[[_Options], Layout[PodFormat]]) -> Prepares:
    def prepared(options: _Options, capabilities: Capabilities) -> Made:
        layout, labels = layout_of(options), options.get("labels", "")
        return lambda objects, url, candidate: CamelStore(
            objects(layout.resource),
            url,
            candidate,
            layout,
            Members(objects(PODS), labels),
            capabilities,
        )

    return prepared


def _names(options: _Options) -> Names:
    return Names(options.get("lock", "{name}"))


def _heartbeats(group: str) -> Callable[[_Options], Layout[Format]]:
    def layout(options: _Options) -> Layout[Format]:
        format = HeartbeatFormat(heartbeats_of(group), _takeover_s(options, TAKEOVER_S))
        names = Names(options.get("lock", "{name}"), pekko_text, pekko_name)
        return ObjectEach(format, names)

    return layout


def _camel_lease(options: _Options) -> Layout[PodFormat]:
    names = Names(options.get("lock", "leaders-{name}"), camel_text, camel_name)
    return ObjectEach(CamelFormat(_takeover_s(options, CAMEL_TAKEOVER_S)), names)


def _camel_map(options: _Options) -> Layout[PodFormat]:
    names = Names(options.get("lock", "{name}"), check=group_name)
    return Groups(options.get("map", "leaders"), names, _takeover_s(options, CAMEL_TAKEOVER_S))


def _takeover_s(options: _Options, theirs: float) -> float:
    text = options.get("takeover_s", str(theirs))
    try:
        takeover_s = float(text)
    except ValueError:
        takeover_s = 0.0
    if not 0 < takeover_s < float("inf"):
        raise ConfigError(f"kubernetes://: takeover_s={text!r} is not a number of seconds")
    return takeover_s


def _declared(
    written: str, *, bars: bool, label_names: bool, partner: str, partner_breaks: str
) -> Capabilities:
    """Return what a mode declares: every cell, so that none is inherited in silence.

    `written` is what a renewal puts; the other parameters are the cells in which two modes differ.
    """
    return Capabilities(
        scheme="kubernetes",
        sessions=False,
        token=True,
        judged_by="observers",
        confirmed_by=f"a PUT of {written} at its resourceVersion",
        wakes_by="a watch",
        evidence="",
        absent_is_vacant=False,
        whole_seconds=True,
        one_host=False,
        grade=Grade.EXCLUSIVE_WITH_FENCING,
        assumes=CAPABILITIES.assumes,
        survives=ON_ONE_SERVER,
        one_process=False,
        unseen_ttls=0.0,
        takeover_trips=2,
        bars=bars,
        checkpoints=False,
        renews=True,
        queue=False,
        label_names=label_names,
        reads=True,
        partner=partner,
        partner_breaks=partner_breaks,
    )


def _heartbeat_mode(partner: str, group: str) -> Mode:
    declared = _declared(
        "the custom resource",
        bars=False,  # Whoever counts a duration of his own heeds none, however long.
        label_names=True,
        partner=partner,
        partner_breaks=(
            "compares the holder's wall clock with its own: it takes over from a live holder if "
            "they differ by more than takeover_s less the TTL, or if it has a shorter "
            "heartbeat-timeout than takeover_s says; works on after a pause until its next "
            "heartbeat is refused"
        ),
    )
    return Mode(declared, _of_anybody(_heartbeats(group)), ("lock", "takeover_s"))


_SLICE = _declared("the EndpointSlice", bars=True, label_names=True, partner="", partner_breaks="")
_CONFIG_MAP = _declared(
    "the ConfigMap", bars=True, label_names=False, partner="", partner_breaks=""
)
_CLIENT_GO = _declared(
    "the ConfigMap",
    bars=False,  # The same.
    label_names=False,
    partner="client-go",
    partner_breaks=(
        "takes over after a lease duration of its own, counted on its wall clock, from a live "
        "holder whose TTL is longer; works on until it notices that it has lost; releases nothing"
    ),
)


def _camel_mode(written: str, deleted: str, lock: str, prepared: Prepares, *options: str) -> Mode:
    """Return a mode of Camel's: what one may delete there, and what a lock is called."""
    declared = _declared(
        written,
        bars=False,  # Of a holder who is no Pod, a member of theirs takes it at once.
        label_names=False,
        partner="Camel",
        partner_breaks=(
            f"takes over from a live holder whose Pod is not Ready, or whose {deleted} deleted: "
            "the latter at once, the former after a wait that is too short if its lease duration "
            f"is shorter than takeover_s; takes a {lock} of its own Pod's name for its own; "
            "finishes what it was at when it was paused, and works on until its next look while "
            "its wall clock is set back"
        ),
    )
    return Mode(declared, prepared, ("lock", "takeover_s", "labels", *options))


def _slices(options: _Options) -> Layout[Format]:
    from incumbent.stores.kubernetes.config import own_pod

    pod = own_pod()
    address, ports = address_of(options, pod), ports_of(options.get("port", ""))
    return ObjectEach(SliceFormat(address, ports, pod), Names(check=service_name))


MODES = {
    "configmap": Mode(
        _CONFIG_MAP,
        _of_anybody(lambda options: ObjectEach(ConfigMapFormat(), _names(options))),
        ours=True,
    ),
    "slice": Mode(_SLICE, _of_anybody(_slices), ("address", "port"), ours=True),
    "clientgo-configmap": Mode(
        _CLIENT_GO,
        _of_anybody(lambda options: ObjectEach(AnnotationFormat(), _names(options))),
        ("lock",),
    ),
    "pekko": _heartbeat_mode("Pekko", "pekko.apache.org"),
    "akka": _heartbeat_mode("Akka", "akka.io"),
    "camel-lease": _camel_mode("the Lease", "Lease was", "Lease", _of_pods(_camel_lease)),
    "camel-configmap": _camel_mode(
        "the ConfigMap", "entries or ConfigMap were", "group", _of_pods(_camel_map), "map"
    ),
}
"""The modes by the value of `recipe=`."""
