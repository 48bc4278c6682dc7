"""Findings as SARIF 2.1.0, which forges show beside the lines of a change.

A fingerprint is of rule and object and not of the line, so that a finding stays the same one when
lines are added above it. What is waived is in the log as suppressed, with the reason.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from incumbent import __version__
from incumbent.audit.finding import Finding, Rule, Severity
from incumbent.audit.rules import RULES
from incumbent.manifests import marks

__all__ = ["log"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.NOTE: "note",
}
_SCORES = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "2.5",
    Severity.NOTE: "0.0",
}
"""What forges sort by; the bounds between their words are 4, 7 and 9."""


def log(findings: list[Finding]) -> dict[str, Any]:
    """Return the log of one run."""
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "incumbent audit",
                        "semanticVersion": __version__,
                        "rules": [_rule(each) for each in RULES],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(each) for each in findings],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    links = "\n".join(f"- <{link}>" for link in rule.links)
    made: dict[str, Any] = {
        "id": rule.id,
        "name": rule.judge.__name__,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": f"{rule.why}\n\n{rule.fix}",
            "markdown": f"{rule.why}\n\n**Fix.** {rule.fix}\n\n{links}".rstrip(),
        },
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "tags": ["kubernetes", "singleton"],
            "problem.severity": _LEVELS[rule.severity].replace("note", "recommendation"),
            "security-severity": _SCORES[rule.severity],
        },
    }
    if rule.links:
        made["helpUri"] = rule.links[0]
    return made


def _result(finding: Finding) -> dict[str, Any]:
    manifest = finding.manifest
    name = f"{manifest.namespace}/{manifest.kind}/{manifest.name}"
    place: dict[str, Any] = {
        "logicalLocations": [{"name": manifest.name, "fullyQualifiedName": name, "kind": "object"}]
    }
    if manifest.origin.name:
        place["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(manifest.origin.name)},
            "region": {"startLine": max(1, finding.line)},
        }
    result: dict[str, Any] = {
        "ruleId": finding.rule.id,
        "ruleIndex": RULES.index(finding.rule),
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.sighting.text}. {finding.rule.fix}"},
        "locations": [place],
        "partialFingerprints": {"ruleAndObject/v1": _print(finding, name)},
    }
    if finding.waived:
        written = marks.WAIVE + finding.rule.id in manifest.annotations
        kind = "inSource" if written else "external"
        result["suppressions"] = [{"kind": kind, "justification": finding.waived}]
    return result


def _uri(name: str) -> str:
    """Return a file's name as a reference relative to where the audit ran, as forges want it."""
    return "stdin.yaml" if name.startswith("<") else quote(PurePath(name).as_posix())


def _print(finding: Finding, name: str) -> str:
    path = "/".join(map(str, finding.sighting.path))
    return hashlib.sha256(f"{finding.rule.id} {name} {path}".encode()).hexdigest()[:32]
