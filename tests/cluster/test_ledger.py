"""The ledger: what is written under a token is fenced, and what is not is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import ledger
from tests.cluster.site import HERE, ROOT
from tests.servers.ports import claim_port, release_port
from tests.servers.process import ServerProcess


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("ledger")
    file, port = folder / "ledger.db", claim_port()
    url = f"http://127.0.0.1:{port}"
    server = ServerProcess(
        "ledger",
        [sys.executable, HERE / "ledger.py", file, "127.0.0.1", str(port)],
        log_path=folder / "log",
        ready=lambda: ledger.write(f"{url}/plain/probe", 1) == 204,
        environment={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    with server:
        yield file, url
    release_port(port)


def test_an_older_token_is_refused_once_a_newer_was_seen(served: tuple[Path, str]) -> None:
    file, url = served
    answers = [ledger.write(f"{url}/fenced/reports", token) for token in (5, 5, 7, 5, 7)]
    assert answers == [204, 204, 204, 412, 204]
    lines = ledger.entries(file, "reports")
    assert [line.token for line in lines] == [5, 5, 7, 7]
    assert ledger.stale(lines) == []
    assert [line.token for line in ledger.refusals(file, "reports")] == [5]


def test_without_a_fence_the_older_one_is_written_and_found(served: tuple[Path, str]) -> None:
    file, url = served
    assert [ledger.write(f"{url}/plain/fetcher", token) for token in (5, 7, 5)] == [204, 204, 204]
    lines = ledger.entries(file, "fetcher")
    assert [line.n for line in ledger.stale(lines)] == [lines[-1].n]
