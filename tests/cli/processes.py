"""The command line as users have it, in processes of its own, and candidates for it to look at."""

from __future__ import annotations

import json
import os
import pty
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A clean one: nothing of the machine's own settings, and no colours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("INCUMBENT_", "KUBE"))}
    kept.pop("FORCE_COLOR", None)
    return {**kept, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **(extra or {})}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "incumbent.cli", *arguments]


def run(
    *arguments: str, extra: Mapping[str, str] | None = None, under: Sequence[str] = ()
) -> Result:
    """Run `incumbent` to its end."""
    done = subprocess.run(
        [*under, *command(*arguments)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env=environment(extra),
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def run_python(code: str) -> Result:
    """Run a few lines, for what can only be arranged from inside."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    return Result(done.returncode, done.stdout, done.stderr)


def run_in_terminal(*arguments: str, columns: int = 80, rows: int = 24) -> tuple[int, str]:
    """Run `incumbent` on a terminal of this size; return its exit code and all that it wrote."""
    pid, fd = pty.fork()
    if pid == 0:
        size = {"COLUMNS": str(columns), "LINES": str(rows)}
        os.execve(sys.executable, command(*arguments), environment(size))
    pieces = []
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        pieces.append(data)
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), b"".join(pieces).decode()


class Process:
    """A process whose output is read line by line, each with a time limit."""

    def __init__(self, argv: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(extra),
        )
        self._read_so_far: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        assert self.process.stdout is not None
        self._thread = threading.Thread(target=self._read, args=(self.process.stdout,))
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self) -> str:
        """The next line of the standard output."""
        line = self._lines.get(timeout=LIMIT_S)
        assert line is not None, f"no more after {self._read_so_far}; stderr: {self.errors()}"
        self._read_so_far.append(line)
        return line

    def event(self, *wanted: str) -> dict[str, Any]:
        """The next line of JSON whose `event` is one of `wanted`."""
        while True:
            found: dict[str, Any] = json.loads(self.line())
            if found["event"] in wanted:
                return found

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def wait(self) -> int:
        return self.process.wait(LIMIT_S)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
