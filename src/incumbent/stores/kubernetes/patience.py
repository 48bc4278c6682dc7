"""How long whoever follows Leases waits for an API server, and how soon it tries again."""

from __future__ import annotations

__all__ = ["POLL_S", "REQUEST_LIMIT_S", "SLACK_S", "WATCH_S", "pause_after_s"]

WATCH_S = 290.0
"""How long a watch lasts at the server; after `SLACK_S` more it counts as dead."""
SLACK_S = 20.0
REQUEST_LIMIT_S = 15.0
POLL_S = 5.0
"""Between two reads of what cannot be watched."""

_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def pause_after_s(failures: int) -> float:
    """Return the pause after that many failures in a row, of which there is at least one."""
    return _PAUSES_S[min(failures, len(_PAUSES_S)) - 1]
