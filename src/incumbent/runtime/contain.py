"""A command and all that it starts, as one thing whose end can be forced and confirmed.

Rules
-----
* `Tree.stop` returns only when nothing of the tree is left, or raises. No other sign counts: not
  the end of the command, not a closed socket, not a free pid.
* The tree ends when this process ends, however it ends; and at the deadline that it was told last
  by `Tree.extend`, also if this process is frozen and can neither act nor die.
* This process never changes its own namespaces, and never forks without exec.
* Which guarantee is given is text, `Containment.guarantee`, to be printed.

Theory
------
A command may double-fork, call setsid, ignore HUP and TERM and close every descriptor; process
groups, the parent-death signal and pipes each let some of that escape. Only the kernel's own
book-keeping does not: a PID namespace (``pidns``), or failing that a subreaper (``group``). Either
is run by a small init, `incumbent.runtime.reaper`, where the kernel's rules are written down.

The init is started by ``posix_spawn`` as a fresh interpreter (``-I -S``), not by a bare fork:
forking a process that has threads may copy a locked lock, an early fork would have to be kept
unused for each later run, and a fork of a grown process pays for its pages. A fresh interpreter
costs some 10 ms and 9 to 10 MiB, is the same at any age of this process, and can be made again for
the next term. It is started ahead of the term (`Tree.prepare`), so these milliseconds are not part
of a takeover; `Tree.start` then takes as long as a fork and an exec.

The interpreter is given its program as code objects, over a memfd, and not the name of a file: an
upgrade of the package under a running process cannot make the two ends speak different versions,
it works from a zip file, and it saves the 1.5 MiB and 3 ms of compiling.

Warnings
--------
* Call `Tree.prepare` in a thread that lives as long as the tree, best in the main thread: the
  kernel sends the parent-death signal when the *thread* that spawned the init ends. The failure is
  on the safe side: the tree would end early.
* The init closes its socket before the kernel has killed its namespace. So an end of file says "it
  is ending" and only the end of the init's process says "it is gone".
* A process stopped or frozen together with its tree: on thawing all wake at once, and the tree has
  the time that it takes the kernel to deliver one SIGKILL. Only a fencing token closes that.
* The command has a session of its own and no controlling terminal. What it should see of the
  terminal's signals, the caller forwards with `Tree.signal`.
* Limits, umask, nice value and the standard streams are those of the moment of `Tree.prepare`.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time

from incumbent.errors import ConfigError, IncumbentError, UnsupportedPlatform, WorkStuck
from incumbent.runtime.containment import GROUP, PIDNS, Containment
from incumbent.runtime.pid1 import leave_pid1

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["GROUP", "PIDNS", "Containment", "Tree", "leave_pid1", "probe", "says_empty"]

MARKER = "INCUMBENT_TREE"
"""In ``group`` mode the command's environment holds a random value under this name, by which its
descendants are found should their subreaper be killed."""

_MODES = ("auto", PIDNS, GROUP)
_READY_S = 30.0
_AFTER_GRACE_S = 0.5
_POLL_WITHOUT_PIDFD_S = 0.01

_BESIDE = "incumbent.runtime.syscalls"
_BOOT = f"""
import marshal, os, sys
beside, program = marshal.loads(os.read(int(sys.argv[2]), 1 << 20))
module = sys.modules[{_BESIDE!r}] = type(sys)({_BESIDE!r})
exec(beside, module.__dict__)
exec(program)
"""
_program: bytes | None = None


def probe() -> Containment:
    """Say what this host permits, by trying it; takes as long as one `Tree.prepare`.

    Raises :class:`incumbent.errors.UnsupportedPlatform` elsewhere than on Linux.
    """
    tree = Tree.prepare()
    try:
        return tree.containment
    finally:
        tree.close()


def _refuse_elsewhere() -> None:
    if not sys.platform.startswith("linux"):
        raise UnsupportedPlatform(
            f"containing a whole process tree needs Linux; this is {sys.platform}"
        )


def _init_program() -> bytes:
    """The init's code, as this process has it and not as the disk has it by now."""
    global _program
    if _program is None:
        import marshal

        from incumbent.runtime import reaper, syscalls

        modules: tuple[Any, ...] = (syscalls, reaper)
        try:
            code = [module.__loader__.get_code(module.__name__) for module in modules]
            _program = marshal.dumps(code)
        except (AttributeError, ValueError) as error:
            raise UnsupportedPlatform(f"no byte code of the tree's init: {error}") from error
    return _program


