"""Which files the project consists of."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

from tests.style.checks import Source

ROOT = Path(__file__).resolve().parents[2]

_NOT_OURS = {"build", "dist", "node_modules", "__pycache__"}


def paths(root: Path = ROOT) -> list[PurePosixPath]:
    """Return every file that git knows or would add; without git, every file outside of caches."""
    if (root / ".git").exists():
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        found = {PurePosixPath(name) for name in listing.split("\0") if name}
    else:
        every = (path.relative_to(root) for path in root.rglob("*"))
        found = {PurePosixPath(path) for path in every if not _is_cache(path)}
    return sorted(path for path in found if (root / path).is_file())


def sources(root: Path = ROOT) -> list[Source]:
    """Return the files that are text; pictures and other binary files are left out."""
    texts = []
    for path in paths(root):
        content = (root / path).read_bytes()
        if b"\0" not in content:
            texts.append(Source(path, content.decode("utf-8")))
    return texts


def _is_cache(path: Path) -> bool:
    return any(
        part in _NOT_OURS or (part.startswith(".") and part.endswith(("_cache", "venv", "thesis")))
        for part in path.parts
    )
