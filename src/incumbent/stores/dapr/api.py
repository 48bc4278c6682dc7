"""The two calls of Dapr's lock API, whichever protocol makes them."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

__all__ = ["Sidecar", "Unlocked"]


class Unlocked(IntEnum):
    """What came of giving a lock back."""

    DONE = 0
    NO_SUCH_LOCK = 1
    ANOTHER_OWNERS = 2
    INTERNAL_ERROR = 3


class Sidecar(Protocol):
    """A daprd, as far as locks are concerned.

    Both calls raise `StoreUnavailable`, `StoreUnusable` and `PermissionDenied` where certainly
    nothing was done, and else `OutcomeUnknown`.
    """

    async def try_lock(self, resource: str, owner: str, expiry_s: int) -> bool:
        """Take a lock for so many seconds.

        False says that it is held. By whom it does not say: daprd repeats what Redis did not
        answer, so even this very call may have taken it.
        """
        ...

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give a lock back, if it is this owner's."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
