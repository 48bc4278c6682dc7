"""An API server that knows Singletons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from incumbent.manifests.render.yaml import dumped
from incumbent.operator.definition import SINGLETONS, definition
from tests.servers import build, crds
from tests.servers.kubernetes import ApiServer
from tests.servers.process import ChildProcess

_CONTROLLERS = ("deployment", "garbage-collector", "replicaset", "statefulset")


@pytest.fixture(scope="session")
def defined(api_server: ApiServer) -> ApiServer:
    """The API server of the whole run, with the definition that is shipped."""
    crds.define(api_server, replace(SINGLETONS, definition=dumped(definition())))
    return api_server


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server of the test's own, with the real controllers that make and collect."""
    with ApiServer(tmp_path / "api-server", audit=True) as server:
        # Later, the garbage collector would hear of it within half a minute.
        crds.define(server, replace(SINGLETONS, definition=dumped(definition())))
        controllers = ChildProcess(
            "kube-controller-manager",
            [
                build.ensure("kube-controller-manager"),
                f"--kubeconfig={server.kubeconfig()}",
                f"--controllers={','.join(f'{name}-controller' for name in _CONTROLLERS)}",
                "--leader-elect=false",
                "--secure-port=0",
            ],
            log_path=tmp_path / "kube-controller-manager.log",
        )
        controllers.spawn()
        try:
            yield server
        finally:
            controllers.kill()
    server.etcd.remove_data()
