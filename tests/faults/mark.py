"""One mark: the proof that somebody did work under some token at some instant.

A mark is a line of 64 bytes, appended by one write. All candidates of an election append to the
*same* file: so its order is the kernel's own order of the effects, also for a process that was
stopped between reading the clock and writing. 64 divides the size of a page, so that a write which
SIGKILL interrupts between two pages is never half of a line.

Run as a program this is the command that `incumbent run` starts: it knows nothing of incumbent but
`INCUMBENT_TOKEN`, and makes a mark each millisecond for as long as it lives, unconditionally.

    python -I -S mark.py LOG WORKER [--stubborn] [--detached]

`--stubborn` ignores TERM; `--detached` has a double-forked daemon in a session of its own do the
same beside it. Marks carry the process id of the first process, since the whole tree is one holder.
"""

from __future__ import annotations

import os
import signal
import sys
import time

MARK_BYTES = 64
EVERY_S = 0.001


def open_log(path: str) -> int:
    """Return a descriptor that appends."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def mark(log: int, token: int, pid: int, worker: int) -> None:
    """Append one mark. The clock is read as late as can be."""
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    os.write(log, b"%020d %020d %010d %010d\n" % (token, now_ns, pid, worker))


def main(arguments: list[str]) -> None:
    path, worker, *flags = arguments
    token = int(os.environ["INCUMBENT_TOKEN"])
    pid = os.getpid()
    if "--stubborn" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "--detached" in flags and os.fork() == 0:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
    log = open_log(path)
    while True:
        mark(log, token, pid, int(worker))
        time.sleep(EVERY_S)  # sleep: one mark each millisecond is the work


if __name__ == "__main__":
    main(sys.argv[1:])
