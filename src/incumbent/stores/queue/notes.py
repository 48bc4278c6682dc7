"""What stands in our nodes, and in the note beside the queue: JSON.

A node:   {"format": 1, "holder": IDENTITY, "term": NONCE, "ttl_s": 15.0}
The note: {"format": 1, "request": {"term": NONCE, "to": ""}}, or with `null` for the request

A node of anybody else has whatever its owner wrote, which people may be able to read.
"""

from __future__ import annotations

import json
from typing import Any

from incumbent.core.records import FORMAT, Claim, StepDownRequest
from incumbent.stores.queue.api import Node

__all__ = ["EMPTY", "foreign_holder", "node_of", "note_of", "parse_node", "request_in"]


def node_of(claim: Claim) -> bytes:
    """Return what stands in the node of a candidate of ours."""
    return _encoded({"holder": claim.identity, "term": claim.term, "ttl_s": claim.ttl_s})


def parse_node(node: Node) -> dict[str, Any] | None:
    """Return what stands in a node of ours, or None if it is somebody else's."""
    found = _decoded(node.value)
    texts = isinstance(found.get("holder"), str) and isinstance(found.get("term"), str)
    ttl_s = found.get("ttl_s")
    lasts = isinstance(ttl_s, int | float) and not isinstance(ttl_s, bool) and 0 < ttl_s < 1e9
    return found if texts and lasts else None


def foreign_holder(node: Node) -> str:
    """Return how people may know the owner of a node that is not ours."""
    text = node.value.decode("utf-8", "replace").strip()
    return text[:100] if text.isprintable() and text else node.key.rpartition("/")[2]


def note_of(request: StepDownRequest) -> bytes:
    """Return the note with a request to step down."""
    return _encoded({"request": {"term": request.term, "to": request.to}})


def request_in(note: bytes) -> StepDownRequest | None:
    """Return the request to step down that stands in the note."""
    request = _decoded(note).get("request")
    if not isinstance(request, dict) or not isinstance(request.get("term"), str):
        return None
    return StepDownRequest(request["term"], str(request.get("to", "")))


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, **value}, separators=(",", ":"), sort_keys=True).encode()


def _decoded(value: bytes) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("format") == FORMAT else {}


EMPTY = _encoded({"request": None})
"""The note without a request."""
