"""Errors of the model in the words of the options of `incumbent manifests`.

The model speaks as a file does: `store_secret: SECRET/KEY`. Whoever has typed `--store-secret`
should read that, in what is wrong and in what to do. Where a file says the rest, its words stay in
the advice, since either place can be changed, and what was typed is named as it was typed.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["in_options"]

_WORDS = {
    "autoscaling": "--min-replicas and --max-replicas",
    "autoscaling.max_replicas": "--max-replicas",
    "autoscaling.min_replicas": "--min-replicas",
    "checkpoints": "--checkpoints",
    "command": "the command after `--`",
    "companion": "--companion",
    "companion.image": "--companion",
    "env": "--env",
    "evidence": "--evidence",
    "grace_s": "--grace",
    "guard": "--guard",
    "handover": "--handover",
    "handover_cordon": "--handover-cordon",
    "image": "--image",
    "lease": "--lease",
    "liveness": "--liveness",
    "liveness.path": "--liveness",
    "mode": "--mode",
    "name": "NAME",
    "namespace": "--namespace",
    "owner": "--owner",
    "ports": "--port",
    "ports.name": "--port",
    "ports.number": "--port",
    "priority_class": "--priority-class",
    "readiness": "--readiness",
    "readiness.path": "--readiness",
    "replicas": "--replicas",
    "resources.cpu": "--cpu",
    "resources.memory": "--memory",
    "routing": "--routing",
    "storage": "--storage",
    "storage.size": "--storage",
    "store": "--store",
    "store_secret": "--store-secret",
    "tolerations_s": "--tolerations",
    "ttl_s": "--ttl",
    "user": "--user",
}
"""Which option a field is."""

_ADVICE = (
    (r"\b(use|by) mode (?=[a-z])", r"\1 --mode "),
    (r"\bowner: (?=\S+@)", "--owner "),
    (r"\bcommand: \[python, poll\.py\]", "-- python poll.py"),
    (r"\bstore_secret: (?=SECRET)", "--store-secret "),
    (r"\bby store_secret\b", "by --store-secret"),
    (r"\bstore and store_secret\b", "--store and --store-secret"),
    (r"\badd \{name: http, number: 8080\}", "add --port 8080"),
    (r"\badd ports\b", "add --port NUMBER"),
    (r"\bby routing\b", "by --routing"),
    (r"\bby lease\b", "by --lease"),
    (r"\bset replicas\b", "set --replicas"),
    (r"\bleave (lease|replicas) out\b", r"leave --\1 out"),
    (r"\b(max|min)_replicas=", r"--\1-replicas "),
    (r"\b(ttl|grace)_s\b=", r"--\1 "),
    (r"\b(ttl|grace)_s\b", r"--\1"),
)
"""How what to do is said in a file, and how it is typed."""


def in_options(text: str, typed: Collection[str] | None = None) -> str:
    """Return an error in the words of the options.

    Args:
        text: the error; it begins with a field, or is about several.
        typed: the fields that options have said, if a file has said the others; None without one.
    """
    field, colon, rest = text.partition(":")
    known = bool(colon) and field in _WORDS
    if typed is not None:
        return f"{_WORDS[field]}:{rest}" if known and field.partition(".")[0] in typed else text
    for pattern, words in _ADVICE:
        rest = re.sub(pattern, words, rest)
        field = re.sub(pattern, words, field)
    return f"{_WORDS.get(field, field) if known else field}{colon}{rest}"
