"""Pods, and questions about them, for tests that need no API server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from incumbent.audit.objects import Object
from incumbent.manifests import marks

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
OWNER = "payments@example.com"
SINGLE = {"app": "reports", marks.SINGLETON: "true"}
ACTIVE = {"app": "reports", marks.MODE: "active-standby", marks.ROLE: "active"}


def pod(
    labels: Mapping[str, str] = SINGLE,
    notes: Mapping[str, str] | None = None,
    *,
    ready: bool = True,
    phase: str = "Running",
    **metadata: Any,
) -> Object:
    """Return a Pod as the API server shows it."""
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "reports-0",
            "namespace": "default",
            "uid": "uid-1",
            "resourceVersion": "7",
            "labels": dict(labels),
            "annotations": {marks.OWNER: OWNER} if notes is None else dict(notes),
            **metadata,
        },
        "status": {"phase": phase, "conditions": [condition]},
    }


def budget(*, allowed: int = 0, let_go: bool = True, name: str = "reports") -> Object:
    """Return a budget over Pods of `reports`, which leaves out what was let go, or does not."""
    selector: Object = {"matchLabels": {"app": "reports"}}
    if let_go:
        selector["matchExpressions"] = [{"key": marks.LET_GO, "operator": "DoesNotExist"}]
    return {
        "metadata": {"name": name},
        "spec": {"selector": selector, "maxUnavailable": 0},
        "status": {"disruptionsAllowed": allowed},
    }


def review(version: str = "v1", *, dry_run: bool = False, **options: Any) -> Object:
    """Return the question about an eviction of `reports-0`, as an API server puts it."""
    eviction: Object = {
        "apiVersion": f"policy/{version}",
        "kind": "Eviction",
        "metadata": {"name": "reports-0", "namespace": "default"},
    }
    if options:
        eviction["deleteOptions"] = options
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "question-1",
            "kind": {"group": "policy", "version": version, "kind": "Eviction"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": "eviction",
            "name": "reports-0",
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "ann", "groups": ["admins"]},
            "object": eviction,
            "oldObject": None,
            "dryRun": dry_run,
        },
    }


def body(question: object) -> bytes:
    return json.dumps(question).encode()
