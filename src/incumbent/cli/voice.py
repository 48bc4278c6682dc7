"""What `incumbent run` says on the standard error: lines for people, or JSON lines for programs.

The standard output is the command's. A reader of ours that goes away must not end the command, so
an error of writing is nobody's.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from incumbent.cli import codes

__all__ = ["Voice"]


class Voice:
    """One line for each event; may be used in any thread.

    Args:
        election: its name.
        json: for programs.
        verbosity: less than 0 for nothing but errors, more for details, too.
    """

    def __init__(self, election: str, *, json: bool = False, verbosity: int = 0) -> None:
        self._election = election
        self._json = json
        self._verbosity = verbosity

    def say(self, event: str, text: str, identity: str = "", token: int | None = None) -> None:
        """Say what happened."""
        if self._verbosity >= 0:
            self._write(event, text, identity, token)

    def detail(self, event: str, text: str) -> None:
        """Say what only those who asked for more want to know."""
        if self._verbosity > 0:
            self._write(event, text)

    def error(self, error: object) -> None:
        """Say what went wrong, to everybody."""
        if self._json:
            self._write("error", str(error))
        else:
            with suppress(OSError):
                codes.complain(error)

    def _write(self, event: str, text: str, identity: str = "", token: int | None = None) -> None:
        if self._json:
            import json

            values = {
                "event": event,
                "election": self._election,
                "identity": identity or None,
                "token": token,
                "text": text,
            }
            line = json.dumps(values, ensure_ascii=False)
        else:
            line = f"incumbent: {text}"
        with suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
