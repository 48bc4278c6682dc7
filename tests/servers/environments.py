"""Environments of their own, for libraries that cannot be where the project's tests are.

One is made once per machine and list of versions (`requirements/NAME.txt`), in the folder of the
built servers, and has nothing of ours in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from tests.servers.cache import BuildError, cache_dir, say

__all__ = ["NAMES", "ensure", "requirements"]

NAMES = ("celery",)
"""Those that the tests need."""

_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"


def requirements(name: str) -> Path:
    """Return the file with the exact versions."""
    return _REQUIREMENTS / f"{name}.txt"


def ensure(name: str, folder_name: str = "") -> Path:
    """Return the environment's Python, making the environment first if need be.

    Raises:
        BuildError: it cannot be made; with pip's own words.
    """
    wanted = requirements(name)
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache_dir() / (folder_name or f"environment-{name}") / digest
    python, made = folder / "bin" / "python", folder / "made"
    if made.is_file():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_file():
            say(f"installing what {wanted.name} lists, in an environment of its own")
            _run(name, sys.executable, "-m", "venv", "--clear", str(folder))
            pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            _run(name, str(python), *pip, "-r", str(wanted))
            made.touch()
    return python


def _run(name: str, *command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        text = f"the environment {name!r} cannot be made: {' '.join(command[:3])} failed"
        raise BuildError(f"{text}:\n{done.stderr.strip()}")
