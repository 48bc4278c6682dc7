"""The checkpoints of the store of plain files: one file each.

    PATH/checkpoints/ELECTION/PART.checkpoint
    PATH/checkpoints/ELECTION/.new              what is being written

A file is one line of JSON, {"bytes": N, "format": 1, "token": N, "version": TEXT}, and after it the
value as it is: `tail -n +2` prints that.

1. **One writes at a time**: whoever compares and swaps has locked the folder of that election's
   checkpoints, and not that of the elections. So no renewal waits for a checkpoint.
2. **Synced, then renamed, then synced.** What was confirmed outlives a power cut, and what it
   replaced does until then.
3. **A version is drawn by chance**, 64 bits of it, and belongs to the one write that drew it. No
   counter is asked, so it matters to no election whether anybody keeps checkpoints, and a file that
   was removed and written anew has another version.
4. **A folder that was moved away by hand** while it was written to is noticed afterwards: then it
   is unknown what happened.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from incumbent.core.records import FORMAT, Checkpoint
from incumbent.errors import CheckpointMoved, OutcomeUnknown, StoreUnusable
from incumbent.stores.api import MAX_CHECKPOINT_BYTES
from incumbent.stores.file.locking import FOLDER, alone

__all__ = ["CHECKPOINTS", "FileCheckpoints"]

CHECKPOINTS = "checkpoints"
END = ".checkpoint"
BUSY_S = 1.0
LONGEST_BYTES = MAX_CHECKPOINT_BYTES + 4096
"""The value, and room for the line before it."""
_NEW = ".new"
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = FOLDER | os.O_NOFOLLOW


class FileCheckpoints:
    """The checkpoints below one folder.

    Args:
        root: the descriptor of the store's folder.
        path: that folder, for messages.
        mapped: a context that makes of the kernel's errors ours: nothing was changed.
        make: makes a folder, in the folder of a descriptor, with the rights of the store's.
        give_rights: gives a new file those of the store's folder.
    """

    def __init__(
        self,
        root: int,
        path: Path,
        mapped: Callable[[], AbstractContextManager[None]],
        make: Callable[[str, int], None],
        give_rights: Callable[[int], None],
    ) -> None:
        self._root = root
        self._path = path
        self._mapped = mapped
        self._make = make
        self._give_rights = give_rights

    def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint.

        Raises:
            StoreUnusable: its file is none of ours.
        """
        with self._mapped():
            try:
                with self._opened(name) as folder:
                    return _load(folder, name, part)
            except FileNotFoundError:
                return Checkpoint(name, part)

    def listed(self, name: str) -> list[Checkpoint]:
        """Return all of an election, by part."""
        with self._mapped():
            try:
                with self._opened(name) as folder:
                    files = [file for file in os.listdir(folder) if file.endswith(END)]
                    found = [_load(folder, name, file.removesuffix(END)) for file in files]
            except FileNotFoundError:
                return []
        return sorted((at for at in found if at.version is not None), key=lambda at: at.part)

    def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`.

        Raises:
            CheckpointMoved: it is not `over` any more.
            OutcomeUnknown: it was renamed into its place, and could not be synced.
        """
        with self._mapped():
            return self._advanced(over, value, token)

    def _advanced(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        self._make_folders(over.name)
        with self._opened(over.name) as folder:
            with alone(folder, self._path, BUSY_S):
                now = _load(folder, over.name, over.part)
                if now.version != over.version:
                    raise CheckpointMoved(now)
                written = Checkpoint(over.name, over.part, value, token, os.urandom(8).hex())
                self._stage(folder, written)
                file = over.part + END
                os.rename(_NEW, file, src_dir_fd=folder, dst_dir_fd=folder)
            try:
                os.fsync(folder)
                with self._opened(over.name) as named:
                    same = os.path.samestat(os.fstat(named), os.fstat(folder))
            except OSError as error:
                raise OutcomeUnknown(f"the checkpoint {over.part!r}: {error.strerror}") from error
        if not same:
            raise OutcomeUnknown(f"{CHECKPOINTS}/{over.name} was moved away in the middle")
        return written

    def _make_folders(self, name: str) -> None:
        """Make what is not there yet; what is made is on the disk when anything in it is."""
        try:
            with self._opened(name):
                return
        except FileNotFoundError:
            self._make(CHECKPOINTS, self._root)
        parent = os.open(CHECKPOINTS, _FOLDER, dir_fd=self._root)
        try:
            self._make(name, parent)
            os.fsync(parent)
            os.fsync(self._root)
        finally:
            os.close(parent)

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        folder = os.open(f"{CHECKPOINTS}/{name}", _FOLDER, dir_fd=self._root)
        try:
            yield folder
        finally:
            os.close(folder)

    def _stage(self, folder: int, at: Checkpoint) -> None:
        head = {
            "bytes": len(at.value),
            "format": FORMAT,
            "token": at.token,
            "version": at.version,
        }
        text = json.dumps(head, sort_keys=True).encode() + b"\n" + at.value
        fd = os.open(_NEW, _WRITING, 0o600, dir_fd=folder)
        try:
            self._give_rights(fd)
            if os.write(fd, text) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.unlink(_NEW, dir_fd=folder)
            raise
        finally:
            os.close(fd)


def _load(folder: int, name: str, part: str) -> Checkpoint:
    try:
        fd = os.open(part + END, _READING, dir_fd=folder)
    except FileNotFoundError:
        return Checkpoint(name, part)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _strange(name, part) from None
        raise
    try:
        text = os.read(fd, LONGEST_BYTES + 1)
    except IsADirectoryError:
        raise _strange(name, part) from None
    finally:
        os.close(fd)
    line, _, value = text.partition(b"\n")
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        raise _strange(name, part) from None
    sound = (
        isinstance(head, dict)
        and head.get("format") == FORMAT
        and head.get("bytes") == len(value)
        and type(head.get("token")) is int
        and isinstance(head.get("version"), str)
    )
    if not sound:
        raise _strange(name, part)
    return Checkpoint(name, part, value, head["token"], head["version"])


def _strange(name: str, part: str) -> StoreUnusable:
    return StoreUnusable(
        f"{CHECKPOINTS}/{name}/{part}{END} is none that a candidate has written: put it right, or "
        "remove it and the work starts afresh"
    )
