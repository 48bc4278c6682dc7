"""Work that a file describes: its frame, for all kinds.

    store = "postgresql://app@db/app"     # for all sections that do not say otherwise

    [[periodic]]
    name = "tidy"
    cron = "15 2 * * *"
    command = ["python", "tidy.py"]

Each array of tables is a kind of work, and each table a piece of it. What a kind understands is its
own affair; what nobody has understood is an error, since a misspelt `retries` would be no retries.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from incumbent.core.records import check_name
from incumbent.errors import ConfigError
from incumbent.runtime.face import is_awaited

__all__ = ["ELECTION", "Section", "load", "near", "read"]

T = TypeVar("T")

ELECTION = ("store", "state", "ttl_s", "grace_s", "rho", "as_", "require")
"""What every section takes, and what may stand above all of them."""
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("store", "state", "as_", "require"), (str,)),
    **dict.fromkeys(("ttl_s", "grace_s", "rho"), (int, float)),
}
_IN_WORDS = {
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
}


class Section:
    """One table of the file, from which a kind of work takes what it understands.

    Attributes:
        kind: the name of the array.
        where: how to call it in a message.
    """

    def __init__(self, kind: str, where: str, values: Mapping[str, Any]) -> None:
        self.kind = kind
        self.where = where
        self._values = dict(values)
        self._asked: set[str] = set()

    @property
    def name(self) -> str:
        """Its name, which every section has."""
        name = self._values.get("name")
        if not isinstance(name, str):
            raise ConfigError(f'{self.where} has no name: add name = "…"')
        try:
            return check_name(name)
        except ConfigError as error:
            raise ConfigError(f"{self.where}: {error}") from None

    def take(self, key: str, *types: type) -> Any:
        """Take a value out; None if there is none.

        Raises:
            ConfigError: it is of another type.
        """
        self._asked.add(key)
        value = self._values.pop(key, None)
        wrong = isinstance(value, bool) and bool not in types
        if value is not None and (wrong or not isinstance(value, types)):
            raise ConfigError(f"{self.where}: {key} = {value!r} must be {_IN_WORDS[types[0]]}")
        return value

    def one_of(self, keys: tuple[str, str], how: str) -> tuple[Any, Any]:
        """Take two values out of which one is needed, and no more; lists are lists of texts.

        Args:
            keys: of the two.
            how: an example of both.

        Raises:
            ConfigError: none of them is there, or both.
        """
        self._asked.update(keys)
        found = [key for key in keys if key in self._values]
        if len(found) == 2:
            raise ConfigError(f"{self.where}: {keys[0]} and {keys[1]} are both there: keep one")
        if not found:
            raise ConfigError(f"{self.where}: say {how}{self._misspelt(keys)}")
        return self._values.get(keys[0]), self._values.get(keys[1])

    def take_words(self, key: str) -> list[str] | None:
        """Take a list of texts out; None if there is none.

        Raises:
            ConfigError: it is something else.
        """
        words = self.take(key, list)
        if words is None:
            return None
        if not words or not all(isinstance(word, str) for word in words):
            raise ConfigError(f"{self.where}: {key} must be a list of texts, and not empty")
        return list(words)

    def function(self, call: str) -> Callable[..., Any]:
        """Return what "module:function" names.

        Raises:
            ConfigError: it cannot be imported, or called.
        """
        module, _, attribute = call.partition(":")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
        try:
            found: Any = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self.where}: call = {call!r}: {error}; it is looked for in this folder, and "
                "where PYTHONPATH says"
            ) from error
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"{self.where}: call = {call!r}: {error}") from error
        if not callable(found):
            raise ConfigError(f"{self.where}: {call!r} is no function")
        if is_awaited(found):
            raise ConfigError(
                f"{self.where}: {call!r} is a coroutine function, and work from a file is done in "
                "threads: name a plain one, as `def work(): asyncio.run(main())`"
            )
        return found  # type: ignore[no-any-return]  # whatever it is, it can be called

    def election(self) -> dict[str, Any]:
        """Take out what concerns its election, and nothing that was not said."""
        found = {key: self.take(key, *_TYPES[key]) for key in ELECTION}
        return {key: value for key, value in found.items() if value is not None}

    def done(self) -> None:
        """Say that all was taken that is understood.

        Raises:
            ConfigError: something is left.
        """
        self._values.pop("name", None)
        if self._values:
            left = ", ".join(sorted(self._values))
            meant = self._misspelt(self._asked) or ": take it out, or spell it right"
            raise ConfigError(f"{self.where}: nobody knows {left}{meant}")

    def _misspelt(self, known: Iterable[str]) -> str:
        """Return what may have been meant by keys that nobody knows; "" if nothing comes near."""
        meant = ((key, near(key, known)) for key in sorted(self._values) if key != "name")
        return "".join(f"; is {key} meant to be {found}?" for key, found in meant if found)


def near(key: str, known: Iterable[str]) -> str:
    """Return the known key that `key` may be meant to be, or ""."""
    keys = sorted(known)
    if f"{key}_s" in keys:
        return f"{key}_s"
    return next(iter(get_close_matches(key, keys, 1)), "")


def load(path: Path) -> dict[str, Any]:
    """Return what a file says.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def read(data: Mapping[str, Any], where: str, kinds: tuple[str, ...]) -> list[Section]:
    """Return the sections, each with what stands above all of them.

    Raises:
        ConfigError: there is none, or something that is none of `kinds`.
    """
    common = {}
    found: list[Section] = []
    for key, value in data.items():
        if key in ELECTION:
            common[key] = value
        elif key not in kinds:
            sections = ", ".join(f"[[{kind}]]" for kind in kinds)
            meant = near(key, (*ELECTION, *kinds))
            raise ConfigError(
                f"{where}: nobody knows {key!r}{f'; is {meant} meant?' if meant else ''} There are "
                f"{sections}, and above them {', '.join(ELECTION)}"
            )
        elif not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise ConfigError(f"{where}: write [[{key}]], with two brackets, above each {key}")
    for kind in kinds:
        for number, values in enumerate(data.get(kind, ()), 1):
            text = f"{where}: [[{kind}]] {values.get('name', number)}"
            found.append(Section(kind, text, {**common, **values}))
    if not found:
        raise ConfigError(f"{where} describes no work: add a section, such as [[{kinds[0]}]]")
    return found
