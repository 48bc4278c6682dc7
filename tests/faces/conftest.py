from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from incumbent.stores.memory import MemoryStore
from incumbent.testing import memory_store
from tests.faces.programs import Start, starting


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/store/incumbent.db"


@pytest.fixture
def memory() -> MemoryStore:
    return memory_store()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a few lines of Python; its arguments are in `sys.argv`."""
    yield from starting()
