"""Elections and work for asyncio, with the names of `incumbent.sync`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from incumbent.aio.election import Election, Health, Hold, Term

if TYPE_CHECKING:
    from incumbent.aio.consumer import Consumer

__all__ = ["Consumer", "Election", "Health", "Hold", "Term"]

_WHERE = {"Consumer": "incumbent.aio.consumer"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
