"""The `incumbent` command. It imports nothing heavy: `run` must start fast and stay small.

What runs commands may find itself as PID 1 of a container, and then must become the child of a
small init before anything else happens in the process; see `runtime.contain`.
"""

from __future__ import annotations

import os
import sys

from incumbent.errors import IncumbentError, MissingExtra

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # Options may stand before the command; elsewhere a small init does no harm.
    if not {"run", "every", "work"}.isdisjoint(arguments):
        from incumbent.runtime.contain import leave_pid1

        leave_pid1()
    if "run" in arguments:
        from incumbent.cli import slim

        if slim.needs_no_tls(arguments[1:], os.environ):
            slim.forgo_tls()
    if arguments[:1] == ["probe"]:  # It has to be quick, and needs nothing.
        from incumbent.cli import probe

        return probe.main(arguments[1:])
    try:
        try:
            import click  # noqa: F401  asked for here, to say what to install
        except ModuleNotFoundError:
            raise MissingExtra(
                "the command line needs click and rich: pip install 'incumbent[cli]'"
            ) from None
        from incumbent.cli import app

        return app.main(arguments)
    except IncumbentError as error:
        print(f"incumbent: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
