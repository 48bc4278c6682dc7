"""Plain files in a folder that several processes of one host share.

    file:///absolute/path/of/a/folder
    file:///absolute/path/of/a/folder?recipe=flock&lock=FILE    the lock of `flock FILE COMMAND`

No server, no dependency, no database: every record can be read by `cat` and `jq`, on any local disk
that renames atomically.

`records` the records and the swaps, as files; no thread, no event loop
`locking` one at a time
`wire`    what stands in them
`checkpoints`  how far the work has come: a file each
`store`   the records as a store of `stores.local`, whose standbys wake when a file is renamed
`recipe`  the lock of util-linux, and our record beside it
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlencode

from incumbent.errors import ConfigError
from incumbent.stores.api import ON_ONE_HOST, Capabilities, Grade, Store, StoreURL
from incumbent.stores.beside import LockStore
from incumbent.stores.file.recipe import FileLocks
from incumbent.stores.file.store import CAPABILITIES, FileStore
from incumbent.stores.recipes import recipe_of

__all__ = ["FileStore", "open", "set_ups"]

FLOCK = Capabilities(
    scheme=CAPABILITIES.scheme,
    sessions=False,
    token=True,
    judged_by="kernel",
    confirmed_by="a rename under a kernel lock, by whoever holds the lock of the file",
    wakes_by="inotify on the file and its folder; a look every 1 s",
    evidence=CAPABILITIES.evidence,
    absent_is_vacant=True,
    whole_seconds=False,
    one_host=True,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes=(
        "one host, a local file system, and all that works under a term keeps the descriptor that "
        "it inherits, and does not unlock it"
    ),
    survives=ON_ONE_HOST,
    one_process=False,
    unseen_ttls=0.0,
    takeover_trips=2,
    bars=False,
    checkpoints=False,
    renews=True,
    queue=False,
    label_names=False,
    reads=True,
    partner="util-linux flock",
    partner_breaks=(
        "a command works on without the lock when `flock -o` is killed, or after `flock -u` on an "
        "inherited descriptor; a file that is removed and made anew can be locked beside us, until "
        "our next renewal is refused. Fence"
    ),
)
RECIPES = {"flock": FLOCK}


def set_ups() -> dict[str, Capabilities]:
    """Return what is declared where an option makes it another store, by that option."""
    return {f"recipe={recipe}": declared for recipe, declared in RECIPES.items()}


def open(url: StoreURL) -> Store:
    """Return the store of `file:///PATH`.

    Raises:
        ConfigError: the URL does not name a folder by an absolute path.
    """
    options = url.take_options("recipe", "lock")
    recipe = recipe_of(url.scheme, options, RECIPES)
    path = os.path.realpath(url.path) if url.path.startswith("/") and "\0" not in url.path else "/"
    if url.host or path == "/":
        raise ConfigError(
            "file:// needs the absolute path of a folder of its own, after three slashes: "
            "file:///var/lib/app/locks"
        )
    # The real path: the folder must be the same one for everybody.
    if recipe:
        if "/" in options.get("lock", ""):
            raise ConfigError(
                "file://: lock= names a file in the folder of the URL, without slashes"
            )
        shown = f"file://{path}?{urlencode(options)}"
        return LockStore(
            FileLocks(Path(path)), shown, RECIPES[recipe], options.get("lock", "{name}")
        )
    return FileStore(Path(path), named=url.path)
