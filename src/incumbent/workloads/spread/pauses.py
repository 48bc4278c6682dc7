"""How long is what went wrong left alone: each time twice as long as the time before."""

from __future__ import annotations

__all__ = ["Pauses"]


class Pauses:
    """Pauses that double, for each election by itself.

    Args:
        first_s: the first.
        longest_s: none is longer.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._last_s: dict[str, float] = {}

    def next(self, name: str, *, anew: bool = False) -> float:
        """Return the next one of an election.

        Args:
            name: the election.
            anew: whether all has been well for so long that what was before is forgotten.
        """
        before_s = 0.0 if anew else self._last_s.get(name, 0.0)
        self._last_s[name] = min(max(self._first_s, 2 * before_s), self._longest_s)
        return self._last_s[name]
