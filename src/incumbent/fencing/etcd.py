"""Seal and check in a transaction of etcd: the user's own transaction, inside one that compares.

A transaction of etcd may hold others, and all of it is one step of the cluster:

    if the key of the resource was never written:  write our token; the user's transaction
    else, if what it holds is below our token + 1: write our token; the user's transaction
    else:                                          answer what it holds

The comparison is etcd's own, of bytes, so a token has a fixed number of digits. It costs no round
trip beside the user's own, and nothing has to be read before.

The form is that of etcd's JSON gateway, keys and values in Base64, for that is what the kept
clients for Python send as they are given it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from incumbent.errors import ConfigError

__all__ = ["result", "sealed"]

PREFIX = "incumbent/fence/"
DIGITS = 20
"""More than 2^63 has: a token never does not fit."""

_PARTS = {"compare", "success", "failure"}


def sealed(txn: Mapping[str, Any], resource: str, token: int) -> dict[str, Any]:
    """Return a transaction that carries out `txn` if no greater token has been here."""
    if not isinstance(txn, Mapping) or not txn.keys() <= _PARTS:
        raise ConfigError(
            "a transaction of etcd's JSON gateway is a dict with compare, success and failure, "
            f"and no more: {txn!r} cannot be fenced"
        )
    key = _text(PREFIX + resource)
    mine = [
        {"request_put": {"key": key, "value": _text(f"{token:0{DIGITS}}")}},
        {"request_txn": dict(txn)},
    ]
    not_above = {
        "key": key,
        "target": "VALUE",
        "result": "LESS",
        "value": _text(f"{token + 1:0{DIGITS}}"),
    }
    told = {
        "compare": [not_above],
        "success": mine,
        "failure": [{"request_range": {"key": key}}],
    }
    unknown = {"key": key, "target": "VERSION", "result": "EQUAL", "version": "0"}
    return {"compare": [unknown], "success": mine, "failure": [{"request_txn": told}]}


def result(answer: Mapping[str, Any], resource: str) -> tuple[int, dict[str, Any]]:
    """Return the greatest token seen, or 0 if it is not above ours, and the user's own answer."""
    try:
        whole = answer
        if not whole.get("succeeded"):
            whole = whole["responses"][0]["response_txn"]
            if not whole.get("succeeded"):
                held = b64decode(whole["responses"][0]["response_range"]["kvs"][0]["value"])
                return _token(held, resource), {}
        own = dict(whole["responses"][1]["response_txn"])
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ConfigError(
            f"this is no answer to a transaction that `fence.etcd` made: {answer!r}"
        ) from None
    return 0, {"succeeded": False, "responses": [], **own}


def _token(held: bytes, resource: str) -> int:
    if not (held.isdigit() and len(held) == DIGITS):
        raise ConfigError(f"the key {PREFIX + resource!r} holds {held!r}, and no token: mend it")
    return int(held)


def _text(word: str) -> str:
    return b64encode(word.encode()).decode()
