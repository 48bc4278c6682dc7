"""A rule, what it finds, and how bad that is.

A rule is a function with data. It is given a `Case` and yields `Sighting`s; what is the same for
all of them (why, what to do) stands once, with the rule, and is what the documentation prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from incumbent.audit.edits import Edit
from incumbent.audit.objects import Manifest, Path

if TYPE_CHECKING:
    from incumbent.audit.case import Case

__all__ = ["Finding", "Judge", "Rule", "Severity", "Sighting", "rule"]


class Severity(StrEnum):
    """What may come of it, the worst first."""

    CRITICAL = "critical"
    """Two active at once, or data lost."""
    HIGH = "high"
    """A long stop, or a cluster whose maintenance is blocked."""
    MEDIUM = "medium"
    """A takeover that is late, or a safeguard that is weaker than it looks."""
    LOW = "low"
    """An annoyance."""
    NOTE = "note"
    """Nothing wrong; something that only its author can say."""

    @property
    def rank(self) -> int:
        """0 for a note, more for what is worse."""
        return len(Severity) - 1 - list(Severity).index(self)

    @property
    def milder(self) -> Severity:
        """The next less bad one."""
        return list(reversed(Severity))[max(0, self.rank - 1)]


@dataclass(frozen=True)
class Sighting:
    """One place where a rule does not hold.

    Attributes:
        manifest: the object to change, or to look at.
        path: where in it.
        text: what is so, in one sentence.
        severity: if it is another one than the rule's.
        edits: what would mend it without any thought.
    """

    manifest: Manifest
    path: Path
    text: str
    severity: Severity | None = None
    edits: tuple[Edit, ...] = ()


Judge = Callable[["Case"], Iterator[Sighting]]


@dataclass(frozen=True)
class Rule:
    """What is looked for, why, and what to do.

    Attributes:
        id: stable; a rule that goes takes its id along.
        severity: the worst that it means.
        title: what is wrong, in a few words.
        why: what comes of it.
        fix: what to do.
        links: where Kubernetes or others say so.
        live: whether only a running cluster shows it.
        judge: finds it.
    """

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    links: tuple[str, ...]
    live: bool
    judge: Judge

    @property
    def page(self) -> str:
        """Where our documentation speaks of it."""
        return f"docs/audit.md#{self.id.lower()}"

    def findings(self, case: Case) -> Iterator[Finding]:
        """Judge, and put the rule to what was seen."""
        for sighting in self.judge(case):
            yield Finding(self, sighting, sighting.severity or self.severity)


@dataclass(frozen=True)
class Finding:
    """A sighting, with its rule; `waived` is the reason for which it is accepted."""

    rule: Rule
    sighting: Sighting
    severity: Severity
    waived: str = ""

    @property
    def manifest(self) -> Manifest:
        """The object."""
        return self.sighting.manifest

    @property
    def line(self) -> int:
        """The line in the file; 0 if there is none."""
        return self.manifest.origin.line(self.sighting.path)


def rule(
    id: str,
    severity: Severity,
    title: str,
    *,
    why: str,
    fix: str,
    links: tuple[str, ...] = (),
    live: bool = False,
) -> Callable[[Judge], Rule]:
    """Return a decorator that makes a rule of the function that judges."""

    def made(judge: Judge) -> Rule:
        return Rule(
            id, severity, title, " ".join(why.split()), " ".join(fix.split()), links, live, judge
        )

    return made
