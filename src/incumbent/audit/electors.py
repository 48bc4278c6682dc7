"""What the template of a workload says of a leader election: by what, on which lock, how long.

There is no field for it. What is known are the flags of client-go and of what is built on it, the
environment of `incumbent`, images of sidecars that elect, and the right to write Leases. Whatever
cannot be read is None and is not judged.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from incumbent.audit.inventory import Inventory
from incumbent.audit.objects import Container, Path, Workload, listing

__all__ = ["Elector", "duration", "electors", "flag", "may_write_leases", "said", "script"]

_ENABLING = ("leader-elect", "leader-election", "enable-leader-election", "leader-election-enabled")
_ENABLING_VARIABLES = (
    "ENABLE_LEADER_ELECTION",
    "LEADER_ELECT",
    "LEADER_ELECTION",
    "LEADER_ELECTION_ENABLED",
)
_NAMES = (
    "leader-elect-resource-name",
    "leader-election-resource-name",
    "leader-election-id",
    "leader-election-name",
    "leader-election-lease-name",
    "lease-name",
    "election",
)
_NAME_VARIABLES = ("LEADER_ELECTION_ID", "LEADER_ELECTION_NAME", "LEADER_ELECTION_LEASE_NAME")
_SIDECAR_IMAGE = re.compile(r"(?:^|/)(?:[\w.-]*leader-elect(?:or|ion)|[\w-]*elector)(?:[:@/]|$)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?)(ns|us|ms|s|m|h)")


@dataclass(frozen=True)
class Elector:
    """One container that takes part in an election.

    Attributes:
        container: the container.
        how: "incumbent", "sidecar" (it elects for another container) or "flags".
        lock: the name of the lock, if it says.
        lock_namespace: where the lock is, if it says.
        lease_s: how long others wait, if it says.
        renew_s: how long it works on without a renewal, if it says.
        at: where in the manifest that stands.
    """

    container: Container
    how: str
    lock: str | None
    lock_namespace: str | None
    lease_s: float | None
    renew_s: float | None
    at: Path


def electors(workload: Workload) -> list[Elector]:
    """Return the containers of a workload that take part in an election."""
    found = (_elector(each) for each in workload.containers)
    return [each for each in found if each is not None]


def _elector(container: Container) -> Elector | None:
    words = script(container.words)
    run = _incumbent_run(words)
    variables = {key: str(value) for key, value in container.environment.items()}
    if run is not None or "INCUMBENT_ELECTION" in variables:
        how, lock = "incumbent", run or variables.get("INCUMBENT_ELECTION")
    elif _SIDECAR_IMAGE.search(container.image):
        how, lock = "sidecar", None
    elif any(said(words, each) for each in _ENABLING) or any(
        variables.get(each, "").lower() in ("true", "1", "yes") for each in _ENABLING_VARIABLES
    ):
        how, lock = "flags", None
    else:
        return None
    lock = lock or next(filter(None, (flag(words, each) for each in _NAMES)), None)
    lock = lock or next(filter(None, map(variables.get, _NAME_VARIABLES)), None)
    place = (
        flag(words, "leader-elect-resource-namespace")
        or flag(words, "leader-election-namespace")
        or flag(words, "leader-election-resource-namespace")
    )
    lease = flag(words, "leader-elect-lease-duration") or flag(words, "lease-duration")
    renew = flag(words, "leader-elect-renew-deadline") or flag(words, "renew-deadline")
    if how == "incumbent":
        lease, renew = flag(words, "ttl") or variables.get("INCUMBENT_TTL"), None
    return Elector(container, how, lock, place, duration(lease), duration(renew), container.path)


def script(words: Sequence[str]) -> list[str]:
    """Return the words of a command; those inside a shell's script too."""
    found = []
    for word in words:
        if " " not in word and "\n" not in word:
            found.append(word)
            continue
        try:
            found += shlex.split(word, comments=True)
        except ValueError:
            found += word.split()
    return found


def _incumbent_run(words: Sequence[str]) -> str | None:
    """Return the election of `incumbent run NAME`; "" if it does not show, None without a run."""
    for number, word in enumerate(words[:-1]):
        if (
            word.rpartition("/")[2] in ("incumbent", "kubectl-incumbent")
            and "run" in words[number:]
        ):
            left = words[words.index("run", number) + 1 :]
            return left[0] if left and not left[0].startswith("-") else ""
    return None


def said(words: Sequence[str], name: str) -> bool:
    """Tell whether a flag of this name is there, and not switched off."""
    for word in words:
        key, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and key == name:
            return not equals or value.lower() not in ("false", "0", "no")
    return False


def flag(words: Sequence[str], name: str) -> str | None:
    """Return the value of `--name=VALUE` or `--name VALUE`, or None."""
    for number, word in enumerate(words):
        key, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or key != name:
            continue
        if equals:
            return value
        if number + 1 < len(words) and not words[number + 1].startswith("-"):
            return words[number + 1]
    return None


def duration(text: str | None) -> float | None:
    """Return seconds, of a number or of what Go writes, as `1m30s`; None if it is neither."""
    if not text:
        return None
    parts = _DURATION.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        return None


def may_write_leases(inventory: Inventory, workload: Workload) -> bool:
    """Tell whether a rule of its ServiceAccount names Leases, and lets it write them.

    Not so without a token: several workloads may share an account, and only one of them elect.
    """
    return workload.pod_spec.get("automountServiceAccountToken") is not False and any(
        "leases" in listing(rule.get("resources")) and _writes(listing(rule.get("verbs")))
        for _, _, rule in inventory.rules(workload)
    )


def _writes(verbs: Iterable[object]) -> bool:
    return bool({"update", "patch", "*"} & set(map(str, verbs)))
