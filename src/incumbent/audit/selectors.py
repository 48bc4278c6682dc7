"""Label selectors as the API server reads them: `matchLabels` and `matchExpressions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from incumbent.audit.objects import Object, listing, mapping, strings

__all__ = ["named_keys", "selects", "without"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a LabelSelector matches these labels; an empty one matches all."""
    for key, value in strings(selector.get("matchLabels")).items():
        if labels.get(key) != value:
            return False
    return all(_holds(each, labels) for each in _expressions(selector))


def _expressions(selector: Mapping[str, Any]) -> Iterator[Object]:
    return map(mapping, listing(selector.get("matchExpressions")))


def _key(expression: Mapping[str, Any]) -> str:
    return str(expression.get("key") or "")


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = _key(expression), listing(expression.get("values"))
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def named_keys(selector: Mapping[str, Any]) -> set[str]:
    """Return the labels that must be there for the selector to match."""
    wanted = (each for each in _expressions(selector) if each.get("operator") in ("In", "Exists"))
    return set(strings(selector.get("matchLabels"))) | set(map(_key, wanted))


def without(selector: Mapping[str, Any], keys: set[str]) -> Object:
    """Return the selector as if it did not ask for these labels."""
    labels = strings(selector.get("matchLabels"))
    return {
        "matchLabels": {key: value for key, value in labels.items() if key not in keys},
        "matchExpressions": [each for each in _expressions(selector) if _key(each) not in keys],
    }
