"""Elections and work for asyncio, with the names of `incumbent.sync`.

What is work and no election is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from incumbent.aio.election import Election, Health, Hold, Term

if TYPE_CHECKING:
    from incumbent.aio.periodic import Job, Jobs, Tick, cron, every
    from incumbent.aio.spread import Spread

__all__ = ["Election", "Health", "Hold", "Job", "Jobs", "Spread", "Term", "Tick", "cron", "every"]

_WHERE = {
    "Job": "incumbent.aio.periodic",
    "Jobs": "incumbent.aio.periodic",
    "Spread": "incumbent.aio.spread",
    "Tick": "incumbent.aio.periodic",
    "cron": "incumbent.aio.periodic",
    "every": "incumbent.aio.periodic",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
