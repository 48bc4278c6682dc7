"""The library's log, where a command runs it: its warnings become lines of the command's own.

Without this, logging's last resort writes them bare to standard error: in the middle of JSON lines,
and a second time what a candidate's observer has been told already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["show_log"]


def show_log(write: Callable[[str], None], *, observed: bool = False) -> None:
    """Give each warning of the library to `write`, unless all of its log is shown anyway (-vv).

    Args:
        write: takes one text, in any thread.
        observed: an observer hears what happens to the candidate, which is not repeated.
    """
    if not logging.getLogger().handlers:
        logging.getLogger("incumbent").addHandler(_Handler(write, observed))


class _Handler(logging.Handler):
    def __init__(self, write: Callable[[str], None], observed: bool) -> None:
        super().__init__(logging.WARNING)
        self._write = write
        self._observed = observed

    def emit(self, record: logging.LogRecord) -> None:
        told = self._observed and record.name == "incumbent" and record.levelno < logging.ERROR
        if not told:
            self._write(self.format(record))
