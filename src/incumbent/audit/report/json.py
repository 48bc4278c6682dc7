"""Findings as one JSON document, for programs; its fields stay, others may be added."""

from __future__ import annotations

from typing import Any

from incumbent.audit.finding import Finding

__all__ = ["document"]


def document(findings: list[Finding], left_out: list[str]) -> dict[str, Any]:
    """Return the document."""
    return {
        "findings": [_finding(each) for each in findings],
        "not_objects": left_out,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    manifest, rule = finding.manifest, finding.rule
    return {
        "rule": rule.id,
        "severity": str(finding.severity),
        "title": rule.title,
        "found": finding.sighting.text,
        "object": {
            "kind": manifest.kind,
            "namespace": manifest.namespace,
            "name": manifest.name,
        },
        "path": list(finding.sighting.path),
        "file": manifest.origin.name or None,
        "line": finding.line or None,
        "why": rule.why,
        "fix": rule.fix,
        "fixable": bool(finding.sighting.edits),
        "links": [rule.page, *rule.links],
        "waived": finding.waived or None,
    }
