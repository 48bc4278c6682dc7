"""Many replicas, exactly one active, highly available: leader election that can be believed.

    import incumbent

    with incumbent.Election("billing").hold() as term:
        settle(fencing_token=term.token)

`incumbent.Election` is for threads, `incumbent.aio.Election` for asyncio; both have the same names.
Names are loaded when they are first used, so that `import incumbent` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from incumbent import aio
    from incumbent.errors import (
        ConfigError,
        IncumbentError,
        LeadershipLost,
        NotElected,
        StaleToken,
        StoreError,
    )
    from incumbent.runtime.candidacy import Sighting
    from incumbent.runtime.health import Health
    from incumbent.runtime.term import Term
    from incumbent.sync import Election
    from incumbent.sync.periodic import Job, Jobs, cron, every
    from incumbent.sync.spread import Spread
    from incumbent.workloads.periodic import Tick

__version__ = "0.1.0.dev0"
__all__ = [
    "ConfigError",
    "Election",
    "Health",
    "IncumbentError",
    "Job",
    "Jobs",
    "LeadershipLost",
    "NotElected",
    "Sighting",
    "Spread",
    "StaleToken",
    "StoreError",
    "Term",
    "Tick",
    "aio",
    "cron",
    "every",
]

_WHERE = {
    "Election": "incumbent.sync",
    "Health": "incumbent.runtime.health",
    "Job": "incumbent.sync.periodic",
    "Jobs": "incumbent.sync.periodic",
    "Sighting": "incumbent.runtime.candidacy",
    "Spread": "incumbent.sync.spread",
    "Term": "incumbent.runtime.term",
    "Tick": "incumbent.workloads.periodic",
    "cron": "incumbent.sync.periodic",
    "every": "incumbent.sync.periodic",
}


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("incumbent.aio")
    if name in __all__:
        return getattr(import_module(_WHERE.get(name, "incumbent.errors")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
