"""Label selectors as the API server reads them: `matchLabels` and `matchExpressions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["named_keys", "selects", "without"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a LabelSelector matches these labels; an empty one matches all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or ()
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
    wanted = {"In", "Exists"}
    expressions = selector.get("matchExpressions") or ()
    return set(selector.get("matchLabels") or {}) | {
        each.get("key", "") for each in expressions if each.get("operator") in wanted
    }


def without(selector: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    """Return the selector as if it did not ask for these labels."""
    labels = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    return {
        "matchLabels": {key: value for key, value in labels.items() if key not in keys},
        "matchExpressions": [each for each in expressions if each.get("key") not in keys],
    }
