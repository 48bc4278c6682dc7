"""A namespace with a singleton in it, on the API server of the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.consent.world import World
from tests.servers.kubernetes import ApiServer


@pytest.fixture
def world(api_server: ApiServer, namespace: str) -> Iterator[World]:
    made = World(api_server, namespace)
    yield made
    made.close()
