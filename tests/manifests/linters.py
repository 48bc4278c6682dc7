"""The linters of others on what `incumbent manifests` writes: would one of them repair a singleton?

Each of them judges one object at a time, and for each more replicas are better. `REPAIRS` names the
checks of each whose remedy would make two of a singleton, or have a drain move an only replica
without asking. With our annotations none of these complains; without them exactly those do that
are waived, so that no waiver is there for nothing. What may be many, a companion or a
partly-singleton, is theirs to judge.

kube-score is built by the tests. kube-linter and Polaris are looked for on the PATH, by
`python -m tests.manifests.linters`, which says which of them it has found.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from incumbent.manifests import Object
from incumbent.manifests.marks import MODE
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from tests.manifests.kit import EVERY
from tests.servers import build

__all__ = ["KUBE_SCORE", "LINTERS", "Finding", "Linter", "stripped", "waived"]

Finding = tuple[str, str, str]
"""Kind and name of an object, and the check."""
_LIMIT_S = 120
_ENOUGH = 3
_HARMLESS = str(Mode.PARTLY_SINGLETON)


@dataclass(frozen=True, slots=True)
class Linter:
    """One linter.

    Attributes:
        name: of the program.
        repairs: the checks that would repair a singleton.
        arguments: of the program; the file comes last.
        complaints: reads what it has written.
        waivers: the checks that an annotation waives.
    """

    name: str
    repairs: frozenset[str]
    arguments: tuple[str, ...]
    complaints: Callable[[Any], Iterator[Finding]]
    waivers: Callable[[str, str], Iterable[str]]

    def findings(self, program: Path | str, objects: list[Object]) -> set[Finding]:
        """Return what it complains of, as far as it would repair a singleton."""
        with tempfile.TemporaryDirectory(prefix="incumbent-lint-") as folder:
            file = Path(folder) / "objects.yaml"
            file.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
            done = subprocess.run(
                [program, *self.arguments, file],
                check=False,
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
            )
        if not done.stdout.strip():
            raise AssertionError(f"{self.name} said nothing: {done.stderr}")
        single = {
            (obj["kind"], obj["metadata"]["name"])
            for obj in objects
            if obj["metadata"]["labels"].get(MODE, _HARMLESS) != _HARMLESS
        }
        return {
            found
            for found in self.complaints(json.loads(done.stdout))
            if found[2] in self.repairs and found[:2] in single
        }


def waived(linter: Linter, objects: list[Object]) -> set[Finding]:
    """Return what the annotations of these objects waive."""
    return {
        (obj["kind"], obj["metadata"]["name"], check)
        for obj in objects
        for key, value in obj["metadata"].get("annotations", {}).items()
        for check in linter.waivers(key, value)
    }


def stripped(linter: Linter, objects: list[Object]) -> list[Object]:
    """Return the objects without what they say to this linter."""
    found = copy.deepcopy(objects)
    for obj in found:
        notes = obj["metadata"].get("annotations", {})
        for key in [key for key, value in notes.items() if list(linter.waivers(key, value))]:
            del notes[key]
    return found


# -- kube-score -----------------------------------------------------------------------------------

_SCORE_OK = 10


def _of_score(told: Any) -> Iterator[Finding]:
    for one in told:
        for check in one["checks"]:
            if not check["skipped"] and check["grade"] < _SCORE_OK:
                meta = one["object_meta"]
                yield one["type_meta"]["kind"], meta["name"], check["check"]["id"]


def _by_score(key: str, value: str) -> Iterable[str]:
    return value.split(",") if key == "kube-score/ignore" else ()


KUBE_SCORE = Linter(
    "kube-score",
    frozenset({"deployment-replicas", "deployment-strategy"}),
    ("score", "--output-format", "json", "--kubernetes-version", "v1.36"),
    _of_score,
    _by_score,
)


# -- kube-linter ----------------------------------------------------------------------------------


def _of_kube_linter(told: Any) -> Iterator[Finding]:
    for one in told["Reports"] or ():
        found = one["Object"]["K8sObject"]
        yield found["GroupVersionKind"]["Kind"], found["Name"], one["Check"]


def _by_kube_linter(key: str, _: str) -> Iterable[str]:
    prefix, slash, check = key.partition("/")
    return (check,) if slash and prefix == "ignore-check.kube-linter.io" else ()


_CHECKED = "minimum-three-replicas,no-rolling-update-strategy,pdb-max-unavailable,pdb-min-available"
_KUBE_LINTER = Linter(
    "kube-linter",
    frozenset(_CHECKED.split(",")),
    ("lint", "--do-not-auto-add-defaults", "--include", _CHECKED, "--format", "json"),
    _of_kube_linter,
    _by_kube_linter,
)


# -- Polaris --------------------------------------------------------------------------------------


def _of_polaris(told: Any) -> Iterator[Finding]:
    for one in told["Results"]:
        for check in (one["Results"] or {}).values():
            if not check["Success"]:
                yield one["Kind"], one["Name"], check["ID"]


def _by_polaris(key: str, _: str) -> Iterable[str]:
    prefix, slash, rest = key.partition("/")
    if slash and prefix == "polaris.fairwinds.com":
        yield rest.removesuffix("-exempt")


_POLARIS = Linter(
    "polaris",
    frozenset({"deploymentMissingReplicas", "pdbDisruptionsIsZero"}),
    ("audit", "--format", "json", "--audit-path"),
    _of_polaris,
    _by_polaris,
)

LINTERS = (KUBE_SCORE, _KUBE_LINTER, _POLARIS)


def main() -> int:
    """Try those that are there; return 1 if a waiver is wrong."""
    wrong = 0
    for linter in LINTERS:
        built = linter is KUBE_SCORE
        program = build.ensure(linter.name) if built else shutil.which(linter.name)
        if program is None:
            sys.stdout.write(f"{linter.name}: not on the PATH, not tried\n")
            continue
        needed: set[str] = set()
        for name, app in EVERY.items():
            objects = objects_of(app)
            kept = linter.findings(program, objects)
            without = linter.findings(program, stripped(linter, objects))
            said = waived(linter, objects)
            if app.mode is Mode.ACTIVE_STANDBY and app.count >= _ENOUGH:
                said &= without  # An overlay may make it two.
            needed |= {check for _, _, check in without}
            for finding in sorted(kept):
                sys.stdout.write(f"{linter.name}: {name}: {finding} is not waived\n")
            for finding in sorted(without ^ said):
                sys.stdout.write(f"{linter.name}: {name}: {finding} waived and needed differ\n")
            wrong += len(kept) + len(without ^ said)
        sys.stdout.write(f"{linter.name}: {len(EVERY)} applications, {sorted(needed)} waived\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
