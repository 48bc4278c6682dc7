"""The dead-man: a kernel timer that ends this process when its work outlives its term.

Rules
-----
* One timer a process, on ``CLOCK_BOOTTIME``, signal ``SIGKILL``, armed at the earliest deadline of
  the terms whose work has not ended. A renewal moves it with one system call.
* Nothing of ours has to run at the deadline: no thread, no lock, no interpreter. That is the point.
* ``arm`` moves the killing timer first and the two warning timers after it.

Theory
------
A thread that calls ``os._exit`` at the deadline does nothing while the process is stopped, frozen,
or inside a C call that keeps the GIL, and each of these may end after another process became the
holder. A POSIX timer is the kernel's: its ``SIGKILL`` ends a stopped process at the deadline, a
frozen one on thawing before it gets back to its own instructions, and never asks for the GIL.

``CLOCK_BOOTTIME`` counts suspend and no step of the wall clock moves it. The deadline is given as
an absolute instant (``TIMER_ABSTIME``), so a pause between computing it and arming it cannot make
it later; a deadline already past kills at once.

A bare ``SIGKILL`` reads as a lack of memory in every log. So two more timers go off shortly before:

* the line: ``SIGEV_THREAD``, whose thread runs ``warnx(3)`` of libc on a buffer that ctypes owns.
  It is C from end to end, and needs neither the GIL nor a compiler;
* the traceback: a free real-time signal whose handler is faulthandler's, C as well.

Warnings
--------
* **PID 1 of a PID namespace ignores a SIGKILL that comes from inside**, and a timer's does. There
  the dead-man would be a decoration, so it is refused.
* ``fork`` does not inherit timers: in a child the object is void and ``arm`` raises. ``exec``
  deletes them: whatever this process is replaced by has no dead-man.
* A stopped or frozen process dies without the line: its threads cannot run.
* The handler stays registered and the buffer stays allocated after ``close``. A signal that is
  still queued for a handler that is gone would kill the process; a late thread would read freed
  memory.
* Signals are queued against ``RLIMIT_SIGPENDING``, where each timer takes one place.
* ``PyDLL`` and not ``CDLL``: giving up the GIL around a call of a microsecond may cost 5 ms to get
  it back, three times in each renewal.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import math
import os
import signal
import sys
import time

from incumbent.errors import IncumbentError, UnsupportedPlatform

__all__ = ["WARN_BEFORE_S", "DeadMan", "supported"]

WARN_BEFORE_S = 0.25
"""The line is written this many seconds before the deadline, or a tenth of the remaining time
before it if that is less; the traceback follows after two fifths of that span."""

_WAY_OUT = (
    "run it under an init: `incumbent run`, `docker run --init`, or `shareProcessNamespace: true`"
)

_SIGEV_SIGNAL = 0
_SIGEV_NONE = 1
_SIGEV_THREAD = 2
_TIMER_ABSTIME = 1
_TEXT_BYTES = 2048
_STDERR = 2


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("_reserved", ctypes.c_char * 64),
    )


class _TimeSpec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _ITimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


_forks = 0
_trace_signum: int | None = None
_texts: list[ctypes.Array[ctypes.c_char]] = []


def _after_fork_in_child() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _libc() -> ctypes.PyDLL:
    libc = ctypes.PyDLL(None, use_errno=True)
    if not hasattr(libc, "timer_create"):
        # Before glibc 2.34 the POSIX timers lived in a library of their own.
        libc = ctypes.PyDLL("librt.so.1", use_errno=True)
    return libc


class _Timer:
    """One POSIX timer on CLOCK_BOOTTIME, disarmed at birth."""

    __slots__ = ("_id", "_libc", "_pointer", "_settime", "_spec")

    def __init__(
        self,
        libc: ctypes.PyDLL,
        notify: int,
        signum: int = 0,
        function: int | None = None,
        argument: int | None = None,
    ) -> None:
        event = _SigEvent(value=argument, signo=signum, notify=notify, function=function)
        handle = ctypes.c_void_p()
        clock = ctypes.c_int(time.CLOCK_BOOTTIME)
        if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(handle)):
            number = ctypes.get_errno()
            reason = f"timer_create(CLOCK_BOOTTIME) failed: {os.strerror(number)}"
            if number in (errno.EAGAIN, errno.ENOMEM):
                raise IncumbentError(f"{reason} (see `ulimit -i`: pending signals)")
            raise UnsupportedPlatform(reason)
        self._libc = libc
        self._settime = libc.timer_settime
        self._id = handle
        self._spec = _ITimerSpec()
        self._pointer = ctypes.byref(self._spec)

    def set(self, instant_ns: int) -> None:
        value = self._spec.value
        value.sec, value.nsec = divmod(instant_ns, 1_000_000_000)
        if self._settime(self._id, _TIMER_ABSTIME, self._pointer, None):
            raise IncumbentError(f"timer_settime failed: {os.strerror(ctypes.get_errno())}")

    def delete(self) -> None:
        self._libc.timer_delete(self._id)


def supported() -> str | None:
    """Say why a dead-man cannot work in this process.

    Returns None where it works, else one sentence with the reason and, if there is one, the way
    out. The kernel is asked by making a timer, not guessed from a version.
    """
    if not sys.platform.startswith("linux"):
        return f"the dead-man needs a kernel timer of Linux; this is {sys.platform}"
    if os.getpid() == 1:
        return (
            "this process is PID 1 of its PID namespace, where the kernel ignores a SIGKILL that"
            f" comes from the process itself; {_WAY_OUT}"
        )
    try:
        _Timer(_libc(), _SIGEV_NONE).delete()
    except (IncumbentError, OSError) as error:
        return str(error)
    return None


def _free_signum() -> int | None:
    """A real-time signal that nobody in this process handles, ignores or blocks.

    Read from the kernel and not from :func:`signal.getsignal`, which knows nothing of handlers
    that C code has installed.
    """
    taken = 0
    with open("/proc/self/status", "rb") as status:
        for line in status:
            name, _, value = line.partition(b":")
            if name in (b"SigCgt", b"SigIgn", b"SigBlk"):
                taken |= int(value, 16)
    for signum in range(signal.SIGRTMAX - 2, signal.SIGRTMIN, -1):
        if not taken >> (signum - 1) & 1:
            return signum
    return None


def _trace_signal() -> int | None:
    """The signal that makes faulthandler print all threads; None if stderr or a signal lacks."""
    global _trace_signum
    if _trace_signum is None:
        try:
            signum = _free_signum()
            if signum is not None:
                faulthandler.register(signum, file=_STDERR, all_threads=True, chain=False)
                _trace_signum = signum
        except (OSError, RuntimeError, ValueError):
            return None
    return _trace_signum


def _format(message: str) -> bytes:
    line = "".join(c if c.isprintable() else " " for c in message)
    text = (
        "incumbent: this process is about to be killed by its own dead-man timer (SIGKILL; not a"
        f" lack of memory): {line}"
    )
    encoded = text.encode("utf-8", "backslashreplace").replace(b"%", b"%%")[: _TEXT_BYTES - 1]
    # A cut between the two halves of an escaped "%" would leave a conversion behind.
    odd = (len(encoded) - len(encoded.rstrip(b"%"))) % 2
    return encoded[: len(encoded) - odd]


class DeadMan:
    """Kills this process with SIGKILL at a deadline that is moved by each renewal.

    Disarmed at first. Not thread-safe: one thread (the keeper's) arms and disarms. A process needs
    one; several do not disturb each other.

    Raises :class:`incumbent.errors.UnsupportedPlatform` where :func:`supported` gives a reason,
    and :class:`incumbent.errors.IncumbentError` if the kernel has no room for a timer.
    """

    __slots__ = ("_armed", "_born", "_closed", "_kill", "_line", "_message", "_text", "_trace")

    def __init__(self) -> None:
        reason = supported()
        if reason is not None:
            raise UnsupportedPlatform(reason)
        libc = _libc()
        self._born = _forks
        self._closed = False
        self._message: str | None = None
        self._text = ctypes.create_string_buffer(_TEXT_BYTES)
        _texts.append(self._text)
        self._armed: float | None = None
        self._kill = _Timer(libc, _SIGEV_SIGNAL, signal.SIGKILL)
        self._line: _Timer | None = None
        self._trace: _Timer | None = None
        warnx = ctypes.cast(ctypes.PyDLL(None).warnx, ctypes.c_void_p).value
        try:
            self._line = _Timer(libc, _SIGEV_THREAD, 0, warnx, ctypes.addressof(self._text))
            signum = _trace_signal()
            if signum is not None:
                self._trace = _Timer(libc, _SIGEV_SIGNAL, signum)
        except IncumbentError:
            self.close()
            raise

    @property
    def armed_until(self) -> float | None:
        """The deadline in force, in CLOCK_BOOTTIME seconds; None if disarmed, closed or void."""
        return self._armed if self._born == _forks else None

    def arm(self, deadline: float, message: str) -> None:
        """Kill this process at ``deadline``, in place of any deadline set before.

        ``deadline`` is an absolute instant in seconds of ``CLOCK_BOOTTIME``; one that has passed
        kills at once. ``message`` names the election and the cause, for the line that is written
        just before.

        Raises ValueError if ``deadline`` is not a positive finite number, and
        :class:`incumbent.errors.IncumbentError` after ``close`` or in a forked child; the deadline
        in force then stays as it was.
        """
        if self._closed:
            raise IncumbentError("the dead-man is closed")
        if self._born != _forks:
            raise IncumbentError(
                "the dead-man is void in a forked child: the kernel did not give it the timer"
            )
        if not (math.isfinite(deadline) and deadline > 0):
            raise ValueError(f"not an instant of CLOCK_BOOTTIME: {deadline!r}")
        deadline_ns = max(1, int(deadline * 1e9))
        self._kill.set(deadline_ns)
        self._armed = deadline
        if message != self._message:
            if self._line is not None:
                self._line.set(0)
            self._text.value = _format(message)
            self._message = message
        left_ns = deadline_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        lead_ns = max(0, min(int(WARN_BEFORE_S * 1e9), left_ns // 10))
        if self._line is not None:
            self._line.set(deadline_ns - lead_ns)
        if self._trace is not None:
            self._trace.set(deadline_ns - lead_ns * 3 // 5)

    def disarm(self) -> None:
        """Let this process live on: its work has ended. Without effect in a forked child."""
        if self._closed or self._born != _forks:
            return
        for timer in (self._kill, self._line, self._trace):
            if timer is not None:
                timer.set(0)
        self._armed = None

    def close(self) -> None:
        """Disarm and give the timers back. May be called twice, and in a forked child."""
        if not self._closed and self._born == _forks:
            for timer in (self._kill, self._line, self._trace):
                if timer is not None:
                    timer.delete()
        self._closed = True
        self._armed = None
