"""Checks of single fields: each refuses a value by one error that names the field and the way out.

They take whatever a file may hold, so a number that is quoted, or a list where a word belongs, is
refused here and not by a traceback below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from incumbent.errors import ConfigError

__all__ = [
    "absolute",
    "boolean",
    "image",
    "integer",
    "known",
    "label",
    "line",
    "quantity",
    "refuse",
    "seconds",
    "subdomain",
    "variables",
    "words",
]

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:m|[kMGTPE]i?|Ki)?")
_IMAGE = re.compile(
    r"(?P<name>(?:[a-z0-9][-._a-z0-9]*(?::[0-9]+)?/)?[a-z0-9][-._a-z0-9]*(?:/[a-z0-9][-._a-z0-9]*)*)"
    r"(?::(?P<tag>\w[-.\w]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def refuse(field: str, value: object, wanted: str) -> ConfigError:
    """Return the error of a field."""
    return ConfigError(f"{field}: {value!r} {wanted}")


def label(field: str, value: object, *, longest: int = 63) -> str:
    """Return a name as Services and Pods have it: it becomes a part of a DNS name."""
    if not isinstance(value, str) or len(value) > longest or not _LABEL.fullmatch(value):
        raise refuse(
            field,
            value,
            f"is no name for it: use 1 to {longest} of a-z, 0-9 and '-', with a letter in front "
            "and no '-' at the end",
        )
    return value


def subdomain(field: str, value: object) -> str:
    """Return the name of an object that may have dots in it."""
    if not isinstance(value, str) or len(value) > 200 or not _SUBDOMAIN.fullmatch(value):
        raise refuse(
            field,
            value,
            "is no name of an object: use 1 to 200 of a-z, 0-9, '-' and '.', with a letter or "
            "digit at both ends",
        )
    return value


def image(field: str, value: object) -> str:
    """Return an image that is always the same one: with a tag that is not `latest`, or a digest."""
    found = _IMAGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refuse(field, value, "is no reference of an image, as in 'registry.example/app:1.2'")
    if found["digest"] is None and found["tag"] in (None, "latest"):
        raise refuse(
            field,
            value,
            "is whatever was pushed last, so that two replicas may run different code: add a "
            "version (:1.2) or a digest",
        )
    return found[0]


def integer(field: str, value: object, least: int, most: int) -> int:
    """Return a whole number within bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise refuse(field, value, f"must be a whole number from {least} to {most}")
    return value


def boolean(field: str, value: object) -> bool:
    """Return yes or no."""
    if not isinstance(value, bool):
        raise refuse(field, value, "must be true or false")
    return value


def seconds(field: str, value: object) -> float:
    """Return a finite number of seconds, which may be a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(field, value, "must be a number of seconds")
    if not math.isfinite(value) or value < 0:
        raise refuse(field, value, "must be a number of seconds, 0 or more")
    return float(value)


def quantity(field: str, value: object) -> str:
    """Return an amount as Kubernetes writes it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = str(value) if number else value  # YAML's own `0.5`, and not `'0.5'`, is meant as well.
    if not isinstance(text, str) or not _QUANTITY.fullmatch(text) or not re.search("[1-9]", text):
        raise refuse(field, value, "is no amount greater than 0, such as '250m', '1' or '512Mi'")
    return text


def line(field: str, value: object) -> str:
    """Return text that stands on one line, or is empty."""
    if not isinstance(value, str) or not value.isprintable():
        raise refuse(field, value, "must be text of one line")
    return value


def words(field: str, value: object) -> tuple[str, ...]:
    """Return a list of arguments."""
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise refuse(field, value, "must be a list of words, as in ['python', 'poll.py']")
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise refuse(field, word, "is no text: put it into quotes")
    return tuple(value)


def variables(field: str, value: object) -> dict[str, str]:
    """Return environment variables."""
    if not isinstance(value, Mapping):
        raise refuse(field, value, "must map names of variables to text")
    for name, text in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise refuse(field, name, "is no name of a variable: use letters, digits and '_'")
        if not isinstance(text, str) or "\0" in text:
            raise refuse(f"{field}.{name}", text, "is no text: put it into quotes")
    return dict(value)


def absolute(field: str, value: object) -> str:
    """Return the path of a folder in the container."""
    if not isinstance(value, str) or not value.isprintable() or not value.startswith("/"):
        raise refuse(field, value, "must be an absolute path, as in '/data'")
    if ":" in value or ".." in value.split("/") or not value.strip("/"):
        raise refuse(field, value, "must be a folder below '/', without ':' and '..'")
    return value


def known(field: str, value: object, choices: Collection[str]) -> str:
    """Return one of several words."""
    if not isinstance(value, str) or value not in choices:
        raise refuse(field, value, f"must be one of {', '.join(choices)}")
    return value
