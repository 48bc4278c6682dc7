"""Errors of timing in the words in which the settings were given here: options and variables.

`core.timing` speaks of `ttl_s=10`, which is how a program gives it. Whoever has typed `--ttl 10`,
or has INCUMBENT_TTL=10 in the environment, should read that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from incumbent.errors import ImpossibleTiming

__all__ = ["in_options"]

_WORDS = {
    "ttl_s": ("--ttl", "INCUMBENT_TTL"),
    "grace_s": ("--grace", "INCUMBENT_GRACE"),
    "rho": ("--rho", "INCUMBENT_RHO"),
}


@contextmanager
def in_options(**given: float | None) -> Iterator[None]:
    """Reword what is raised inside; `given` are the options, None where the environment counts.

    Raises:
        ImpossibleTiming: in our words.
    """
    try:
        yield
    except ImpossibleTiming as error:
        text = re.sub(r"\b(ttl_s|grace_s|rho)\b(=?)", lambda m: _word(m, given), str(error))
        raise ImpossibleTiming(text) from None


def _word(match: re.Match[str], given: Mapping[str, float | None]) -> str:
    option, variable = _WORDS[match[1]]
    if given.get(match[1]) is None and os.environ.get(variable):
        return variable + match[2]
    return option + (" " if match[2] else "")
