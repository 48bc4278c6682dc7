"""Programs in processes of their own that talk line by line, and marks that prove who worked when.

A program is a few lines of Python. It says a word by `say(...)`, which is a line on its standard
output; it hears one by `hear()`, which is a line on its standard input. Nothing here waits without
a limit, and every process that was started is ended.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import incumbent

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(incumbent.__file__).parents[1]
LIMIT_S = float(os.environ.get("LIMIT_OF_TESTS_S", "30"))
MARK_BYTES = 64
MARK_EVERY_S = 0.002

PREAMBLE = """
import asyncio, os, signal, sys, threading, time
import incumbent
from incumbent import Election, LeadershipLost, NotElected, aio
from tests.faces import works
from tests.faces.programs import Mark

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

def hear():
    return sys.stdin.readline().strip()

"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of this process, without the settings of a machine on which somebody uses incumbent."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INCUMBENT_")}
    return {**kept, "PYTHONPATH": f"{SOURCES}{os.pathsep}{ROOT}", **(extra or {})}


class Program:
    """A process that was started, with what it says."""

    def __init__(self, argv: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(extra),
        )
        self.pid = self.process.pid
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: queue.Queue[str | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=_pump, args=(self.process.stdout, self._lines)),
            threading.Thread(target=_pump, args=(self.process.stderr, self._errors)),
        ]
        for thread in self._threads:
            thread.start()

    def line(self, limit_s: float = LIMIT_S) -> str:
        """Return the next line of the standard output."""
        line = self._next(self._lines, limit_s)
        assert line is not None, f"it ended without a line: {self.errors()}"
        return line

    def expect(self, wanted: str, limit_s: float = LIMIT_S) -> str:
        """Return the next line, which must begin with `wanted`."""
        line = self.line(limit_s)
        assert line.startswith(wanted), f"{line!r} and not {wanted!r}"
        return line

    def silent(self) -> bool:
        """Tell whether nothing is waiting to be read."""
        return self._lines.empty()

    def error(self, wanted: str) -> str:
        """Return the next line of the standard error that has `wanted` in it."""
        while (line := self._next(self._errors, LIMIT_S)) is not None:
            if wanted in line:
                return line
        raise AssertionError(f"it ended without {wanted!r} on stderr")

    def errors(self) -> str:
        """Return the rest of the standard error, which ends when the process does."""
        found = []
        while (line := self._next(self._errors, LIMIT_S)) is not None:
            found.append(line)
        return "\n".join(found)

    def tell(self, word: str = "") -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        return self.process.wait(limit_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(LIMIT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def _next(self, lines: queue.Queue[str | None], limit_s: float) -> str | None:
        try:
            line = lines.get(timeout=limit_s)
        except queue.Empty:
            raise AssertionError(f"process {self.pid} said nothing for {limit_s} s") from None
        if line is None:
            lines.put(None)
        return line


def _pump(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def python(source: str, *arguments: str) -> list[str]:
    """Return the command line of a few lines of Python."""
    code = PREAMBLE + textwrap.dedent(source)
    return [sys.executable, "-W", "ignore", "-c", code, *arguments]


Start = Callable[..., Program]


def starting() -> Iterator[Start]:
    """Yield what starts a few lines of Python, once; after that, all of them are ended."""
    started: list[Program] = []

    def start(source: str, *arguments: str, **extra: str) -> Program:
        started.append(Program(python(source, *arguments), extra))
        return started[-1]

    yield start
    for program in started:
        program.close()


def until(holds: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for something that gives no sign when it happens."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.005)  # sleep: what is waited for has no event


def pidfd_ended(pidfd: int, limit_s: float = LIMIT_S) -> bool:
    """Tell whether a process has ended, waiting for it."""
    return bool(select.select([pidfd], [], [], limit_s)[0])


def is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


class Mark:
    """Appends marks `token pid instant` to a file: its order is the order of the effects.

    A mark has 64 bytes, which divide a page: a write that SIGKILL interrupts is never half of one.
    """

    def __init__(self, path: str, token: int | None) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._token = token or 0

    def __call__(self) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.write(self._fd, b"%020d %020d %021d\n" % (self._token, os.getpid(), now_ns))


def marks(path: Path) -> list[tuple[int, int, float]]:
    """Return the marks of a file as (token, pid, instant)."""
    if not path.exists():
        return []
    found = []
    text = path.read_text()
    for at in range(0, len(text) - MARK_BYTES + 1, MARK_BYTES):
        token, pid, now_ns = text[at : at + MARK_BYTES].split()
        found.append((int(token), int(pid), int(now_ns) / 1e9))
    return found


def assert_no_overlap(path: Path) -> list[int]:
    """Every term's marks come after all marks of earlier terms; return the terms' tokens."""
    tokens: list[int] = []
    for token, pid, _ in marks(path):
        if not tokens or token != tokens[-1]:
            assert not tokens or token > tokens[-1], f"pid {pid} worked under {token}: {tokens}"
            tokens.append(token)
    return tokens
