"""How objects and entries are called that are not called as their elections are.

A lock of others has a name of its own (`stores.recipes`), which may have to be translated into one
that Kubernetes takes.

Of each it must be known which election it is, for a list of the whole namespace has those that were
never asked for by name. So a name from whose translation there is no way back is refused, and no
two elections can come to have one lock.
"""

from __future__ import annotations

from collections.abc import Callable

from incumbent.errors import ConfigError
from incumbent.stores.recipes import LockName

__all__ = ["Names"]

_PLACE = "{name}"


class Names:
    """How the objects of elections are called.

    Args:
        text: the lock, as `lock=` gives it.
        plain: translates text, piece by piece, into what may stand in an object's name.
        check: returns a whole name as it is used.
    """

    def __init__(
        self,
        text: str = _PLACE,
        plain: Callable[[str], str] = str,
        check: Callable[[str], str] = str,
    ) -> None:
        self._lock = LockName(text)
        self._plain, self._check = plain, check
        self._only = ""
        self._several = _PLACE in text
        before, _, after = text.partition(_PLACE)
        self._before, self._after = plain(before), plain(after)

    def object_of(self, name: str) -> str:
        """Return how the object of an election is called.

        Raises:
            ConfigError: it cannot be called as it would have to be, or is another election's.
        """
        called = self._check(self._lock.of(name))
        if not self._several:
            self._only = name
        elif self.election_of(called) != name:
            raise ConfigError(
                f"election {name!r} would have the object {called!r}, which is that of another "
                "name as well: call it otherwise, without dots, or give its lock by lock="
            )
        return called

    def election_of(self, called: str) -> str:
        """Return the election whose object is called like this, or "" if it is none."""
        if not self._several:
            return self._only if self._only and called == self.object_of(self._only) else ""
        name = called.removeprefix(self._before).removesuffix(self._after)
        return name if name and self._before + name + self._after == called else ""
