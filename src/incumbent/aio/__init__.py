"""Elections and work for asyncio, with the names of `incumbent.sync`."""

from __future__ import annotations

from incumbent.aio.election import Election, Health, Hold, Term
from incumbent.aio.spread import Spread

__all__ = ["Election", "Health", "Hold", "Spread", "Term"]
