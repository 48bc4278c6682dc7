"""What every mode needs that speaks another library's format: which format, and which lock.

    SCHEME://…?recipe=FORMAT            the lock is called as the election is
    SCHEME://…?recipe=FORMAT&lock=TEXT  the lock is called TEXT; `{name}` in it stands for the
                                        election's name

Locks that exist have names with upper case letters, underscores and slashes, and elections have
not. A TEXT without `{name}` names one lock, so one election only: two that shared it would shut
each other out.
"""

from __future__ import annotations

from collections.abc import Iterable

from incumbent.errors import ConfigError

__all__ = ["LockName", "recipe_of"]

_PLACE = "{name}"


class LockName:
    """How the lock of an election is called in the other library's world."""

    def __init__(self, text: str = _PLACE) -> None:
        if not text:
            raise ConfigError("lock= is empty: give the lock's name, or {name} within it")
        self._text = text
        self._only = ""

    def of(self, name: str) -> str:
        """Return the name of the lock.

        Raises:
            ConfigError: the lock belongs to another election of this store.
        """
        if _PLACE in self._text:
            return self._text.replace(_PLACE, name)
        self._only = self._only or name
        if name != self._only:
            raise ConfigError(
                f"lock={self._text} is one lock, and election {self._only!r} has it: for "
                f"{name!r} as well, write {{name}} in it, as in lock={self._text}-{{name}}"
            )
        return self._text


def recipe_of(scheme: str, options: dict[str, str], known: Iterable[str]) -> str:
    """Return the option `recipe`, or "" for our own format.

    Raises:
        ConfigError: it is none of `known`, or a lock is named without one.
    """
    recipe, names = options.get("recipe", ""), sorted(known)
    if recipe and recipe not in names:
        raise ConfigError(
            f"{scheme}://: there is no recipe={recipe!r}; it knows: {', '.join(names)}"
        )
    if "lock" in options and not recipe:
        raise ConfigError(
            f"{scheme}://: lock= names the lock of another library: say which, by recipe=; "
            f"it knows: {', '.join(names)}"
        )
    return recipe
