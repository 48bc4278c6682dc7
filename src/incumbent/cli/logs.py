"""The library's log, where a command runs it: its warnings become lines of the command's own.

Without this, logging's last resort writes them bare to standard error: in the middle of JSON lines,
and a second time what a candidate's observer has been told already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TextIO

__all__ = ["Loud", "show_log"]


def show_log(write: Callable[[str], None], *, observed: bool = False) -> None:
    """Give each warning of the library to `write`, unless all of its log is shown anyway (-vv).

    Args:
        write: takes one text, in any thread.
        observed: an observer hears what happens to the candidate, which is not repeated.
    """
    loud = logging.getLogger().handlers
    if not loud:
        logging.getLogger("incumbent").addHandler(_Handler(write, observed))
    for handler in loud:
        if observed and isinstance(handler, Loud):
            handler.addFilter(_unobserved)


class Loud(logging.StreamHandler[TextIO]):
    """Shows all of the log on the standard error."""


def _unobserved(record: logging.LogRecord) -> bool:
    """Tell whether no observer was told the same."""
    return not getattr(record, "observed", False)


class _Handler(logging.Handler):
    def __init__(self, write: Callable[[str], None], observed: bool) -> None:
        super().__init__(logging.WARNING)
        self._write = write
        if observed:
            self.addFilter(_unobserved)

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))
