"""Replicas in processes of their own, killed, stopped and paused: shares, and no two holders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.redis import Redis
from tests.workloads.fleet import main, play

ELECTIONS = 9


@pytest.mark.slow
def test_on_sqlite(tmp_path: Path) -> None:
    told, report = play(f"sqlite://{tmp_path}/store.db", tmp_path, ELECTIONS)
    assert [line.split()[-1] for line in told[2:5]] == ["0", "4", "3"]
    assert report.verdict(ELECTIONS) == "ok", report.violations
    assert report.takeovers >= 4 + 3 + 3


@pytest.mark.slow
def test_on_redis_as_a_program(redis_server: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([redis_server.url(), "--elections", str(ELECTIONS)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert "overlaps 0, stale 0, mistakes of tokens 0" in lines[-1]
