"""Elections and work for asyncio, with the names of `incumbent.sync`."""

from __future__ import annotations

from incumbent.aio.election import Election, Health, Hold, Term

__all__ = ["Election", "Health", "Hold", "Term"]
