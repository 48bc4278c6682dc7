"""Which right is missing, where that is why a candidate is not elected.

Looks and takes need different rights, so what is noted of one says nothing of the other. Whoever
may look and not write is denied each take; but as long as another holds what was watched since,
nothing is taken, and it is that one who is in the way.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from incumbent.core.records import Snapshot
from incumbent.errors import IncumbentError, PermissionDenied

__all__ = ["Denial"]


class Denial:
    """What was denied to the last look and to the last take of one candidate."""

    def __init__(self) -> None:
        self._look: PermissionDenied | None = None
        self._take: tuple[PermissionDenied, Hashable] | None = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Note how a look ends; what is raised passes through."""
        try:
            yield
        except (IncumbentError, TimeoutError) as error:
            self._look = error if isinstance(error, PermissionDenied) else None
            raise
        self._look = None

    def heard(self) -> None:
        """Note that the store has reported the record unasked: it need not be looked at."""
        self._look = None

    @contextmanager
    def taking(self, over: Snapshot) -> Iterator[None]:
        """Note how the take of `over` ends, or what has to be done before it."""
        try:
            yield
        except (IncumbentError, TimeoutError) as error:
            self._take = (error, over.watched) if isinstance(error, PermissionDenied) else None
            raise
        self._take = None

    def reason(self, watched: Snapshot | None) -> PermissionDenied | None:
        """Return the missing right that stands in the way of whoever watches this."""
        if self._take is not None and (watched is None or watched.watched == self._take[1]):
            return self._take[0]
        return self._look
