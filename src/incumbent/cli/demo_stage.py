"""The demo's processes, its inbox, and what can be seen of them while it runs.

Everything here is observation and staging. The workers know nothing of it: they have their folder,
their store, and signals that befall them. The verdict does not use it either.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from incumbent.cli.demo_log import Fault, Line, Span, parse, spans
from incumbent.cli.demo_worker import job_path, log_path
from incumbent.clock import boottime
from incumbent.errors import IncumbentError

__all__ = ["Replica", "Stage"]

JOB_EVERY_S = 0.1
LOOK_EVERY_S = 0.02
STOP_S = 3.0

Say = Callable[[str, str], None]


class Replica:
    """One of the three places, and the process that is in it now.

    Attributes:
        name: "a", "b" or "c".
        state: "starting", "standby", "active", "stopping", "paused" or "dead".
        how: for a dead one, how it died.
        identity: this incarnation's, as the store knows it.
        token: of the term that it has or had last.
        exited_at_s: when it was noticed that its process had ended; its status is kept unreaped.
    """

    def __init__(self, name: str, notify: Callable[[], None]) -> None:
        self.name = name
        self.state = "starting"
        self.how = ""
        self.identity = ""
        self.token: int | None = None
        self.exited_at_s: float | None = None
        self.errors = b""
        self._notify = notify
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._buffer = b""

    @property
    def label(self) -> str:
        """The name for people."""
        return self.name.upper()

    @property
    def pid(self) -> int:
        """The process, or 0."""
        return self._process.pid if self._process is not None else 0

    def start(self, folder: Path, ttl_s: float) -> None:
        """Start a process in this place."""
        self.reap()
        command = [sys.executable, "-m", "incumbent.cli.demo_worker"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("INCUMBENT_")}
        self._process = subprocess.Popen(
            [*command, self.name, str(folder), str(ttl_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.state, self.how, self.identity = "starting", "", ""
        self.token = self.exited_at_s = None
        self._buffer = self.errors = b""
        loop = asyncio.get_running_loop()
        for stream, heard in self._streams():
            os.set_blocking(stream, False)
            loop.add_reader(stream, self._hear, stream, heard)
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(self._pidfd, self._exited)

    def _streams(self) -> list[tuple[int, Callable[[bytes], None]]]:
        process = self._process
        if process is None or process.stdout is None or process.stderr is None:
            return []
        return [
            (process.stdout.fileno(), self._heard),
            (process.stderr.fileno(), self._complained),
        ]

    def _hear(self, stream: int, heard: Callable[[bytes], None]) -> None:
        try:
            data = os.read(stream, 65536)
        except BlockingIOError:
            return
        if data:
            heard(data)
            self._notify()
        else:
            asyncio.get_running_loop().remove_reader(stream)

    def _heard(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            self.identity = event["identity"] or self.identity
            if self.state == "dead":
                continue
            match event["event"]:
                case "elected":
                    self.state, self.token = "active", event["token"]
                case "stopping":
                    self.state = "stopping"
                case "standby":
                    self.state = "standby"

    def _complained(self, data: bytes) -> None:
        self.errors = (self.errors + data)[-4000:]

    def _exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.exited_at_s = boottime()
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        status = found.si_status if found is not None else 0
        killed = found is not None and found.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
        self.how = signal.Signals(status).name if killed else f"exit {status}"
        self.state = "dead"
        self._notify()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. Before it is reaped a dead process keeps its pid: no other is hit."""
        if self._process is not None:
            os.kill(self._process.pid, number)
        if number is signal.SIGSTOP:
            self.state = "paused"
        self._notify()

    def reap(self) -> None:
        """End the process if it lives, and forget it."""
        process, self._process = self._process, None
        if process is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                loop.remove_reader(stream.fileno())
                stream.close()


