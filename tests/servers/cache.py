"""The folder in which built programs are kept, one finished build per name and key.

A build appears under its final name by a rename, so a reader never sees half of one; a lock file
per name makes a second builder wait for the first and then use its result. The key is a version, or
a hash of the sources, so several checkouts and several versions share the folder undisturbed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

_PROGRESS_INTERVAL_S = 15.0


class BuildError(RuntimeError):
    """A program could not be built; the message says which, why, and what to do."""


def cache_dir() -> Path:
    """The folder that all checkouts of this user share."""
    own = os.environ.get("INCUMBENT_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    general = os.environ.get("XDG_CACHE_HOME")
    return (Path(general) if general else Path.home() / ".cache") / "incumbent-servers"


def place(name: str, key: str) -> Path:
    """Where the finished build of `name` with this key is, or will be."""
    return cache_dir() / name / f"{key}-{sys.platform}-{platform.machine()}"


def once(path: Path, name: str, make: Callable[[Path], None]) -> None:
    """Call `make(path)`, unless another builder has made `path`, or makes it meanwhile."""
    if path.exists():
        return
    folder = cache_dir() / name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock", f"another build of {name}"):
        if not path.exists():
            make(path)


def hash_of(paths: Iterable[Path]) -> str:
    """Return a key for what these files contain and how they are called."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def run(
    command: Sequence[str], label: str, folder: Path, environment: dict[str, str] | None = None
) -> None:
    """Run a command of a build in `folder`, and say every now and then that it still runs.

    Raises:
        BuildError: it failed; with all that it said.
    """
    started_s = time.monotonic()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            status = _wait_with_progress(child, label, started_s)
        except BaseException:
            child.terminate()
            child.wait()
            raise
        if status != 0:
            log.seek(0)
            output = log.read().decode("utf-8", errors="replace")
            raise BuildError(f"{label} failed with status {status}:\n{output.strip()}")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def say(message: str) -> None:
    print(f"[servers] {message}", file=sys.stderr, flush=True)


def _wait_with_progress(child: subprocess.Popen[bytes], label: str, started_s: float) -> int:
    while True:
        try:
            return child.wait(timeout=_PROGRESS_INTERVAL_S)
        except subprocess.TimeoutExpired:
            say(f"{label}: {duration(time.monotonic() - started_s)} so far")


@contextlib.contextmanager
def _locked(path: Path, awaited: str) -> Iterator[None]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {awaited}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
