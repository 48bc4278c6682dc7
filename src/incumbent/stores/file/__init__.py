"""Plain files in a folder that several processes of one host share.

URL: `file:///absolute/path/of/a/folder` (no options). No server, no dependency, no database: every
record can be read by `cat` and `jq`, on any local disk that renames atomically.

`records` the records and the swaps, as files; no thread, no event loop
`wire`    what stands in them
`store`   the records as a store of `stores.local`, whose standbys wake when a file is renamed
"""

from __future__ import annotations

import os
from pathlib import Path

from incumbent.errors import ConfigError
from incumbent.stores.api import StoreURL
from incumbent.stores.file.store import FileStore

__all__ = ["FileStore", "open"]


def open(url: StoreURL) -> FileStore:
    """Return the store of `file:///PATH`.

    Raises:
        ConfigError: the URL does not name a folder by an absolute path.
    """
    url.take_options()
    path = os.path.realpath(url.path) if url.path.startswith("/") and "\0" not in url.path else "/"
    if url.host or path == "/":
        raise ConfigError(
            "file:// needs the absolute path of a folder of its own, after three slashes: "
            "file:///var/lib/app/locks"
        )
    # The real path: the folder must be the same one for everybody.
    return FileStore(Path(path), named=url.path)
