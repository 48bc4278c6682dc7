"""What somebody has looked at and accepted: by an annotation on the object, or in a file.

    metadata:
      annotations:
        waive.incumbent.dev/INC013: two may overlap, the table it writes to is fenced

A file is for objects of others, which one cannot annotate:

    waivers:
    - rule: INC013
      object: Deployment/wiki        # with * and ?; NAMESPACE/KIND/NAME, too
      reason: two may overlap, the table it writes to is fenced
      until: 2027-01-31              # may be left out; the day after it counts no more

A waiver without a reason waives nothing. What is waived is still shown, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from incumbent.audit.finding import Finding
from incumbent.audit.objects import Manifest, mapping
from incumbent.audit.rules import RULES_BY_ID
from incumbent.audit.source import document
from incumbent.errors import ConfigError
from incumbent.manifests import marks

__all__ = ["Waiver", "apply", "read_waivers", "unused"]

_KEYS = {"rule", "object", "reason", "until"}


@dataclass(frozen=True)
class Waiver:
    """One entry of a file.

    Attributes:
        rule: the id.
        object: a pattern of KIND/NAME, or of NAMESPACE/KIND/NAME.
        reason: why it is accepted.
        until: the last day on which it counts, or None.
    """

    rule: str
    object: str
    reason: str
    until: date | None = None

    def covers(self, finding: Finding, today: date) -> bool:
        """Tell whether it accepts a finding."""
        if finding.rule.id != self.rule or (self.until is not None and today > self.until):
            return False
        return fnmatchcase(_named(finding.manifest, self.object), self.object)


def _named(manifest: Manifest, pattern: str) -> str:
    name = f"{manifest.kind}/{manifest.name}"
    return f"{manifest.namespace}/{name}" if pattern.count("/") > 1 else name


def read_waivers(path: Path) -> list[Waiver]:
    """Read a file of waivers.

    Raises:
        ConfigError: it is none; the message names the entry.
    """
    entries = mapping(document(path)).get("waivers")
    if not isinstance(entries, list):
        raise ConfigError(f"{path} has no list `waivers:`")
    return [_waiver(mapping(each), f"{path}: waiver {n}") for n, each in enumerate(entries, 1)]


def _waiver(entry: dict[str, object], where: str) -> Waiver:
    unknown = sorted(set(map(str, entry)) - _KEYS)
    if unknown:
        raise ConfigError(f"{where} has {', '.join(unknown)}; there are {', '.join(sorted(_KEYS))}")
    rule, named = str(entry.get("rule") or ""), str(entry.get("object") or "")
    reason, until = str(entry.get("reason") or "").strip(), entry.get("until")
    if rule not in RULES_BY_ID:
        raise ConfigError(f"{where}: {rule!r} is no rule; `incumbent audit --rules` lists them")
    if "/" not in named:
        raise ConfigError(f"{where}: object {named!r} is not KIND/NAME, as in Deployment/wiki")
    if not reason:
        raise ConfigError(f"{where} has no reason; say why it is accepted")
    try:
        last = None if until is None else date.fromisoformat(str(until))
    except ValueError:
        raise ConfigError(f"{where}: until {until!r} is no date, as in 2027-01-31") from None
    return Waiver(rule, named, reason, last)


def apply(findings: Iterable[Finding], waivers: list[Waiver], today: date) -> list[Finding]:
    """Return the findings, with the reason at those that are accepted."""
    return [replace(each, waived=_reason(each, waivers, today)) for each in findings]


def _reason(finding: Finding, waivers: list[Waiver], today: date) -> str:
    written = finding.manifest.annotations.get(marks.WAIVE + finding.rule.id, "").strip()
    if written:
        return written
    return next((each.reason for each in waivers if each.covers(finding, today)), "")


def unused(findings: Iterable[Finding], waivers: list[Waiver], today: date) -> list[Waiver]:
    """Return the waivers of a file that accept nothing: mended, mistyped, or past their day."""
    found = list(findings)
    return [each for each in waivers if not any(each.covers(one, today) for one in found)]
