"""Findings for people: a line that an editor can jump to, what is so, and what to do.

The reasons are printed once for each rule, since one cause is mostly found in several places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from incumbent.audit.finding import Finding, Severity

__all__ = ["Line", "lines", "summary"]


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        text: what it says.
        style: what kind of line it is: a severity, "why", "fix", "waived" or "".
    """

    text: str
    style: str = ""


def lines(findings: list[Finding], *, quiet: bool = False) -> Iterator[Line]:
    """Yield the findings, the worst first, and what is waived at the end."""
    told: set[str] = set()
    ordered = sorted(findings, key=lambda each: (bool(each.waived), -each.severity.rank))
    for each in ordered:
        place = _place(each)
        if each.waived:
            if not quiet:
                yield Line(f"{place}: waived {each.rule.id}: {each.waived}", "waived")
            continue
        head = f"{place}: {each.severity} {each.rule.id}: {each.sighting.text}"
        yield Line(head, str(each.severity))
        if each.rule.id not in told and not quiet:
            told.add(each.rule.id)
            yield Line(f"    {each.rule.why}", "why")
            yield Line(f"    → {each.rule.fix}", "fix")


def _place(finding: Finding) -> str:
    manifest = finding.manifest
    if manifest.origin.name:
        return f"{manifest.origin.name}:{finding.line}"
    return f"{manifest.namespace}/{manifest.kind}/{manifest.name}"


def summary(findings: list[Finding], objects: int) -> str:
    """Return how many there are of each severity."""
    open_ = [each for each in findings if not each.waived]
    counts = [(sum(each.severity is one for each in open_), str(one)) for one in Severity]
    told = ", ".join(f"{count} {name}" for count, name in counts if count)
    waived = len(findings) - len(open_)
    noun = "object" if objects == 1 else "objects"
    text = f"{objects} {noun}: {told or 'nothing found'}"
    return f"{text}; {waived} waived" if waived else text
