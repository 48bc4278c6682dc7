"""What the tests of work share: a store in this process, and a queue in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from incumbent import testing
from incumbent.stores.memory import MemoryStore
from tests.servers.postgresql import Postgres
from tests.workloads.queues import Queue


@pytest.fixture
def memory() -> MemoryStore:
    return testing.memory_store()


@pytest.fixture
def queue(postgres: Postgres) -> Iterator[Queue]:
    made = Queue(postgres)
    yield made
    made.drop()
