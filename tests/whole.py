"""The whole of the tests; what failed among the others is tried once more, alone.

`python -m tests.whole [ARGUMENTS OF PYTEST]` is what `make test` does. Thousands of tests start
real servers and processes, several at a time, and now and then a machine stands still for longer
than a lease. So up to three failures are tried again with nothing beside them. What fails then too
has failed. What passes then cannot stand a load, and is to be mended: both runs are printed, and it
is named between them.

More than three are no coincidence, and neither is a run that could not be collected.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

_FAILED = Path(".pytest_cache/v/cache/lastfailed")
_MOST = 3
_TESTS_FAILED = 1


def main(arguments: list[str]) -> int:
    """Run them, and return pytest's exit code."""
    _FAILED.unlink(missing_ok=True)
    code = _pytest(*arguments)
    if code != _TESTS_FAILED or not _FAILED.exists():
        return code
    failed = sorted(json.loads(_FAILED.read_text(encoding="utf-8")))
    if not 0 < len(failed) <= _MOST:
        return code
    print("== pytest: failed among the others, and tried again alone:", *failed, sep="\n   ")
    sys.stdout.flush()
    return _pytest("--numprocesses", "0", *failed)


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
