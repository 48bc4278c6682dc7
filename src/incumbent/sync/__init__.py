"""Elections and work for ordinary threads; `incumbent.aio` has the same names for asyncio."""

from __future__ import annotations

from incumbent.sync.election import Election, Health, Hold, Term

__all__ = ["Election", "Health", "Hold", "Term"]
