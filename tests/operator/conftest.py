"""An API server that knows Singletons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from incumbent.manifests.render.yaml import dumped
from incumbent.operator.definition import SINGLETONS, definition
from tests.servers import crds
from tests.servers.kubernetes import ApiServer


@pytest.fixture(scope="session")
def defined(api_server: ApiServer) -> ApiServer:
    """The API server of the whole run, with the definition that is shipped."""
    crds.define(api_server, replace(SINGLETONS, definition=dumped(definition())))
    return api_server
