"""The init of a contained tree: a small program of its own, started by `contain` alone.

Rules
-----
* `contain.Tree.prepare` runs it as the main program of a bare interpreter, `syscalls` beside it. It
  imports nothing else of incumbent, and of the standard library only what is C or was loaded at
  start-up anyway; only `contain` imports it as a module, for the framing of messages.
* One thread, and it never blocks on anything but its own poll.
* Whatever happens to the parent W, the tree ends; whatever happens to the tree, W is told so.

Theory
------
Called by W, this program has one process or two.

``pidns``: it makes a PID namespace and forks into it with ``CLONE_PARENT``. The child, the *init*,
is PID 1 in there and a child of W, so that W's death reaches it through the kernel alone
(``PR_SET_PDEATHSIG``), with nobody between them who might be stopped or starved. When PID 1 of a
namespace ends, the kernel kills all that is inside, stopped processes and those that ignore every
signal included, and lets nobody see the init's end before all of them are gone. The process that
stays outside, the *warden*, holds the descriptors that are evidence of life (a file lock) until it
has seen that end. Without it the lock would be free a moment too early: an exiting init closes its
descriptors before the kernel kills the rest, and a daemon that closed all of its own holds none.

``group``: no namespace. The one process is a *subreaper*: orphans of the tree become its children
instead of init's, however they were detached. It kills all descendants that it finds in ``/proc``,
and ``ECHILD`` from ``waitpid`` then proves that there are none: a living descendant always has a
chain of parents that ends in a child of ours. What it cannot do is survive its own SIGKILL.

At the deadline nothing has to run but this process: the others of the tree execute nothing more
once its end has sent them SIGKILL. Two things make that one hop short. It is scheduled ahead of all
ordinary processes where that is permitted (``SCHED_FIFO``, not inherited by the command). And a
timer of its own sends it SIGCONT, which the kernel acts upon even where the signal is blocked, so
that being stopped along with its parent does not hold it up.

Warnings
--------
* ``PR_SET_PDEATHSIG`` goes off when the *thread* of W that spawned us ends, and says nothing if W
  was dead before it was set. So a pidfd of W is opened while W is provably our parent, and polled
  after the signal is set. The socket's end of file is the third line, not the first: a forked
  child of W may hold the other end open.
* The parent-death signal of the subreaper and of the warden is SIGCONT: it wakes a stopped one,
  which would otherwise sleep through W's death, and leaves a running one to its work.
* All of the tree is stopped before any of it is killed, and the deepest go first. Else a dying
  parent orphans a stopped process group, to which the kernel sends HUP and CONT: a process that
  ignores HUP would run until its own SIGKILL comes.
* As PID 1, only signals that have a handler or come from outside arrive.
* Command and init have sessions of their own: what a terminal or a ``kill`` sends to the group of
  W does not reach them twice. W forwards.
"""

import _socket
import errno
import fcntl
import marshal
import os
import select
import struct
import sys
import time

from incumbent.runtime.syscalls import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    Alarm,
    close_all_but,
    descendants,
    fork_for_parent,
    get_ahead,
    mount_proc,
    name_process,
    new_namespace,
    pidfd,
    prctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, NoReturn
else:
    import _signal

NOT_EXECUTABLE = 126
NOT_FOUND = 127

EMPTY = b"\1"
EMPTY_AT = 8
"""What a subreaper writes behind the deadline when it has proved that nothing is left. It is not a
message, because a page can be read by others than W, and after W's death."""

HEADER = struct.Struct("=I")
MAX_FDS = 250
RESCAN_MS = 5
COMPLAIN_AFTER_S = 2.0


def pack(message: "tuple[Any, ...]") -> bytes:
    """Frame one message of either direction."""
    body = marshal.dumps(message)
    return HEADER.pack(len(body)) + body


def unpack(buffer: bytearray) -> "list[tuple[Any, ...]]":
    """Take all complete messages off the front of ``buffer``."""
    messages = []
    while len(buffer) >= HEADER.size:
        (size,) = HEADER.unpack_from(buffer)
        end = HEADER.size + size
        if len(buffer) < end:
            break
        messages.append(marshal.loads(bytes(buffer[HEADER.size : end])))
        del buffer[:end]
    return messages


