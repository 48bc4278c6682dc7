"""Whether a path lies on a file system on which kernel locks mean something: a local one.

Over a network file system `flock` may be local to each client, SQLite's log does not work at all,
and inotify is silent about what other hosts do: every replica could lead. So it is refused.

Whether a file can be reached by another name, beside which others would put files of their own.

And what an error of a local one means to us.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from incumbent.errors import (
    PermissionDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)

__all__ = ["kind", "other_name", "refusal", "store_error"]

_NETWORK = (
    "9p acfs afs beegfs ceph cifs coda fhgfs gfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 "
    "orangefs prl_fs pvfs2 smb3 smbfs vboxsf virtiofs wekafs"
)
_ESCAPE = re.compile(r"\\([0-7]{3})")
"""How the kernel writes space, tab, newline and backslash; all else it leaves as it is."""
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs"})


def kind(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system that `path` lies on; "" if it cannot be told."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    device = os.stat(existing).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    real = os.path.realpath(existing)
    best, best_length = "", -1
    for mounted, point, type_ in _mounts(mountinfo):
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and (mounted == wanted or len(point) > best_length):
            best, best_length = type_, len(point)
    return best


def other_name(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Return why the file `path` may be reached by another name than this one, or "".

    For a database whose log lies beside it: whoever opens it under the other name has another log,
    sees nothing of what stands in this one, and is given the same tokens. A hard link is such a
    name; a mount of the file alone, without its folder, is one (`docker run -v FILE:FILE`).
    """
    try:
        links = os.stat(path).st_nlink
    except OSError:
        return ""  # There is none yet; or whoever opens it is told what is the matter.
    if links > 1:
        return (
            f"{path} has {links} names (`find -samefile` lists them), and who uses another one "
            "would elect another leader: remove the other hard links"
        )
    if any(point == str(path) for _, point, _ in _mounts(mountinfo)):
        return (
            f"{path} is mounted alone, without its folder, in which its log and locks must lie: "
            "each who mounts it would elect a leader of its own. Mount the folder"
        )
    return ""


def _mounts(mountinfo: Path) -> Iterator[tuple[str, str, str]]:
    """Yield device, mount point and type of each mount; nothing if they cannot be read."""
    try:
        lines = os.fsdecode(mountinfo.read_bytes()).split("\n")
    except OSError:
        return
    for line in filter(None, lines):
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        point = _ESCAPE.sub(lambda escape: chr(int(escape[1], 8)), fields[4])
        yield fields[2], point, after.split()[0]


def refusal(path: Path, type_: str) -> str:
    """Return why a file system of this type is refused, or ""."""
    network = type_ in _NETWORK.split() or (type_.startswith("fuse") and type_ not in _LOCAL_FUSE)
    if not network:
        return ""
    return (
        f"{path} lies on {type_}, a network file system: its locks do not reach across hosts, so "
        "several could lead. Use a local disk, or a store that is made for several hosts"
    )


def store_error(path: Path, error: OSError) -> StoreError:
    """Return what `error` means where nothing was changed, for messages about `path`."""
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return PermissionDenied(f"no right to write {path} and its folder: {error.strerror}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no room for {path}: free space on its disk; nothing was changed")
    if isinstance(error, FileExistsError | NotADirectoryError):
        for folder in path.parents:
            if folder.exists() and not folder.is_dir():
                return StoreUnusable(
                    f"{path}: {folder} is a file, and would have to be a folder: name another path"
                )
    return StoreUnavailable(f"{path}: {error.strerror}")
