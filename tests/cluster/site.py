"""Where an application runs: what its Pods must be told, in a real cluster or a played one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
"""The image has everything where this machine has it, so that commands are the same in both."""
LAUNCHER = f"""\
#!{PYTHON}
import sys
from incumbent.cli.__main__ import main
sys.exit(main())
"""
"""`incumbent`, as the installation of a package puts it on the path."""


@dataclass(frozen=True, slots=True)
class Site:
    """What manifests take from their surroundings.

    Attributes:
        image: what containers are made of.
        marks_dir: the folder of marks, the same on each node.
        ledger_url: where to write; "" for nowhere.
        ttl_s: of elections.
        grace_s: how long the work of an only replica may take to end.
        toleration_s: how long a Pod stays bound to a node that is lost.
        evidence: whether standbys believe the kubelet that the active container has ended.
    """

    image: str
    marks_dir: Path
    ledger_url: str = ""
    ttl_s: int = 6
    grace_s: int = 3
    toleration_s: int = 5
    evidence: bool = False
    environment: dict[str, str] = field(
        default_factory=lambda: {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    )

    def make_marks_dir(self) -> None:
        """Make the folder of marks; Pods are no superusers."""
        self.marks_dir.mkdir()
        self.marks_dir.chmod(0o1777)

    def marks_of(self, application: str) -> Path:
        """Return the file of an application's marks."""
        return self.marks_dir / application
