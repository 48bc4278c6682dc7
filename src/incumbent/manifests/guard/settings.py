"""What can be chosen of the guard, and the errors of those who choose what cannot work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from incumbent.errors import ConfigError
from incumbent.manifests import fields

__all__ = ["CONTROLLERS", "POD_GC", "Settings"]

POD_GC = "system:serviceaccount:kube-system:pod-garbage-collector"
CONTROLLERS = (
    "system:serviceaccount:kube-system:deployment-controller",
    "system:kube-controller-manager",
)
"""Who scales the ReplicaSets of Deployments.

The second is the one where kube-controller-manager does not give each controller an account.
"""

_RESOURCE = re.compile(r"[a-z0-9][-a-z0-9.]*\.[-a-z0-9.]*[a-z0-9]/[a-z0-9]+")
_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_VALUE}")
_LABEL = re.compile(rf"{_VALUE}?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the guard is to be.

    Attributes:
        prefix: what the names of all its objects begin with.
        namespaces: labels of the namespaces that are guarded; None for all namespaces.
        warn: whether requests are let through, with a warning and a line in the audit log.
        exempt: users that may do what is otherwise refused to a Pod; say, the account of an
            operator that powers a node off before it deletes the Pods.
        pod_gc: whether the Pod garbage collector is one of them. If not, a Pod stays for as long
            as its node is away, whatever is done to the Node object.
        custom: custom resources as GROUP/PLURAL with a `spec.selector.matchLabels` and a
            `spec.replicas` like a Deployment's. Their scale requests are judged without this.
    """

    prefix: str = "incumbent"
    namespaces: Mapping[str, str] | None = None
    warn: bool = False
    exempt: tuple[str, ...] = ()
    pod_gc: bool = True
    custom: tuple[str, ...] = ()

    @property
    def trusted(self) -> tuple[str, ...]:
        """Return the users that may end a Pod by force, beside kubelets."""
        return (*((POD_GC,) if self.pod_gc else ()), *self.exempt)

    def check(self) -> None:
        """Raise an error if these settings cannot work.

        Raises:
            ConfigError: with what to change.
        """
        fields.subdomain("prefix", self.prefix)
        if self.namespaces is not None and not self.namespaces:
            raise ConfigError("no label of namespaces: name one, or leave it out for all")
        for key, value in (self.namespaces or {}).items():
            if not (_KEY.fullmatch(key) and _LABEL.fullmatch(value)):
                raise ConfigError(f"{key}={value} is no label of a namespace: write KEY=VALUE")
        for user in self.exempt:
            if not user.strip() or not user.isprintable():
                raise ConfigError(f"exempt {user!r} is no name of a user")
        for resource in self.custom:
            if not _RESOURCE.fullmatch(resource):
                raise ConfigError(
                    f"custom resource {resource!r}: write GROUP/PLURAL, as in argoproj.io/rollouts"
                )
