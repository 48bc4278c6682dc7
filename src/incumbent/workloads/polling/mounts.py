"""Whether a file can be moved from one folder to another in one step.

Only within one mount of one file system a rename is a step. Elsewhere it is a copy, in whose middle
there are two files or a half one, and what the claims say of crashes does not hold.

The number of the device does not tell two mounts of one file system apart; so a rename is tried, of
a file that is not there. The kernel asks for the mounts before it looks for the file.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from incumbent.errors import ConfigError

__all__ = ["elsewhere", "refuse_elsewhere"]


def refuse_elsewhere(inbox: Path, *folders: Path) -> None:
    """Refuse folders into which a file of `inbox` cannot be moved; they may be there or not yet.

    Raises:
        ConfigError: the message names the folder.
    """
    for folder in folders:
        there = next(each for each in (folder, *folder.parents) if os.path.exists(each))
        with suppress(OSError):  # What may not be done is said when it is done.
            if os.stat(there).st_dev != os.stat(inbox).st_dev:
                raise elsewhere(folder, inbox)
        absent = uuid4().hex
        try:
            os.rename(inbox / absent, there / absent)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise elsewhere(folder, inbox) from error


def elsewhere(folder: Path | str, inbox: Path) -> ConfigError:
    """Return what to raise of a folder that is no such one."""
    return ConfigError(
        f"{folder} is on another file system or mount than {inbox}, so a file cannot be moved "
        "there in one step: choose a folder beside the files"
    )