def says_empty(page: int) -> bool:
    """Tell whether the subreaper of a ``group`` has proved that nothing of the tree is left."""
    from incumbent.runtime import reaper

    return os.pread(page, len(reaper.EMPTY), reaper.EMPTY_AT) == reaper.EMPTY


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Tree:
    """One command and all its descendants, from before it is started until all of them are gone.

    Made by :meth:`prepare`, good for one :meth:`start`. Not thread-safe. In a forked child it is
    void: every method but ``close`` raises, and the child's copy cannot end the tree.
    """

    containment: Containment
    """What holds this tree together; print ``containment.guarantee``."""

    error: str | None
    """Why the command could not be executed, in one line; else None."""

    notes: list[str]
    """What was noticed on the way, such as processes that survive SIGKILL."""

    left_behind: int
    """How many processes besides the command were left when it had ended, or when its grace was
    over, and so were killed; not counted where the end had to be at once, or cannot be seen."""

    pid: int | None
    """The command's pid as it sees itself: in ``pidns`` mode a pid of the inner namespace."""

    def __init__(self, control: socket.socket, spawned: int, deadline: int) -> None:
        """Private: use :meth:`prepare`."""
        self._control = control
        self._deadline: int | None = deadline
        self._owner = os.getpid()
        self._buffer = bytearray()
        self._init = spawned
        self._warden: int | None = None
        self._pidfd: int | None = None
        self._epoll = select.epoll()
        self._heard = True
        self._status: int | None = None
        self._gone = False
        self._empty = False
        self._started = False
        self._marker: str | None = None
        self.containment = Containment(GROUP, None)
        self.error = None
        self.notes = []
        self.left_behind = 0
        self.pid = None

    # ------------------------------------------------------------------ before

    @classmethod
    def prepare(cls, mode: str = "auto") -> Tree:
        """Start the small init that will hold the tree, and wait until it is ready.

        ``mode`` is ``auto`` (the strongest that is permitted), ``pidns`` or ``group``. May be
        called again and again, at any age of the process and with threads; the calling thread must
        outlive the tree.

        Raises :class:`incumbent.errors.UnsupportedPlatform` elsewhere than on Linux, or if
        ``pidns`` is asked for and not permitted (the message says what is missing);
        :class:`incumbent.errors.ConfigError` for an unknown mode; and
        :class:`incumbent.errors.IncumbentError` if the init cannot be run.
        """
        _refuse_elsewhere()
        if mode not in _MODES:
            raise ConfigError(f"containment mode {mode!r}: choose one of {', '.join(_MODES)}")
        tree = cls._spawn(mode)
        refused = tree._await_ready()
        if refused is None:
            return tree
        if mode == PIDNS:
            raise UnsupportedPlatform(
                f"no PID namespace here: {refused}; grant CAP_SYS_ADMIN, or accept the weaker"
                " containment `group`"
            )
        tree = cls._spawn(GROUP)
        refused_again = tree._await_ready()
        if refused_again is not None:
            raise IncumbentError(f"the init of the tree refused: {refused_again}")
        tree.containment = Containment(
            GROUP, refused, tree.containment.notes, tree.containment.ahead
        )
        return tree

    @classmethod
    def _spawn(cls, mode: str) -> Tree:
        import socket

        if not sys.executable:
            raise UnsupportedPlatform(
                "sys.executable is empty (an embedded interpreter?), so no init can be started"
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        program = os.memfd_create("incumbent-init")
        deadline = os.memfd_create("incumbent-deadline")
        os.pwrite(deadline, struct.pack("=d", float("inf")), 0)
        try:
            os.write(program, _init_program())
            os.lseek(program, 0, os.SEEK_SET)
            fds = (program, theirs.fileno(), deadline)
            words = ["incumbent-init", *map(str, fds), mode, str(os.getpid())]
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _BOOT, *words],
                os.environ,
                # dup2 onto itself is how posix_spawn says: inherit this one, and only this one.
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds],
                setsigmask=[],
            )
        except OSError as error:
            ours.close()
            os.close(deadline)
            raise IncumbentError(f"the init of the tree could not be started: {error}") from error
        finally:
            os.close(program)
            theirs.close()
        return cls(ours, pid, deadline)

    def _await_ready(self) -> str | None:
        """Wait for the init's greeting; returns its reason if it refuses."""
        ready: tuple[Any, ...] | None = None
        inner: int | None = None
        deadline = _now_s() + _READY_S
        while ready is None or (ready[0] == PIDNS and inner is None):
            self._control.settimeout(max(0.001, deadline - _now_s()))
            try:
                messages = self._receive()
            except TimeoutError:
                messages = None
            if messages is None:
                os.kill(self._init, signal.SIGKILL)
                status = self._abandon()
                raise IncumbentError(
                    "the init of the tree did not come up"
                    f" (wait status {status}; its own error, if any, is on stderr)"
                )
            for kind, *values in messages:
                if kind == "refused":
                    self._abandon()
                    return str(values[0])
                if kind == "pid":
                    inner = values[0]
                elif kind == "ready":
                    ready = tuple(values)
        self.containment = Containment(*ready)
        if inner is not None:
            self._warden, self._init = self._init, inner
        self._control.settimeout(0)
        self._epoll.register(self._control.fileno(), select.EPOLLIN)
        try:
            self._pidfd = os.pidfd_open(self._init)
            self._epoll.register(self._pidfd, select.EPOLLIN)
        except OSError:
            pass
        return None

    def _abandon(self) -> int:
        """Give up a tree that never became ready and so never held anything."""
        self._control.close()
        try:
            _, status = os.waitpid(self._init, 0)
        except ChildProcessError:
            status = 0
        self._gone = True
        self.close()
        return status

    # ------------------------------------------------------------------ run

    def start(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | bytes | os.PathLike[str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Run the command as the first process of the tree.

        ``env`` replaces the environment (None: that of this process); ``cwd`` None is the working
        directory of this process now. The command has our standard streams and, under the same
        numbers, ``pass_fds``; every other descriptor is closed in it. The init keeps ``pass_fds``
        open until the whole tree is gone, so a file lock among them is evidence of its life even if
        all of the tree closes it.

        Returns when the command has been executed or that has failed: then :meth:`poll` gives 127
        (not found) or 126 (not executable), and :attr:`error` one line with the reason.

        Raises :class:`incumbent.errors.IncumbentError` if the tree was started before or its init
        is gone.
        """
        from incumbent.runtime import reaper

        self._check_owner()
        if self._started:
            raise IncumbentError("a prepared tree serves one run; prepare another")
        if not argv:
            raise ConfigError("no command given")
        environment = {
            os.fsencode(name): os.fsencode(value)
            for name, value in (os.environ if env is None else env).items()
        }
        if self.containment.mode == GROUP:
            self._marker = os.urandom(12).hex()
            environment[MARKER.encode()] = self._marker.encode()
        if cwd is None:
            try:
                cwd = os.getcwd()
            except FileNotFoundError:
                pass
        where = None if cwd is None else os.fsencode(cwd)
        words = [os.fsencode(word) for word in argv]
        targets = list(pass_fds)
        if len(targets) > reaper.MAX_FDS:
            raise ConfigError(f"at most {reaper.MAX_FDS} descriptors can be passed on")
        data = memoryview(reaper.pack(("start", words, environment, where, targets)))
        self._started = True
        import socket

        self._control.settimeout(_READY_S)
        try:
            ancillary = []
            if targets:
                rights = struct.pack(f"={len(targets)}i", *targets)
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            sent = self._control.sendmsg([data], ancillary)
            if sent < len(data):
                # Not for nothing: a short command may be over by now, and its init gone.
                self._control.sendall(data[sent:])
            while self.pid is None and self.error is None and self._heard:
                self._handle(self._receive())
        except OSError as error:
            raise IncumbentError(f"the init of the tree does not answer: {error}") from error
        finally:
            self._control.settimeout(0)
        if self.pid is None and self.error is None:
            raise IncumbentError("the init of the tree ended before it could run the command")

    def signal(self, signum: int, *, group: bool = False) -> None:
        """Send a signal to the command, or with ``group`` to its whole process group.

        Without effect before the start and after the command's end.
        """
        self._tell("signal", int(signum), group)

    def fileno(self) -> int:
        """A descriptor that becomes readable when :meth:`poll` has something to do.

        For select, poll, epoll and event loops. It stays quiet once the tree is gone.
        """
        return self._epoll.fileno()

    def poll(self) -> int | None:
        """Take in what has happened; returns the command's exit status once it has ended.

        The status is the exit code, or 128 + the signal's number; 137 also if the whole tree was
        killed before the end of the command could be seen. **The end of the command is not the end
        of the tree**: for that see :attr:`gone` and :meth:`wait_gone`.
        """
        self._check_owner()
        while self._heard:
            try:
                self._handle(self._receive())
            except BlockingIOError:
                break
        self._collect()
        return self._status

    @property
    def gone(self) -> bool:
        """Whether, at the last :meth:`poll`, nothing of the tree was left."""
        return self._gone

    @property
    def witness_fds(self) -> tuple[int, ...]:
        """What another process needs to see the tree's end, should this one be killed.

        A descriptor that is readable once the init is gone, and the page for `says_empty`. None
        where the kernel has no pidfd.
        """
        if self._pidfd is None or self._deadline is None:
            return ()
        return (self._pidfd, self._deadline)

    @property
    def confirmed(self) -> bool:
        """Whether the end of the tree is certain: what :meth:`stop` and :meth:`wait_gone` ask."""
        certain = self.containment.mode == PIDNS or self._empty or not self._started
        return self._gone and certain

    def wait_gone(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing of the tree is left; returns whether that is so.

        ``timeout_s`` None waits for ever: a process in an uninterruptible system call (a dead
        network file system) may take that long.

        Raises :class:`incumbent.errors.WorkStuck` if it cannot be known: in ``group`` mode, after
        the subreaper was killed from outside. What could still be found has then been killed.
        """
        deadline = None if timeout_s is None else _now_s() + timeout_s
        waiter = select.poll()
        waiter.register(self._epoll.fileno(), select.POLLIN)
        while True:
            self.poll()
            if self._gone:
                break
            left_s = None if deadline is None else deadline - _now_s()
            if left_s is not None and left_s <= 0:
                return False
            if self._pidfd is None:
                left_s = min(_POLL_WITHOUT_PIDFD_S, left_s or _POLL_WITHOUT_PIDFD_S)
                if not self._heard:
                    time.sleep(left_s)
                    continue
            waiter.poll(None if left_s is None else int(left_s * 1000) + 1)
        if not self.confirmed:
            found = self._salvage()
            raise WorkStuck(
                "the subreaper of the tree was killed from outside, so the end of the tree cannot"
                f" be confirmed ({found} of its processes were found by {MARKER} and killed)"
            )
        return True

    # ------------------------------------------------------------------ end

    def extend(self, deadline: float) -> None:
        """Have the init end the tree at ``deadline``, whatever has become of this process by then.

        An instant of ``CLOCK_BOOTTIME``, infinity for none. It costs one write to shared memory and
        wakes nobody: the init looks there at the start, and when the deadline that it knows has
        come. So call it before `start`, and then to put the end off; to bring it forward is what
        `request_stop` and `kill` are for. May be called in any thread, and without effect once the
        tree is closed.

        A dead process is noticed by the kernel; but one that is frozen alone (by a cgroup's
        freezer, or in a system call that cannot be interrupted) does not even die of its own
        timer, and its command would work on.
        """
        if self._deadline is not None and os.getpid() == self._owner:
            os.pwrite(self._deadline, struct.pack("=d", deadline), 0)

    def request_stop(self, grace_s: float) -> None:
        """Begin the end and return: TERM (and CONT) to the command's process group.

        When the group is empty, or after ``grace_s`` seconds, all of the tree is killed. Once the
        command has ended by itself, what it left behind is killed without grace.
        """
        if grace_s < 0:
            raise ConfigError(f"grace_s must not be negative: {grace_s!r}")
        self._tell("stop", float(grace_s))

    def stop(self, grace_s: float) -> int:
        """End the tree: TERM, up to ``grace_s`` seconds of grace, KILL. Returns when all is gone.

        Returns the command's exit status as :meth:`poll` does; 137 if it was never started.

        Raises :class:`incumbent.errors.WorkStuck` if the end cannot be confirmed.
        """
        self._check_owner()
        self.request_stop(grace_s)
        if not self.wait_gone(grace_s + _AFTER_GRACE_S):
            self.kill()
            self.wait_gone()
        assert self._status is not None
        return self._status

    def kill(self) -> None:
        """Kill all of the tree now and return; :meth:`wait_gone` confirms."""
        self._check_owner()
        if self._gone:
            return
        if self.containment.mode == PIDNS:
            self._hit_init(signal.SIGKILL)
        else:
            self._tell("kill")
            self._hit_init(signal.SIGCONT)

    def close(self) -> None:
        """Kill what is left, confirm it, and free the descriptors. May be called twice."""
        if self._epoll.closed:
            return
        try:
            if not self._gone and os.getpid() == self._owner:
                self.kill()
                self.wait_gone()
        finally:
            self._control.close()
            self._epoll.close()
            if self._deadline is not None:
                deadline, self._deadline = self._deadline, None
                os.close(deadline)
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------ inside

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise IncumbentError("this tree belongs to the process that this one was forked from")

    def _hit_init(self, signum: int) -> None:
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signum)
            else:
                os.kill(self._init, signum)
        except ProcessLookupError:
            pass

    def _tell(self, *message: Any) -> None:
        from incumbent.runtime import reaper

        self._check_owner()
        try:
            self._control.sendall(reaper.pack(message))
        except OSError:
            # The init is ending or gone; `poll` will say which.
            pass

    def _receive(self) -> list[tuple[Any, ...]] | None:
        """Read once; None at the end of the conversation."""
        from incumbent.runtime import reaper

        try:
            data = self._control.recv(65536)
        except (BlockingIOError, TimeoutError):
            raise
        except OSError:
            return None
        if not data:
            return None
        self._buffer += data
        return reaper.unpack(self._buffer)

    def _handle(self, messages: list[tuple[Any, ...]] | None) -> None:
        if messages is None:
            self._heard = False
            self._epoll.unregister(self._control.fileno())
            return
        for kind, *values in messages:
            if kind == "started":
                self.pid = values[0]
            elif kind == "failed":
                self._status, self.error = values
            elif kind == "ended":
                self._status = values[0]
            elif kind == "note":
                self.notes.append(values[0])
            elif kind == "left":
                self.left_behind = values[0]

    def _collect(self) -> None:
        """Reap the init if it has ended. Its last words were read before."""
        if self._gone:
            return
        try:
            if os.waitpid(self._init, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            # Somebody else in this process waits for any child; what it took had ended.
            pass
        while self._heard:
            try:
                self._handle(self._receive())
            except BlockingIOError:
                break
        self._gone = True
        self._empty = self._deadline is not None and says_empty(self._deadline)
        if self._pidfd is not None:
            self._epoll.unregister(self._pidfd)
        if self._heard:
            self._heard = False
            self._epoll.unregister(self._control.fileno())
        if self._status is None:
            self._status = 128 + signal.SIGKILL
        if self._warden is not None:
            # Its watch is over; a stopped one would keep the evidence of life up for ever.
            try:
                os.kill(self._warden, signal.SIGKILL)
                os.waitpid(self._warden, 0)
            except (ProcessLookupError, ChildProcessError):
                pass

    def _salvage(self) -> int:
        """Kill what carries our marker; returns how many processes that were."""
        if self._marker is None:
            return 0
        needle = f"{MARKER}={self._marker}".encode()
        killed: set[int] = set()
        while True:
            found = set()
            for name in os.listdir("/proc"):
                if name.isdigit():
                    try:
                        with open(f"/proc/{name}/environ", "rb") as environ:
                            if needle in environ.read().split(b"\0"):
                                found.add(int(name))
                    except OSError:
                        continue
            fresh = found - killed
            if not fresh:
                return len(killed)
            for pid in fresh:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            killed |= fresh
