"""Exit codes, and the one line that is said about an error; in one place for all commands.

No traceback for what a user can mend: whatever is an `IncumbentError` has a message that says what
to change. Anything else is a bug of ours and is shown as one.

This module imports nothing but the errors, so that the entry point can use it before click.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from errno import EDQUOT, EFBIG, EIO, ENOSPC

from incumbent.errors import (
    ConfigError,
    ForeignRecord,
    IncumbentError,
    NotElected,
    PermissionDenied,
    Refused,
    StoreError,
    UnsupportedPlatform,
)

__all__ = [
    "INTERRUPTED",
    "IOERR",
    "NOPERM",
    "NOT_SO",
    "OK",
    "TEMPFAIL",
    "UNAVAILABLE",
    "USAGE",
    "broken_pipe",
    "code_of",
    "complain",
    "output_failed",
]

OK = 0
NOT_SO = 1
"""The thing asked for is not so, or a promise was broken."""
USAGE = 2
"""Usage or configuration; the message says what to change."""
UNAVAILABLE = 69
"""EX_UNAVAILABLE: the store cannot be reached, is not there, or cannot be used as it is."""
IOERR = 74
"""EX_IOERR: the output cannot be written."""
TEMPFAIL = 75
"""EX_TEMPFAIL: not elected."""
NOPERM = 77
"""EX_NOPERM: the store knows us and forbids it."""
INTERRUPTED = 130
PIPE = 141
"""What a shell shows for a program that wrote to somebody who had stopped reading."""

_NO_ROOM = (ENOSPC, EDQUOT, EFBIG, EIO)

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (PermissionDenied, NOPERM),
    (Refused, NOT_SO),
    (ForeignRecord, NOT_SO),
    (StoreError, UNAVAILABLE),
    (NotElected, TEMPFAIL),
    (ConfigError, USAGE),
    (UnsupportedPlatform, USAGE),
    (IncumbentError, NOT_SO),
    (KeyboardInterrupt, INTERRUPTED),
    (BrokenPipeError, PIPE),
)


def code_of(error: BaseException) -> int:
    """Return the exit code for `error`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), NOT_SO)


def complain(text: object) -> None:
    """Write the one line about an error."""
    line = " ".join(str(text).split())
    with suppress(OSError):  # The disk that it goes to may be full; the exit code says it, too.
        print(f"incumbent: error: {line}", file=sys.stderr)


def output_failed(error: OSError) -> int | None:
    """Return the exit code if `error` is that the output has no room, else None.

    Whatever else fails in the system is an error of ours by then, with a text of its own. An error
    about a file names the file, and one of writing to an open descriptor has no name to give.
    """
    if error.errno not in _NO_ROOM or error.filename is not None:
        return None
    complain(f"the output cannot be written: {os.strerror(error.errno)}")
    _drop_output()
    return IOERR


def broken_pipe() -> int:
    """End quietly: whoever read our output has gone. Return the exit code."""
    _drop_output()
    return PIPE


def _drop_output() -> None:
    # What is still buffered would complain again when the interpreter closes the stream.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
