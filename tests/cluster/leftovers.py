"""What a run leaves behind when it is killed, and how the next one takes it away.

Nearly everything goes by itself. Every process of a cluster is a descendant of the run, bound to it
by the kernel (PR_SET_PDEATHSIG, and PID namespaces that end with their first process); networks,
mounts and packet filters are in namespaces that no file holds open, and go with the last process in
them. Two things remain: a folder below the temporary one, and control groups. Both are named after
the run, `incumbent-cluster-PID-START`, where START is the instant at which the kernel started that
process: so whether the run still lives can be told, and a process that has got its number later is
never taken for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.processes import stat

__all__ = ["hierarchies", "make_groups", "name_of_run", "reap", "remove_groups", "state_folder"]

CONTROL_GROUPS = Path("/sys/fs/cgroup")

_PREFIX = "incumbent-cluster"
_NAME = re.compile(rf"{_PREFIX}-(\d+)-(\d+)")
_STARTED = 19
_LIMIT_S = 10.0
_POLL_S = 0.05
_COPIED = ("cpuset.cpus", "cpuset.mems")


def name_of_run() -> str:
    """Return the name of what belongs to this process."""
    return f"{_PREFIX}-{os.getpid()}-{stat(os.getpid(), _STARTED)}"


def state_folder() -> Path:
    """Make the folder of this run."""
    folder = Path(tempfile.gettempdir()) / name_of_run()
    folder.mkdir(mode=0o755)
    return folder


def reap() -> list[Path]:
    """Remove what runs that are over have left, and return that."""
    found = [*Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*")]
    found += [path for hierarchy in _everywhere() for path in hierarchy.glob(f"{_PREFIX}-*")]
    stale = [path for path in found if _is_over(path.name)]
    for path in stale:
        if path.is_relative_to(CONTROL_GROUPS):
            _remove_group(path)
        else:
            shutil.rmtree(path)
    return stale


def hierarchies() -> list[Path]:
    """Return where the control groups (version 1) are; none where there is only version 2."""
    return sorted(_mounted("cgroup"))


def make_groups(name: str) -> None:
    """Make a control group in every hierarchy, with what a cpuset must be told first."""
    for hierarchy in hierarchies():
        path = hierarchy
        for part in Path(name).parts:
            parent, path = path, path / part
            path.mkdir(exist_ok=True)
            for file in _COPIED:
                if (parent / file).exists():
                    (path / file).write_text((parent / file).read_text())


def remove_groups(name: str) -> None:
    """Remove a control group and those below it, once all that was in them has ended."""
    for hierarchy in _everywhere():
        _remove_group(hierarchy / name)


def _everywhere() -> list[Path]:
    """runc makes a group in the hierarchy of version 2 as well, where that is beside the others."""
    return [*hierarchies(), *_mounted("cgroup2")]


def _mounted(kind: str) -> set[Path]:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return {Path(words[1]) for words in mounts if words[2] == kind}


def _remove_group(path: Path) -> None:
    for group in _from_below(path):
        deadline_s = time.monotonic() + _LIMIT_S
        while True:
            try:
                group.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(_POLL_S)  # sleep: the kernel does not say when a group has become empty


def _from_below(path: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for entry in path.iterdir():
            if entry.is_dir():
                yield from _from_below(entry)
    yield path


def _is_over(name: str) -> bool:
    found = _NAME.fullmatch(name)
    return found is not None and stat(int(found[1]), _STARTED) != found[2]
