"""The guards on the API server of the run, for the modules that knock at them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.manifests.scene import Client
from tests.manifests.world import Shell, World, guarded
from tests.servers.kubernetes import ApiServer


@pytest.fixture(scope="module")
def client(api_server: ApiServer) -> Iterator[Client]:
    """One connection for the thousand requests of a module."""
    with contextlib.closing(Client(api_server)) as client:
        yield client


@pytest.fixture(scope="module")
def world(api_server: ApiServer, client: Client) -> Iterator[World]:
    """The guards, and a namespace for each."""
    with guarded(api_server, client) as world:
        yield world


@pytest.fixture(scope="session")
def shell(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """An administrator's `kubectl`."""
    return Shell(api_server, tmp_path_factory.mktemp("kubectl"))
