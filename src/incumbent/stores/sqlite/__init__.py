"""The embedded default: an SQLite file that several processes of one host share.

URL: `sqlite:///absolute/path/to/file.db` (no options). No server, no dependency.

`tables`  the records and the swaps, as SQL; no thread, no event loop
`store`   the tables as a store of `stores.local`, and the bell that wakes its standbys
`machine` what of this the simulator replaces
"""

from __future__ import annotations

import os
from pathlib import Path

from incumbent.errors import ConfigError
from incumbent.stores.api import StoreURL
from incumbent.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "open"]


def open(url: StoreURL) -> SqliteStore:
    """Return the store of `sqlite:///PATH`.

    Raises:
        ConfigError: the URL does not name an absolute path, or it is a folder's.
    """
    url.take_options()
    if url.host or not url.path.startswith("/") or url.path.endswith("/") or "\0" in url.path:
        raise ConfigError(
            "sqlite:// needs the absolute path of a file, after three slashes: "
            "sqlite:///var/lib/app/incumbent.db"
        )
    if os.path.isdir(url.path):
        raise ConfigError(
            f"{url.path} is a folder, and sqlite:// needs a file: name one in it, as in "
            f"sqlite://{url.path}/incumbent.db"
        )
    # The real path: the files beside the database must be the same ones for everybody.
    return SqliteStore(Path(os.path.realpath(url.path)), named=url.path)