class Stage:
    """Three replicas, an inbox that fills, and the log as far as it was read.

    Attributes:
        folder: everything is in here.
        started_s: the boot-time clock when it began.
        dropped: number of the last job in the inbox.
        faults: what was done to the replicas.
    """

    def __init__(self, folder: Path, ttl_s: float) -> None:
        self.folder = folder
        self.ttl_s = ttl_s
        self.started_s = boottime()
        self.dropped = 0
        self.faults: list[Fault] = []
        self.replicas = [Replica(name, self._wake) for name in "abc"]
        self.lines: list[Line] = []
        self._changed = asyncio.Event()
        self._offset = 0
        self._rest = ""
        self._log = log_path(folder)
        self._log.touch()
        (folder / "inbox").mkdir()

    @property
    def elapsed_s(self) -> float:
        """How long it has been going on."""
        return boottime() - self.started_s

    @property
    def terms(self) -> list[Span]:
        """The terms in the log up to now."""
        return spans(self.lines)

    @property
    def done(self) -> int:
        """How many different jobs were done."""
        return len({line.job for line in self.lines if line.job})

    @property
    def active(self) -> Replica | None:
        """The replica that wrote the last line, if it says that it is active, or was paused."""
        if self.lines:
            for replica in self.replicas:
                if replica.pid == self.lines[-1].pid and replica.state in ("active", "paused"):
                    return replica
        return None

    def replica(self, name: str) -> Replica:
        """Return one by its name."""
        return next(replica for replica in self.replicas if replica.name == name)

    def start(self, replica: Replica) -> None:
        """Start a replica's process."""
        replica.start(self.folder, self.ttl_s)
        self._wake()

    def fault(self, kind: str, replica: Replica) -> Fault:
        """Note that something is about to be done to a replica."""
        fault = Fault(kind, boottime(), replica.name)
        self.faults.append(fault)
        return fault

    async def fill(self) -> None:
        """Drop jobs into the inbox at a fixed rate, for ever."""
        due_s = boottime()
        while True:
            number = self.dropped + 1
            path = job_path(self.folder, number)
            draft = path.with_suffix(".tmp")
            draft.write_text(str(number))
            draft.rename(path)
            self.dropped = number
            due_s += JOB_EVERY_S
            await asyncio.sleep(max(0.0, due_s - boottime()))

    async def read_log(self) -> None:
        """Read what the workers append, for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Read what the workers have appended since."""
        with self._log.open() as file:
            file.seek(self._offset)
            text = file.read()
        if not text:
            return
        self._offset += len(text.encode())
        *rows, last = (self._rest + text).split("\n")
        if last.endswith("}"):
            rows, last = [*rows, last], ""
        self._rest = last
        lines, _ = parse("\n".join(rows))
        self.lines += lines
        self._wake()

    def _wake(self) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], object], limit_s: float, what: str) -> None:
        """Wait until `holds()`.

        Raises:
            IncumbentError: it did not in time.
        """
        try:
            async with asyncio.timeout(limit_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            text = f"{what} within {limit_s:g} s. {self.last_words()}"
            raise IncumbentError(text.strip()) from None

    def last_words(self) -> str:
        """Return the last line that each dead replica wrote about its error."""
        return "; ".join(
            f"{replica.label}: {replica.errors.decode(errors='replace').strip().splitlines()[-1]}"
            for replica in self.replicas
            if replica.errors.strip() and replica.state == "dead"
        )

    async def stop(self) -> None:
        """End every process: ask the living to leave, and kill what is left."""
        living = [replica for replica in self.replicas if replica.pid and replica.state != "dead"]
        for replica in living:
            replica.signal(signal.SIGTERM)
        try:
            gone = lambda: all(replica.state == "dead" for replica in living)  # noqa: E731
            await self.until(gone, STOP_S, "replicas did not leave")
        except IncumbentError:
            pass  # They are killed now; what they wrote is judged as it is.
        finally:
            for replica in self.replicas:
                replica.reap()
