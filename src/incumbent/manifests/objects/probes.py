"""Startup, liveness and readiness: three questions, and what each may never ask.

- Liveness asks whether the work goes on. It must not ask the API server, nor the store of the
  elections: an outage there would restart every replica at once, which helps nothing.
- Readiness asks whether this replica works. It is never leadership: a standby that is not ready
  stops each rollout, and counts as down in the budget.
- Startup is liveness with more patience, so that a slow start is no death.

Nothing is invented: without a word of the user there is no liveness probe, since what shows that
the work goes on is known to nobody else. Where `incumbent run` is what is started, it is asked
whether it could keep a lease and start the work, for that is all that a standby does; and the
user's own question is put through it, only where the work runs. Readiness is a connection to the
first port. A readiness that is asked the same way as liveness would only take calls away a moment
before the restart.
"""

from __future__ import annotations

from dataclasses import replace

from incumbent.manifests import Object
from incumbent.manifests.parts import ASKED_IN, Port, Probe

__all__ = ["ALIVE", "BEGUN", "SOCKET", "probes", "through_the_wrapper"]

_STARTUP_S = 300
"""How long a start may take before it counts as failed."""
SOCKET = f"{ASKED_IN}/probe"
ALIVE = Probe(period_s=20, timeout_s=5)
"""How often a wrapper is asked; to start an interpreter takes a while on a busy node."""
BEGUN = Probe(period_s=2, timeout_s=2, failures=_STARTUP_S // 2)
"""How often it is asked until it answers for the first time: till then the Pod is not ready. The
kubelet asks first as the container starts, and that is too early."""


def probes(
    ports: tuple[Port, ...],
    *,
    startup: Probe | None,
    liveness: Probe | None,
    readiness: Probe | None,
) -> Object:
    """Return the probes of a container, those that there are."""
    if readiness is None and ports:
        readiness = Probe()
    if startup is None and liveness is not None:
        patience = -(-_STARTUP_S // liveness.period_s)
        startup = replace(liveness, failures=max(liveness.failures, patience))
    told = {"startupProbe": startup, "livenessProbe": liveness, "readinessProbe": readiness}
    return {name: _probe(probe, ports) for name, probe in told.items() if probe is not None}


def through_the_wrapper(probe: Probe) -> Probe:
    """Return how `incumbent run` is asked, and `probe` if it is a command, while the work runs."""
    more = ("--", *probe.command) if probe.command else ()
    return replace(probe, command=("incumbent", "probe", SOCKET, *more))


def _probe(probe: Probe, ports: tuple[Port, ...]) -> Object:
    if probe.command:
        action: Object = {"exec": {"command": list(probe.command)}}
    else:
        port = probe.port or ports[0].name
        asked: Object = {"path": probe.path, "port": port} if probe.path else {"port": port}
        action = {"httpGet" if probe.path else "tcpSocket": asked}
    return {
        **action,
        "periodSeconds": probe.period_s,
        "timeoutSeconds": probe.timeout_s,
        "failureThreshold": probe.failures,
    }
