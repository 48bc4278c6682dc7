"""A decorated function on its way to another process, where its name means the decorated thing.

`pickle` sends a function as the name under which it is found, and refuses if something else is
found there: that is so for what a decorator has replaced. So what replaced it is asked for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from typing import Any, NamedTuple

__all__ = ["named", "resolved"]


class _Name(NamedTuple):
    module: str
    path: str


def named(func: Callable[..., Any]) -> Any:
    """Return what can be pickled in place of `func`: itself, mostly."""
    module = getattr(func, "__module__", None)
    path = getattr(func, "__qualname__", "")
    if module in sys.modules and "<" not in path:
        found = _found(sys.modules[module], path)
        if found is not func and getattr(found, "__wrapped__", None) is func:
            return _Name(module, path)
    return func


def resolved(func: Any) -> Any:
    """Return the function again."""
    if isinstance(func, _Name):
        return _found(import_module(func.module), func.path).__wrapped__
    return func


def _found(module: Any, path: str) -> Any:
    return reduce(lambda at, name: getattr(at, name, None), path.split("."), module)
