from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incumbent.stores import open_store
from tests.cli.processes import Process, command

Start = Callable[..., Process]


@pytest.fixture
def new_url(tmp_path: Path) -> str:
    """A store that nobody has created yet."""
    return f"sqlite://{tmp_path}/store/incumbent.db"


@pytest.fixture
def url(new_url: str) -> str:
    """A store that is there, without elections."""
    create(new_url)
    return new_url


def create(url: str) -> None:
    """Create the store `url`, as the first candidate does."""

    async def main() -> None:
        store = open_store(url)
        await store.open()
        await store.close()

    asyncio.run(main())


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `incumbent ...` without waiting for its end."""
    started: list[Process] = []

    def starting(*arguments: str) -> Process:
        started.append(Process(command(*arguments)))
        return started[-1]

    yield starting
    for process in started:
        process.close()


@pytest.fixture
def candidate(url: str) -> Iterator[Start]:
    """Start a candidate for the election "bill"."""
    started: list[Process] = []

    def starting(as_: str, ttl_s: float = 2.0, how: str = "good") -> Process:
        argv = [sys.executable, "-m", "tests.cli.candidate", "bill", url, as_, str(ttl_s), how]
        started.append(Process(argv))
        return started[-1]

    yield starting
    for process in started:
        process.close()
