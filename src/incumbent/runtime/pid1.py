"""PID 1 of a container, and how a program gets out of being it.

Rules
-----
* `leave_pid1` is called before anything heavy is imported: what is loaded by then stays in the
  memory of PID 1 for good. So this module imports next to nothing, nor anything of incumbent.

Theory
------
PID 1 of a PID namespace gets no signal from inside for which it has no handler, is the parent of
every orphan, and above all ignores the SIGKILL of its own timers, so a dead-man is void in it. One
fork cures all three: the parent stays and does what a PID 1 is for, the child lives as an ordinary
process. When PID 1 exits, the kernel ends everything that is left in the container.

Warnings
--------
* All signals are blocked before the fork, so that none falls between the two processes. A blocked
  signal is kept even for PID 1, which drops those that it neither blocks nor handles.
* What the terminal's driver sends it sends to the whole foreground group, the child included. It is
  told from the rest by its code, SI_KERNEL, and not sent a second time.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal

__all__ = ["leave_pid1"]

_FORWARDED = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT")
_SI_KERNEL = 128


def leave_pid1() -> bool:
    """If this process is PID 1, go on as the child of a minimal init; returns whether it was.

    To be called first thing, before threads and heavy imports exist. PID 1 of a container gets no
    signal that it has no handler for, is expected to reap strangers, and above all ignores the
    dead-man's SIGKILL. So it forks: the parent stays as PID 1, reaps, forwards TERM, INT, HUP,
    QUIT, USR1, USR2, WINCH and CONT, and exits with the child's code (128 + n after signal n),
    upon which the kernel ends everything in the container. The child returns from here.

    Raises OSError if it cannot fork.
    """
    if not sys.platform.startswith("linux") or os.getpid() != 1:
        return False
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    child = os.fork()
    if child == 0:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        return True
    forwarded = {getattr(_signal, f"SIG{name}") for name in _FORWARDED}
    awaited = forwarded | {_signal.SIGCHLD}
    while True:
        info = _signal.sigwaitinfo(awaited)
        if info.si_signo != _signal.SIGCHLD:
            # What the terminal's driver sends (code SI_KERNEL) the child has got as well.
            if info.si_code != _SI_KERNEL:
                os.kill(child, info.si_signo)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                _exit_as(status)


def _exit_as(status: int) -> "NoReturn":
    code = os.waitstatus_to_exitcode(status)
    if code == -_signal.SIGKILL:
        line = (
            "incumbent: the main process was killed by SIGKILL: by its dead-man timer if a line"
            " above says so or it was stopped past its deadline, else for lack of memory or by"
            " somebody\n"
        )
        try:
            os.write(2, line.encode())
        except OSError:
            # The exit code has to come through whatever has become of stderr.
            pass
    os._exit(code if code >= 0 else 128 - code)
