"""What is said to other auditors, so that none of them repairs a singleton.

They judge one object at a time, and for them more replicas are better. Each waiver names one check
of one tool on one object, and says why:

    kube-linter   ignore-check.kube-linter.io/CHECK: the reason
    kube-score    kube-score/ignore: CHECK,CHECK
    Polaris       polaris.fairwinds.com/CHECK-exempt: "true"

Polaris repairs as well: its fix of `deploymentMissingReplicas` makes three replicas of one.

Nothing is waived where more replicas do no harm: of a companion, and of a partly-singleton. Of
active-standby it is, also where there are three: an overlay, or a chart's values, may make it two.
"""

from __future__ import annotations

from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode

__all__ = ["of_budget", "of_workload"]

_LINTER = "ignore-check.kube-linter.io/"
_SCORE = "kube-score/ignore"
_POLARIS = "polaris.fairwinds.com/{}-exempt"

_ONE = "never two: one replica is what is meant"
_NO_SURGE = "never two: a rolling update would start the second before the first has ended"
_PAIR = "one is active, and the others only wait"
_ASK = "the owner is asked before the only replica is moved"


def of_workload(app: Application) -> dict[str, str]:
    """Return the annotations of the workload."""
    if app.mode is Mode.AT_LEAST_ONE:
        return {
            f"{_LINTER}minimum-three-replicas": _ONE,
            f"{_LINTER}no-rolling-update-strategy": _NO_SURGE,
            _SCORE: "deployment-replicas,deployment-strategy",
            _POLARIS.format("deploymentMissingReplicas"): "true",
        }
    if app.mode is Mode.AT_MOST_ONE:
        return {f"{_LINTER}minimum-three-replicas": _ONE}
    if app.mode is Mode.ACTIVE_STANDBY:
        return {f"{_LINTER}minimum-three-replicas": _PAIR}
    return {}


def of_budget(app: Application) -> dict[str, str]:
    """Return the annotations of the PodDisruptionBudget."""
    if not app.mode.single:
        return {}
    return {
        f"{_LINTER}pdb-max-unavailable": _ASK,
        _POLARIS.format("pdbDisruptionsIsZero"): "true",
    }
