"""What the work of these applications writes to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A database with one table, in which each run is a row."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE done (kind TEXT, tick TEXT, token INTEGER, pid INTEGER)")
    return path
