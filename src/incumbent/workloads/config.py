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

import tomllib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from incumbent.core.records import check_name
from incumbent.errors import ConfigError

__all__ = ["ELECTION", "Section", "load", "read"]

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
        value = self._values.pop(key, None)
        wrong = isinstance(value, bool) and bool not in types
        if value is not None and (wrong or not isinstance(value, types)):
            raise ConfigError(f"{self.where}: {key} = {value!r} must be {_IN_WORDS[types[0]]}")
        return value

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
        try:
            found: Any = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"{self.where}: call = {call!r}: {error}") from error
        if not callable(found):
            raise ConfigError(f"{self.where}: {call!r} is no function")
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
            raise ConfigError(f"{self.where}: nobody knows {left}: take it out, or spell it right")


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
    sections: list[Section] = []
    for key, value in data.items():
        if key in ELECTION:
            common[key] = value
        elif key not in kinds:
            known = ", ".join(f"[[{kind}]]" for kind in kinds)
            raise ConfigError(f"{where}: nobody knows {key!r}: there are {known}")
        elif not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise ConfigError(f"{where}: write [[{key}]], with two brackets, above each {key}")
    for kind in kinds:
        for number, values in enumerate(data.get(kind, ()), 1):
            text = f"{where}: [[{kind}]] {values.get('name', number)}"
            sections.append(Section(kind, text, {**common, **values}))
    if not sections:
        raise ConfigError(f"{where} describes no work: add a section, such as [[{kinds[0]}]]")
    return sections
