"""A process under test that says line after line what it has come to."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path
from typing import Self

import incumbent

SOURCES = str(Path(incumbent.__file__).parents[1])
LIMIT_S = 20.0


class Speaking:
    """A process, killed at the end of the test if it still lives."""

    def __init__(self, *argv: str) -> None:
        self.heard = b""
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=LIMIT_S)

    def says(self) -> str:
        """Return the next line."""
        assert self.process.stdout is not None
        while b"\n" not in self.heard:
            ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
            assert ready, "no line in time"
            data = os.read(self.process.stdout.fileno(), 4096)
            assert data, "it ended without a line"
            self.heard += data
        line, self.heard = self.heard.split(b"\n", 1)
        return line.decode()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its status, and the rest of what it said on both streams."""
        out, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out.decode(), err.decode()
