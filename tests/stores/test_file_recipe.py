"""The lock of `flock` as a store: the suite for all stores, and its own rules."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.beside import wire
from incumbent.stores.file.recipe import COUNT, RECORD
from incumbent.testing import conformance

TTL_S = 3.0


class Harness:
    """A folder of its own for each case."""

    ttl_s = TTL_S

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    def file(self, name: str, end: str = "") -> Path:
        return self.folder / f"{name}.lock{end}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(f"file://{self.folder}?recipe=flock&lock={{name}}.lock")
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self.file(name, RECORD).unlink()
        self.file(name).unlink()
        return True

    async def scribble(self, name: str) -> bool:
        self._write(name, {"format": 999})
        return True

    async def disturb(self, name: str) -> bool:
        record = json.loads(self.file(name, RECORD).read_bytes())
        count = self.file(name, COUNT)
        serial, ttl_s = count.read_text().split()
        count.write_text(f"{int(serial) + 1:020d} {ttl_s}\n")
        self._write(name, {**record, "serial": int(serial) + 1, "note": secrets.token_hex(4)})
        return True

    def _write(self, name: str, record: wire.Object) -> None:
        new = self.folder / "written by hand"
        new.write_bytes(wire.encode(record))
        new.rename(self.file(name, RECORD))

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, tmp_path: Path) -> None:
    conformance.run(case, lambda: Harness(tmp_path))
