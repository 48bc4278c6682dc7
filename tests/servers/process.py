"""Processes that the tests start, torment and always take down again.

Every call returns when its effect is there: `start` when the server answers, `pause` when the
kernel has stopped every thread, `kill` when the process is gone. Signals go only to a child that
has not been waited for, so never to a process id that was reused.

No server may outlive the tests, even when the test process is killed. The kernel promises that
(PR_SET_PDEATHSIG), with two conditions that shape this module. The signal is sent when the
*thread* that forked ends, not the process, so all children are forked by one thread that lives as
long as the process. And it has to be set in the child: `preexec_fn` would run Python between fork
and exec in a threaded process, which can deadlock, so a shim sets it and then becomes the server,
under the same process id.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Self

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

_POLL_INTERVAL_S = 0.02
_LOG_TAIL_BYTES = 4_000

_SHIM = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
if os.getppid() != int(sys.argv[1]):
    raise SystemExit("the test process ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerError(RuntimeError):
    """A server did not do what a test needs; the message carries the end of its log."""


class ChildProcess:
    """One child process at a time, restartable with the same command; output goes to a log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        working_dir: Path | None = None,
        capture_output: bool = False,
    ) -> None:
        """`environment` is added to ours. With `capture_output` only standard error is logged."""
        self.name = name
        self.command = tuple(os.fspath(word) for word in command)
        self.log_path = log_path
        self._environment = {**os.environ, **(environment or {})}
        self._working_dir = working_dir
        self._capture_output = capture_output
        self._child: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running_child().pid

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._child is not None and self._child.poll() is None

    @property
    def paused(self) -> bool:
        return self._paused and self.running

    @property
    def exit_status(self) -> int | None:
        """The status of the last process, negative for a signal, or None before its end."""
        return None if self._child is None else self._child.poll()

    def spawn(self) -> None:
        """Start the process without waiting for anything that it does."""
        if self.running:
            raise ServerError(f"{self.name} is already running")
        self._paused = False
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            output = subprocess.PIPE if self._capture_output else log
            processors = os.sched_getaffinity(0)

            def fork() -> subprocess.Popen[bytes]:
                os.sched_setaffinity(0, processors)  # Of this thread, and of what it forks.
                return subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=log,
                    env=self._environment,
                    cwd=self._working_dir,
                    process_group=0,
                )

            self._child = _spawner().run(fork)

    def wait(self, timeout_s: float) -> int:
        """Wait for the process to end by itself and returns its status."""
        child = self._child
        if child is None:
            raise ServerError(f"{self.name} was never started")
        try:
            return child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServerError(
                f"{self.name} (pid {child.pid}) still runs after {timeout_s} s\n{self.log_tail()}"
            ) from None

    def terminate(self) -> None:
        """Send SIGTERM, which a paused process only sees once it is resumed."""
        self._running_child().send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the process in order; one that does not end in time is killed and reported."""
        if not self.running:
            return
        self.terminate()
        if self._paused:
            # Nobody waits to see it go on: it may have ended of the SIGTERM before anyone looks.
            self._running_child_or_ended().send_signal(signal.SIGCONT)
            self._paused = False
        try:
            self.wait(timeout_s)
        except ServerError:
            self.kill()
            raise

    def kill(self) -> None:
        """End the process with SIGKILL, paused or not, and reaps it."""
        child = self._child
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()
        self._paused = False

    def pause(self) -> None:
        """Stop every thread of the process, as a frozen virtual machine or a long swap would."""
        child = self._running_child()
        child.send_signal(signal.SIGSTOP)
        self._await_state(child, os.WSTOPPED)
        self._paused = True

    def resume(self) -> None:
        """Let a paused process go on."""
        child = self._running_child()
        if not self._paused:
            return
        child.send_signal(signal.SIGCONT)
        self._await_state(child, os.WCONTINUED)
        self._paused = False

    def log_tail(self) -> str:
        """The end of the log, for messages."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
                tail = log.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return f"(no log at {self.log_path})"
        return f"--- end of {self.log_path}\n{tail}"

    @property
    def output(self) -> IO[bytes]:
        """The standard output of a process started with `capture_output`."""
        stream = self._running_child_or_ended().stdout
        if stream is None:
            raise ServerError(f"the output of {self.name} goes to {self.log_path}")
        return stream

    def _running_child_or_ended(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise ServerError(f"{self.name} was never started")
        return self._child

    def _running_child(self) -> subprocess.Popen[bytes]:
        child = self._running_child_or_ended()
        if child.poll() is not None:
            raise ServerError(
                f"{self.name} ended with status {child.returncode}\n{self.log_tail()}"
            )
        return child

    def _await_state(self, child: subprocess.Popen[bytes], state: int) -> None:
        result = os.waitid(os.P_PID, child.pid, state | os.WEXITED | os.WNOWAIT)
        if result is None or result.si_code not in {os.CLD_STOPPED, os.CLD_CONTINUED}:
            self._running_child()
            raise ServerError(f"{self.name} neither changed state nor ended")


class ServerProcess(ChildProcess):
    """A server: a child process that counts as started once `ready` says so."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        log_path: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        working_dir: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """`ready` makes one attempt; False and OSError both mean "not yet"."""
        super().__init__(
            name, command, log_path=log_path, environment=environment, working_dir=working_dir
        )
        self._ready = ready
        self._start_timeout_s = start_timeout_s

    def start(self) -> None:
        """Start the server and waits until it is ready."""
        self.spawn()
        self.wait_ready()

    def restart(self) -> None:
        """Stop the server in order, if it runs, and starts it on the same data and ports."""
        self.stop()
        self.start()

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until the running server is ready."""
        limit_s = self._start_timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + limit_s
        while True:
            self._running_child()
            with contextlib.suppress(OSError):
                if self._ready():
                    return
            if time.monotonic() > deadline_s:
                raise ServerError(f"{self.name} not ready after {limit_s} s\n{self.log_tail()}")
            time.sleep(_POLL_INTERVAL_S)  # sleep: readiness can only be polled

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class _Spawner:
    """The one thread that forks, and that ends only with the process."""

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self._jobs: queue.SimpleQueue[
            tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]
        ] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="server-spawner", daemon=True).start()

    def run(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        outcome: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, outcome))
        return outcome.result()

    def _serve(self) -> None:
        while True:
            job, outcome = self._jobs.get()
            try:
                outcome.set_result(job())
            except BaseException as error:
                outcome.set_exception(error)


_spawner_lock = threading.Lock()
_current_spawner: _Spawner | None = None


def _spawner() -> _Spawner:
    global _current_spawner
    with _spawner_lock:
        if _current_spawner is None or _current_spawner.process_id != os.getpid():
            _current_spawner = _Spawner()
        return _current_spawner
