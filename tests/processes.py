"""What the kernel tells of processes and their families, to whoever looks at them from outside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Before a command: it becomes the first process of a PID namespace, as in a container."""


ORDINARY = (
    ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""Before a command: it may read and write only what its user may, also if that is root."""


def stat(pid: int, index: int) -> str:
    """Return a field of /proc/PID/stat, counted from the state, or "" if there is no such process.

    The state follows the name, which may have anything in it.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[index]


def parent_of(pid: int) -> int:
    """Return the id of the parent, or 0."""
    return int(stat(pid, 1) or 0)


def families() -> dict[int, list[int]]:
    """Return the children of every process, zombies included.

    Read process by process: the list of children that /proc has of each may leave some out while
    others are ending.
    """
    found: dict[int, list[int]] = {}
    for pid in sorted(map(int, filter(str.isdecimal, os.listdir("/proc")))):
        found.setdefault(parent_of(pid), []).append(pid)
    return found


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    return families().get(pid, [])


def descendants(pid: int) -> list[int]:
    """Return children, their children, and so on; each after its parent."""
    by_parent = families()
    found = [pid]
    for one in found:
        found += by_parent.get(one, [])
    return found[1:]


def namespaces_permitted() -> bool:
    """Tell whether a container can be played here."""
    try:
        done = subprocess.run([*CONTAINER, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0
