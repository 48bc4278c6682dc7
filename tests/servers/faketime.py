"""Wall clocks that a test may set, of one process each: libfaketime, which is preloaded.

Durations stay what they are (`FAKETIME_DONT_FAKE_MONOTONIC`): it is wall clocks that people set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.servers.process import ServerError

__all__ = ["Clock", "ahead_by"]

_COMMON = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def ahead_by(seconds: float) -> Mapping[str, str]:
    """Return the environment of a process whose clock is ahead from its start."""
    return {**_COMMON, "LD_PRELOAD": str(_library("libfaketimeMT.so.1")), "FAKETIME": _as(seconds)}


class Clock:
    """The clock of a process that may be set while it runs.

    Args:
        path: of a file that says how far it is ahead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set_ahead(0)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process has to be started with.

        An allocator that asks for the time when it begins (jemalloc, in Redis) would wait for
        libfaketime, which needs memory to begin with. So memory is libc's, which is preloaded, too.
        """
        library = _library("libfaketime.so.1")
        return {
            **_COMMON,
            "LD_PRELOAD": f"{library} {library.parents[1] / 'libc.so.6'}",
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
        }

    def set_ahead(self, seconds: float) -> None:
        """Set the clock so far ahead of the right time."""
        text = self._path.with_suffix(".new")
        text.write_text(f"{_as(seconds)}\n", encoding="ascii")
        text.replace(self._path)


def _as(seconds: float) -> str:
    return f"{seconds:+g}s"


def _library(name: str) -> Path:
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{name}"))
    if not found:
        raise ServerError("there is no libfaketime: see APT_PACKAGES in the Makefile")
    return found[0]