def exit_status(wait_status: int) -> int:
    """The shell's reading of a wait status: the exit code, or 128 + the signal's number."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _readable(fd: int, timeout_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def _watch_over(init_pid: int, fds_from: _socket.socket) -> "NoReturn":
    """The warden: keep what the init was given to hold, until the whole namespace is gone."""
    init = pidfd(init_pid)
    if init is None:
        os._exit(0)
    prctl(PR_SET_PDEATHSIG, _signal.SIGCONT)
    close_all_but((init, fds_from.fileno()))
    poll = select.poll()
    poll.register(init, select.POLLIN)
    poll.register(fds_from.fileno(), select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if init in ready:
            os._exit(0)
        if fds_from.fileno() in ready:
            # The descriptors stay open as plain numbers; nothing needs to know them.
            data = fds_from.recvmsg(1, _socket.CMSG_SPACE(4 * MAX_FDS))[0]
            if not data:
                poll.unregister(fds_from.fileno())


def _fds_of(ancillary: "Sequence[tuple[int, int, bytes]]") -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"={len(data) // 4}i", data[: len(data) // 4 * 4]))
    return fds


def _send_fds(sock: _socket.socket, fds: "Sequence[int]") -> None:
    rights = struct.pack(f"={len(fds)}i", *fds)
    sock.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def _execute(argv: list[bytes], env: "Mapping[bytes, bytes]") -> "tuple[int, str]":
    """Become the command; returns only if that fails, with the status and the error line."""
    name = argv[0]
    shown = os.fsdecode(name)
    if b"/" in name:
        paths = [name]
    else:
        folders = env.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":")
        paths = [os.path.join(folder or b".", name) for folder in folders]
    worst: OSError | None = None
    for path in paths:
        try:
            os.execve(path, argv, env)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                if os.path.exists(path):
                    return NOT_EXECUTABLE, f"{shown}: the interpreter that it names is missing"
                continue
            if error.errno == errno.EACCES and b"/" not in name and not os.path.exists(path):
                # A folder of somebody else's PATH, such as root's: it has no word in this.
                continue
            worst = worst or error
            if error.errno != errno.EACCES:
                break
        except ValueError as error:
            return NOT_EXECUTABLE, f"{shown}: {error}"
    if worst is not None:
        return NOT_EXECUTABLE, f"{shown}: cannot be executed: {os.strerror(worst.errno or 0)}"
    return NOT_FOUND, f"{shown}: command not found"


class _Init:
    """The state of the init or subreaper."""

    def __init__(
        self, control: _socket.socket, parent: int | None, deadline: int, namespace: bool
    ) -> None:
        self.control = control
        self.deadline = deadline
        self.parent = parent
        self.namespace = namespace
        self.warden: _socket.socket | None = None
        self.own_proc = not namespace
        self.command: int | None = None
        self.ended = False
        self.stop_at: float | None = None
        self.buffer = bytearray()
        self.fds: list[int] = []
        self.alarm = Alarm()
        self.wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.mask = _signal.pthread_sigmask(
            _signal.SIG_SETMASK, _signal.valid_signals() - {_signal.SIGCHLD}
        )
        _signal.signal(_signal.SIGCHLD, lambda signum, frame: None)
        _signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def tell(self, *message: "Any") -> None:
        try:
            self.control.sendall(pack(message))
        except OSError:
            # W is gone; the poll says so as well, in its own time.
            pass

    def run(self) -> "NoReturn":
        poll = select.poll()
        poll.register(self.control.fileno(), select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        if self.parent is not None:
            poll.register(self.parent, select.POLLIN)
        while True:
            timeout_ms = None
            trusted_until = self.trusted_until()
            self.alarm.set(trusted_until)
            end_at = min(trusted_until, self.stop_at or float("inf"))
            if end_at != float("inf"):
                timeout_ms = max(0, int((end_at - _now_s()) * 1000) + 1)
            ready = {fd for fd, _ in poll.poll(timeout_ms)}
            if self.parent in ready or _now_s() >= self.trusted_until():
                self.finish()
            if self.wake in ready:
                self.reap()
            if self.control.fileno() in ready:
                self.listen()
            grace_is_over = self.stop_at is not None and _now_s() >= self.stop_at
            if grace_is_over or (self.ended and (self.stop_at is None or not self.group_lives())):
                self.count_left()
                self.finish()

    def trusted_until(self) -> float:
        """When the tree must end, as our parent wrote it last; read anew each time it is asked."""
        (instant,) = struct.unpack("=d", os.pread(self.deadline, 8, 0))
        return float(instant)

    def group_lives(self) -> bool:
        try:
            os.killpg(self.command or 0, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def reap(self) -> bool:
        """Collect the dead; returns False if no child is left."""
        try:
            os.read(self.wake, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.command and not self.ended:
                self.ended = True
                self.tell("ended", exit_status(status))

    def listen(self) -> None:
        try:
            data, ancillary, _, _ = self.control.recvmsg(65536, _socket.CMSG_SPACE(4 * MAX_FDS))
        except OSError:
            data, ancillary = b"", []
        if not data:
            self.finish()
        self.fds += _fds_of(ancillary)
        self.buffer += data
        for message in unpack(self.buffer):
            kind, *values = message
            if kind == "start":
                self.start(*values)
            elif kind == "signal":
                self.send(*values)
            elif kind == "stop":
                if self.command is None:
                    self.finish()
                self.stop_at = min(_now_s() + values[0], self.stop_at or float("inf"))
                self.send(_signal.SIGTERM, True)
                self.send(_signal.SIGCONT, True)
            elif kind == "kill":
                self.finish()

    def send(self, signum: int, group: bool) -> None:
        if self.command is None or (self.ended and not group):
            return
        try:
            (os.killpg if group else os.kill)(self.command, signum)
        except OSError:
            pass

    def start(
        self,
        argv: list[bytes],
        env: dict[bytes, bytes],
        cwd: bytes | None,
        targets: list[int],
    ) -> None:
        fds, self.fds = self.fds, []
        for fd in fds:
            os.set_inheritable(fd, False)
        if len(fds) != len(targets):
            # The kernel drops what does not fit under RLIMIT_NOFILE, without an error.
            text = "the descriptors to pass on did not arrive (RLIMIT_NOFILE?)"
            self.tell("failed", NOT_EXECUTABLE, text)
            self.finish()
        if self.warden is not None and fds:
            try:
                _send_fds(self.warden, fds)
            except OSError:
                pass
        reader, writer = os.pipe2(os.O_CLOEXEC)
        init = os.getpid()
        pid = os.fork()
        if pid == 0:
            # Out of the way of the numbers that the command is to see.
            lowest = max([2, *targets]) + 1
            report = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, lowest)
            try:
                moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest) for fd in fds]
                for fd, target in zip(moved, targets, strict=True):
                    os.dup2(fd, target)
                status, text = self.become(argv, env, cwd, init)
            except BaseException as error:
                status, text = NOT_EXECUTABLE, f"{os.fsdecode(argv[0])}: {error}"
            os.write(report, marshal.dumps((status, text)))
            os._exit(status)
        os.close(writer)
        with open(reader, "rb") as pipe:
            told = pipe.read()
        self.command = pid
        if told:
            self.ended = True
            self.tell("failed", *marshal.loads(told))
        else:
            self.tell("started", pid)

    def become(
        self, argv: list[bytes], env: dict[bytes, bytes], cwd: bytes | None, init: int
    ) -> tuple[int, str]:
        """Become the command; returns only if that fails."""
        if cwd is not None:
            try:
                os.chdir(cwd)
            except OSError as error:
                why = os.strerror(error.errno or 0)
                return NOT_EXECUTABLE, f"cannot work in {os.fsdecode(cwd)}: {why}"
        os.setsid()
        if not self.namespace:
            prctl(PR_SET_PDEATHSIG, _signal.SIGKILL)
            if os.getppid() != init:
                os._exit(NOT_EXECUTABLE)
        _signal.set_wakeup_fd(-1)
        for signum in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGCHLD, _signal.SIGINT):
            # Python ignores the first two by itself; INT was ignored by whoever started us.
            if signum != _signal.SIGINT or _signal.getsignal(signum) != _signal.SIG_IGN:
                _signal.signal(signum, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)
        return _execute(argv, env)

    def count_left(self) -> None:
        """Say how many processes besides the command have to be killed. There is trust left."""
        if self.own_proc:  # In a /proc of others, our number is somebody else's.
            left = [pid for pid in self.scan() if pid != self.command]
            if left:
                self.tell("left", len(left))

    def finish(self) -> "NoReturn":
        """End all of the tree, then this process."""
        if not self.namespace:
            self.kill_descendants()
            os.pwrite(self.deadline, EMPTY, EMPTY_AT)
        os._exit(0)

    def kill_descendants(self) -> None:
        began_s = _now_s()
        complained = False
        while True:
            stopped: set[int] = set()
            while True:
                fresh = [pid for pid in self.scan() if pid not in stopped]
                if not fresh:
                    break
                self.hit(fresh, _signal.SIGSTOP)
                stopped.update(fresh)
            self.hit(self.scan(), _signal.SIGKILL)
            _readable(self.wake, RESCAN_MS)
            if not self.reap():
                return
            if not complained and _now_s() - began_s > COMPLAIN_AFTER_S:
                complained = True
                self.say_surviving(self.scan())

    def scan(self) -> list[int]:
        try:
            return descendants(os.getpid())
        except OSError:
            return [self.command] if self.command is not None and not self.ended else []

    def hit(self, pids: "Iterable[int]", signum: int) -> None:
        for pid in pids:
            try:
                os.kill(pid, signum)
            except OSError:
                pass

    def say_surviving(self, pids: list[int]) -> None:
        if pids:
            text = f"these processes of the tree survive SIGKILL or may not be killed: {pids}"
            self.tell("note", text)


def _be_init(init: _Init, notes: list[str], mode: str, why_not: str | None) -> "NoReturn":
    prctl(PR_SET_PDEATHSIG, _signal.SIGKILL if init.namespace else _signal.SIGCONT)
    if init.parent is not None and _readable(init.parent):
        os._exit(0)
    if not init.namespace:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    init.tell("ready", mode, why_not, notes, get_ahead())
    init.run()


def main(fd: int, deadline: int, mode: str, parent_pid: int) -> "NoReturn":
    """Prepare a tree for the process ``parent_pid``, which talks to us over the socket ``fd``.

    ``deadline`` is a file of shared memory with the instant at which the tree must end.
    """
    os.setsid()
    name_process(b"incumbent-init")
    os.set_inheritable(fd, False)
    os.set_inheritable(deadline, False)
    close_all_but((fd, deadline))
    control = _socket.socket(fileno=fd)
    parent = pidfd(parent_pid)
    if os.getppid() != parent_pid:
        os._exit(0)
    why_not = None if mode == "group" else new_namespace()
    if mode == "pidns" and why_not is not None:
        control.sendall(pack(("refused", why_not)))
        os._exit(0)
    if mode == "group" or why_not is not None:
        _be_init(_Init(control, parent, deadline, namespace=False), [], "group", why_not)
    inner, outer = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        pid = fork_for_parent()
    except OSError as error:
        control.sendall(pack(("refused", str(error.strerror))))
        os._exit(0)
    if pid:
        control.sendall(pack(("pid", pid)))
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
        _watch_over(pid, outer)
    outer.close()
    init = _Init(control, parent, deadline, namespace=True)
    init.warden = inner
    why_no_proc = mount_proc()
    init.own_proc = why_no_proc is None
    notes = [] if why_no_proc is None else [f"the command sees the outer /proc ({why_no_proc})"]
    _be_init(init, notes, "pidns", None)


if __name__ == "__main__":
    main(int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], int(sys.argv[6]))
