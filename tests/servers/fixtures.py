"""The real servers as pytest fixtures.

To be loaded by `pytest_plugins = ["tests.servers.fixtures"]` in `tests/conftest.py`. The servers
that the collected tests need are built before the first test, in the open: within a fixture a cold
build would count against the time limit of some test, and its progress would be captured, and
minutes of silence look like a hang. A server that cannot be built ends the run; no test is skipped
for it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import build
from tests.servers.clientgo import ClientGoCandidate
from tests.servers.kubernetes import ApiServer, certify
from tests.servers.proxy import Proxy

_API_SERVER_TARGETS = ("etcd", "kube-apiserver")

_TARGETS_OF_FIXTURES = {
    "api_server": _API_SERVER_TARGETS,
    "own_api_server": _API_SERVER_TARGETS,
    "certified_api_server": (*_API_SERVER_TARGETS, "certificates"),
    "clientgo_candidate": ("clientgo-candidate",),
}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the fixtures of the collected tests will start."""
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    targets = {
        target
        for fixture, targets in _TARGETS_OF_FIXTURES.items()
        if fixture in used
        for target in targets
    }
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled():
        try:
            for target in sorted(targets):
                build.ensure(target)
        except build.BuildError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.INTERNAL_ERROR)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server of the whole run, with an audit log; tests keep apart by `namespace`.

    It is shared, so a test must not pause or kill it: `own_api_server` is there for that.
    """
    with ApiServer(tmp_path_factory.mktemp("api-server"), audit=True) as server:
        yield server
    server.etcd.remove_data()


@pytest.fixture
def own_api_server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server of the test's own, to do anything to; costs a few seconds."""
    with ApiServer(tmp_path / "api-server") as server:
        yield server
    server.etcd.remove_data()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with `ca.crt`, and with `NAME.crt` and `NAME.key` of an administrator and nobody."""
    return certify(tmp_path / "client-certificates", "chief:system:masters", "stranger")


@pytest.fixture
def certified_api_server(tmp_path: Path, certificates: Path) -> Iterator[ApiServer]:
    """An API server of the test's own that knows the clients of `certificates`."""
    trust = f"--client-ca-file={certificates / 'ca.crt'}"
    with ApiServer(tmp_path / "api-server", arguments=[trust]) as server:
        yield server
    server.etcd.remove_data()


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace of the test's own on the shared API server."""
    name = f"test-{secrets.token_hex(4)}"
    api_server.create_namespace(name)
    return name


@pytest.fixture
def api_proxy(api_server: ApiServer) -> Iterator[Proxy]:
    """A network of the test's own to the shared API server, at `https://{api_proxy.address}`."""
    with Proxy(api_server.host, api_server.port) as proxy:
        yield proxy


@pytest.fixture
def clientgo_candidate(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., ClientGoCandidate]]:
    """Make client-go candidates by name and identity; all are killed with the test."""
    candidates: list[ClientGoCandidate] = []

    def make(name: str, identity: str, **options: Any) -> ClientGoCandidate:
        options.setdefault("kubeconfig", api_server.kubeconfig())
        options.setdefault("namespace", namespace)
        candidate = ClientGoCandidate(tmp_path, name=name, identity=identity, **options)
        candidates.append(candidate)
        candidate.start()
        return candidate

    yield make
    for candidate in candidates:
        candidate.kill()
