"""The modes that `?recipe=` chooses: a format, how its objects are called, and what is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from incumbent.errors import ConfigError
from incumbent.stores.api import Capabilities
from incumbent.stores.kubernetes.camel import CamelFormat, camel_name, camel_text
from incumbent.stores.kubernetes.formats import (
    AnnotationFormat,
    ConfigMapFormat,
    HeartbeatFormat,
    pekko_name,
    pekko_text,
)
from incumbent.stores.kubernetes.names import Names
from incumbent.stores.kubernetes.resource import heartbeats_of
from incumbent.stores.kubernetes.store import CAPABILITIES
from incumbent.stores.kubernetes.wire import Format

__all__ = ["MODES", "Mode"]

TAKEOVER_S = 96.0
"""Pekko's and Akka's own: a heartbeat-timeout of 120 s less two heartbeat-intervals of 12 s."""

CAMEL_TAKEOVER_S = 15.0
"""Camel's own: its leaseDurationMillis."""

_Options = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode.

    Attributes:
        capabilities: what is declared.
        format: makes its format of the options.
        names: makes of the options how its objects are called.
        options: what it can be told beside `recipe`.
    """

    capabilities: Capabilities
    format: Callable[[_Options], Format]
    names: Callable[[_Options], Names]
    options: tuple[str, ...] = ()


def _names(options: _Options) -> Names:
    return Names(options.get("lock", "{name}"))


def _pekko_names(options: _Options) -> Names:
    return Names(options.get("lock", "{name}"), pekko_text, pekko_name)


def _heartbeats(group: str) -> Callable[[_Options], Format]:
    def made(options: _Options) -> Format:
        return HeartbeatFormat(heartbeats_of(group), _takeover_s(options, TAKEOVER_S))

    return made


def _camel_names(options: _Options) -> Names:
    return Names(options.get("lock", "leaders-{name}"), camel_text, camel_name)


def _takeover_s(options: _Options, theirs: float) -> float:
    text = options.get("takeover_s", str(theirs))
    try:
        takeover_s = float(text)
    except ValueError:
        takeover_s = 0.0
    if not 0 < takeover_s < float("inf"):
        raise ConfigError(f"kubernetes://: takeover_s={text!r} is not a number of seconds")
    return takeover_s


_CONFIG_MAP = replace(CAPABILITIES, confirmed_by="a PUT of the ConfigMap at its resourceVersion")
_CLIENT_GO = replace(
    _CONFIG_MAP,
    bars=False,  # Whoever counts a duration of his own heeds none, however long.
    partner="client-go",
    partner_breaks=(
        "takes over after a lease duration of its own, counted on its wall clock, from a live "
        "holder whose TTL is longer; works on until it notices that it has lost; releases nothing"
    ),
)
_PEKKO = replace(
    CAPABILITIES,
    confirmed_by="a PUT of the custom resource at its resourceVersion",
    bars=False,  # The same.
    label_names=True,
    partner="Pekko",
    partner_breaks=(
        "compares the holder's wall clock with its own: it takes over from a live holder if they "
        "differ by more than takeover_s less the TTL, or if it has a shorter heartbeat-timeout "
        "than takeover_s says; works on after a pause until its next heartbeat is refused"
    ),
)
_CAMEL = replace(
    CAPABILITIES,
    bars=False,  # Of a holder who is no Pod, a member of theirs takes it at once.
    partner="Camel",
    partner_breaks=(
        "takes over from a live holder whose Pod is not Ready, or whose Lease was deleted: the "
        "latter at once, the former after a wait that is too short if its lease duration is "
        "shorter than takeover_s; takes a Lease of its own Pod's name for its own; works on after "
        "a pause, and while its wall clock is set back, until its next look"
    ),
)

_HEARTBEAT_OPTIONS = ("lock", "takeover_s")

MODES = {
    "configmap": Mode(_CONFIG_MAP, lambda _: ConfigMapFormat(), _names),
    "clientgo-configmap": Mode(_CLIENT_GO, lambda _: AnnotationFormat(), _names, ("lock",)),
    "pekko": Mode(_PEKKO, _heartbeats("pekko.apache.org"), _pekko_names, _HEARTBEAT_OPTIONS),
    "akka": Mode(
        replace(_PEKKO, partner="Akka"),
        _heartbeats("akka.io"),
        _pekko_names,
        _HEARTBEAT_OPTIONS,
    ),
    "camel-lease": Mode(
        _CAMEL,
        lambda options: CamelFormat(_takeover_s(options, CAMEL_TAKEOVER_S)),
        _camel_names,
        ("lock", "takeover_s", "labels"),
    ),
}
"""The modes by the value of `recipe=`."""
