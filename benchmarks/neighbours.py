"""The libraries that the stores are measured beside, in an environment of their own.

They are never installed where the project's tests are: what works there must work without them. The
environment is made once per machine and list of versions, in the folder of the built servers, and
has nothing of ours in it; a program that runs there may import `benchmarks.programs` and no more.
"""

from __future__ import annotations

from pathlib import Path

from tests.servers import environments

__all__ = ["REQUIREMENTS", "interpreter", "versions"]

REQUIREMENTS = environments.requirements("bench")


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
    return environments.ensure("bench", "neighbours")
