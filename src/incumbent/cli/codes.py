"""Exit codes, and the one line that is said about an error; in one place for all commands.

No traceback for what a user can mend: whatever is an `IncumbentError` has a message that says what
to change. Anything else is a bug of ours and is shown as one.

This module imports nothing but the errors, so that the entry point can use it before click.
"""

from __future__ import annotations

import os
import sys

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
    "NOPERM",
    "NOT_SO",
    "OK",
    "TEMPFAIL",
    "UNAVAILABLE",
    "USAGE",
    "broken_pipe",
    "code_of",
    "complain",
]

OK = 0
NOT_SO = 1
"""The thing asked for is not so, or a promise was broken."""
USAGE = 2
"""Usage or configuration; the message says what to change."""
UNAVAILABLE = 69
"""EX_UNAVAILABLE: the store cannot be reached, is not there, or cannot be used as it is."""
TEMPFAIL = 75
"""EX_TEMPFAIL: not elected."""
NOPERM = 77
"""EX_NOPERM: the store knows us and forbids it."""
INTERRUPTED = 130
PIPE = 141
"""What a shell shows for a program that wrote to somebody who had stopped reading."""

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
    print(f"incumbent: error: {line}", file=sys.stderr)


def broken_pipe() -> int:
    """End quietly: whoever read our output has gone. Return the exit code."""
    # What is still buffered would complain again when the interpreter closes the stream.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE
