"""What the store asks of the machine beside what every store on its disk does."""

from __future__ import annotations

import os
from pathlib import Path

from incumbent.stores.local import machine
from incumbent.stores.sqlite.tables import Tables

__all__ = ["Machine"]


class Machine(machine.Machine):
    """The real one."""

    def tables(self, path: Path, opener: str, *, create: bool) -> Tables:
        """Open the database."""
        return Tables(path, opener, create=create)

    def ring(self, bell: int) -> None:
        """Write to the bell file, which wakes everybody who watches it."""
        os.pwrite(bell, b"!", 0)
