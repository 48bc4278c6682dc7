"""The libraries that the stores are measured beside, in an environment of their own.

They are never installed where the project's tests are: what works there must work without them. The
environment is made once per machine and list of versions, in the folder of the built servers, and
has nothing of ours in it; a program that runs there may import `benchmarks.programs` and no more.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import ROOT
from tests.servers import build

__all__ = ["REQUIREMENTS", "interpreter", "versions"]

REQUIREMENTS = ROOT / "requirements" / "bench.txt"


def versions() -> dict[str, str]:
    """Return the version of each library, by its name in small letters."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("==") for line in lines if not line.startswith("#"))
    return {name.strip().lower(): version.strip() for name, _, version in pairs}


def interpreter() -> Path:
    """Return the environment's Python, making the environment first if need be.

    Raises:
        BuildError: it cannot be made; with pip's own words.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = build.cache_dir() / "neighbours" / digest
    python, made = folder / "bin" / "python", folder / "made"
    if made.is_file():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_file():
            print("[bench] installing the neighbours' libraries", file=sys.stderr, flush=True)
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            _run(str(python), *pip, "-r", str(REQUIREMENTS))
            made.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        text = f"the neighbours' environment cannot be made: {' '.join(command[:3])} failed"
        raise build.BuildError(f"{text}:\n{done.stderr.strip()}")
