"""What the init of a tree asks of the kernel, beyond the standard library.

It is the other half of the program that `contain` starts, so the rules of `reaper` hold: nothing of
incumbent, and of the standard library only what is C or was loaded at start-up anyway. Each call
here is one system call with its numbers and structures; why it is made, `reaper` says.
"""

import ctypes
import errno
import os
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable
else:
    import _signal

CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
MS_REC = 0x4000
MS_SLAVE = 1 << 19
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

CLONE_NUMBERS = {
    "x86_64": 56,
    "aarch64": 220,
    "riscv64": 220,
    "loongarch64": 220,
    "ppc64le": 120,
}
"""The number of clone(2) where its first argument is the flags. The wrapper of libc insists on a
stack and a function; fork(2) has no flags."""

TIMER_ABSTIME = 1
SIGEVENT = struct.Struct("=qii48x")
ITIMERSPEC = struct.Struct("=4q")
"""The kernel's structures where a long has 64 bits: value, signal, how to notify; the interval and
the instant, in seconds and nanoseconds each."""

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Set something of this process; raises OSError."""
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _why(number: int) -> str:
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"


def close_all_but(kept: "Iterable[int]") -> None:
    """Close every descriptor but the standard streams and these."""
    wanted = {0, 1, 2, *kept}
    try:
        fds: Iterable[int] = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        fds = range(3, min(65536, os.sysconf("SC_OPEN_MAX")))
    for fd in fds:
        if fd not in wanted:
            try:
                os.close(fd)
            except OSError:
                pass


def pidfd(pid: int) -> int | None:
    """Return a descriptor that is readable once the process has ended; None without one."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def name_process(name: bytes) -> None:
    """Be shown under this name, of at most 15 bytes."""
    _libc.prctl(PR_SET_NAME, name, 0, 0, 0)


def get_ahead() -> bool:
    """Be scheduled before all ordinary processes, alone of the tree; returns whether we may."""
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(0, policy, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    except OSError:
        return False
    return True


class Alarm:
    """A timer that has this process go on, should it have been stopped.

    SIGCONT does so as it is sent, also to PID 1 of a namespace, and does nothing else here. Where
    there is no such timer, the death of our parent is what wakes us.
    """

    def __init__(self) -> None:
        self.instant = float("inf")
        self.handle: ctypes.c_void_p | None = None
        if sys.maxsize < 2**32 or not hasattr(_libc, "timer_create"):
            return
        event = ctypes.create_string_buffer(SIGEVENT.pack(0, _signal.SIGCONT, 0))
        handle = ctypes.c_void_p()
        if not _libc.timer_create(time.CLOCK_BOOTTIME, event, ctypes.byref(handle)):
            self.handle = handle

    def set(self, instant: float) -> None:
        """Go off at ``instant``, and at no other."""
        if self.handle is None or instant == self.instant:
            return
        self.instant = instant
        due_ns = 0 if instant == float("inf") else max(1, int(instant * 1e9))
        spec = ctypes.create_string_buffer(ITIMERSPEC.pack(0, 0, *divmod(due_ns, 1_000_000_000)))
        _libc.timer_settime(self.handle, TIMER_ABSTIME, spec, None)


def new_namespace() -> str | None:
    """Let the next child be PID 1 of a new PID namespace; returns the reason if it cannot be."""
    if os.uname().machine not in CLONE_NUMBERS or sys.maxsize < 2**32:
        return f"the number of clone(2) on {os.uname().machine} is not known here"
    if _libc.unshare(CLONE_NEWPID):
        number = ctypes.get_errno()
        missing = " (CAP_SYS_ADMIN is missing)" if number == errno.EPERM else ""
        return f"unshare(CLONE_NEWPID): {_why(number)}{missing}"
    return None


def fork_for_parent() -> int:
    """Fork a child of our parent: a sibling. Returns 0 in it; raises OSError."""
    number = CLONE_NUMBERS[os.uname().machine]
    flags = CLONE_PARENT | _signal.SIGCHLD
    pid = int(_libc.syscall(*(ctypes.c_long(word) for word in (number, flags, 0, 0, 0, 0))))
    if pid < 0:
        raise OSError(ctypes.get_errno(), f"clone: {_why(ctypes.get_errno())}")
    return pid


def mount_proc() -> str | None:
    """Show the namespace its own /proc; returns the reason if it cannot be."""
    if _libc.unshare(CLONE_NEWNS):
        return f"unshare(CLONE_NEWNS): {_why(ctypes.get_errno())}"
    if _libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None):
        return f"mount --make-rslave /: {_why(ctypes.get_errno())}"
    flags = ctypes.c_ulong(MS_NOSUID_NODEV_NOEXEC)
    if _libc.mount(b"proc", b"/proc", b"proc", flags, None):
        return f"mount /proc: {_why(ctypes.get_errno())}"
    return None


def _parents() -> dict[int, int]:
    """The parent of every process that /proc shows."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb", 0) as stat:
                    fields = stat.read(4096).rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                parents[int(name)] = int(fields[1])
    return parents


def descendants(root: int) -> list[int]:
    """The living descendants of ``root``, the deepest first. May miss one that forks meanwhile."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found[:0:-1]
