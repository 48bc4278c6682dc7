"""Trees of real processes, the nastiest that are known, are ended and their end is confirmed.

Everything that works in a tree holds a FIFO open and writes to it the instant (CLOCK_BOOTTIME) of
each of its marks. The end of file is therefore exact: it says that no such process is left. That no
mark is younger than an instant says that none worked after it.
"""

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from incumbent.errors import ConfigError, IncumbentError, UnsupportedPlatform, WorkStuck
from incumbent.runtime.contain import Tree, leave_pid1, probe
from tests.processes import CONTAINER, children, descendants, namespaces_permitted
from tests.runtime.speaking import LIMIT_S, Speaking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process trees of Linux")

MARK = struct.Struct("=cd")

WORK = """
import fcntl, os, signal, struct, sys, time

fifo = sys.argv[1]

def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)

def work(kind, until=lambda: False):
    fd = os.open(fifo, os.O_WRONLY)
    while not until():
        os.write(fd, struct.pack("=cd", kind, now()))
        time.sleep(0.002)

def deaf():
    for signum in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)

def daemon(kind):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    deaf()
    os.closerange(0, 256)
    work(kind)
"""

NASTY = """
daemon(b"d")
if os.fork() == 0:
    os.setpgid(0, 0)
    deaf()
    work(b"g")
work(b"c")
"""

W = """
import fcntl, os, signal, sys, time
from incumbent.runtime.contain import Tree, leave_pid1
from incumbent.runtime.deadman import DeadMan

def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)

def say(word):
    os.write(1, (str(word) + "\\n").encode())

def hold():
    while True:
        signal.pause()

mode, fifo, work = sys.argv[1:]
command = [sys.executable, "-c", work, fifo]
"""


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


PERMITTED = namespaces_permitted()
needs_namespaces = pytest.mark.skipif(not PERMITTED, reason="may not make a PID namespace")


@pytest.fixture(params=[pytest.param("pidns", marks=needs_namespaces), "group"])
def mode(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def tree(mode: str) -> Iterator[Tree]:
    with Tree.prepare(mode) as prepared:
        yield prepared


class Marks:
    """The reading end of the FIFO."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.seen: list[tuple[str, float]] = []
        self.rest = b""

    def take(self, timeout_s: float = LIMIT_S) -> bool:
        """Read once; returns False at the end of file, that is: no process holds the FIFO."""
        ready, _, _ = select.select([self.fd], [], [], timeout_s)
        assert ready, "neither a mark nor an end in time"
        data = os.read(self.fd, 65536)
        self.rest += data
        whole = len(self.rest) - len(self.rest) % MARK.size
        self.seen += [(kind.decode(), at) for kind, at in MARK.iter_unpack(self.rest[:whole])]
        self.rest = self.rest[whole:]
        return bool(data)

    def await_kinds(self, kinds: str) -> None:
        deadline = now() + LIMIT_S
        while {kind for kind, _ in self.seen} < set(kinds):
            assert now() < deadline, f"only {self.seen[-3:]}"
            if not self.take():
                time.sleep(0.005)  # sleep: a FIFO that nobody has opened yet has no event

    def await_end(self) -> float:
        """Read up to the end; returns the instant of the last mark."""
        deadline = now() + LIMIT_S
        while self.take():
            assert now() < deadline, "the tree works on"
        return max(at for _, at in self.seen)

    def assert_ended_already(self) -> None:
        """No process holds the FIFO at this very moment, with no time given to end."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    return
            except BlockingIOError:
                pytest.fail("a process of the tree is alive")


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Marks]:
    made = Marks(tmp_path / "marks")
    yield made
    os.close(made.fd)


def command(work: str, marks: Marks) -> list[str]:
    return [sys.executable, "-c", WORK + textwrap.dedent(work), marks.path]


class Parent(Speaking):
    """A process W under test that contains a tree; all of it is killed at the end of the test."""

    def __init__(self, script: str, mode: str, marks: Marks, *wrapper: str, work: str = NASTY):
        arguments = [W + textwrap.dedent(script), mode, marks.path, WORK + textwrap.dedent(work)]
        super().__init__(*wrapper, sys.executable, "-c", *arguments)
        self.pidfds: list[int] = []

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.watch()
            self.process.kill()
        for fd in self.pidfds:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(fd)
        super().__exit__(*exc_info)

    def tree(self) -> list[int]:
        return descendants(self.process.pid)

    def watch(self) -> None:
        """Hold on to everything that lives below W now, to see its end."""
        for pid in self.tree():
            try:
                self.pidfds.append(os.pidfd_open(pid))
            except ProcessLookupError:
                pass

    def await_all_dead(self) -> None:
        for fd in self.pidfds:
            ready, _, _ = select.select([fd], [], [], LIMIT_S)
            assert ready, "a process lives on"


def run_to_end(tree: Tree, *argv: str) -> int:
    tree.start(argv)
    assert tree.wait_gone(LIMIT_S)
    status = tree.poll()
    assert status is not None
    return status


# ------------------------------------------------------------------ what is promised


def test_at_its_deadline_the_tree_ends_though_we_do_nothing(tree: Tree, marks: Marks) -> None:
    tree.extend(now() + 2)
    tree.start(command(NASTY, marks))
    marks.await_kinds("cgd")
    deadline = now() + 3
    tree.extend(deadline)
    last = marks.await_end()
    assert deadline - 1 < last < deadline + LIMIT_S
    assert tree.wait_gone(LIMIT_S)


def test_at_its_deadline_a_stopped_tree_does_not_wait_for_our_death(
    tree: Tree, marks: Marks
) -> None:
    """Init and command are stopped, and we live on and do nothing: the init's timer wakes it."""
    deadline = now() + 1.5
    tree.extend(deadline)
    tree.start(command(NASTY, marks))
    marks.await_kinds("cgd")
    os.kill(tree._init, signal.SIGSTOP)
    assert now() < deadline, "the machine is too busy for this test"
    assert marks.await_end() > deadline - 1
    assert tree.wait_gone(LIMIT_S)


def test_the_one_who_ends_the_tree_goes_before_ordinary_processes(tree: Tree, marks: Marks) -> None:
    """And what it contains does not: a command that ran ahead could starve the machine."""
    realtime = {os.SCHED_FIFO, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK}
    tree.start(command("import os\nwork(b'r' if os.sched_getscheduler(0) else b'o')", marks))
    marks.await_kinds("o")
    assert {kind for kind, _ in marks.seen} == {"o"}
    ahead = os.sched_getscheduler(tree._init) in realtime
    assert ahead is tree.containment.ahead is realtime_permitted()


def realtime_permitted() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def test_probe_tells_what_this_host_permits() -> None:
    found = probe()
    assert found.strong is (found.mode == "pidns") is PERMITTED
    assert (found.why_not_stronger is None) is PERMITTED
    assert "confirm" in found.guarantee


def test_each_mode_says_what_it_guarantees(tree: Tree, mode: str) -> None:
    assert tree.containment.mode == mode
    assert ("weaker" in tree.containment.guarantee) is (mode == "group")
    assert tree.containment.notes == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has the capability to give it up")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_without_the_capability_it_falls_back_and_says_why(marks: Marks) -> None:
    script = """
        from incumbent.errors import UnsupportedPlatform
        tree = Tree.prepare("auto")
        say(tree.containment.mode)
        say(tree.containment.why_not_stronger)
        tree.close()
        try:
            Tree.prepare("pidns")
        except UnsupportedPlatform as error:
            say(error)
    """
    wrapper = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    with Parent(script, "auto", marks, *wrapper) as parent:
        assert parent.says() == "group"
        assert "CAP_SYS_ADMIN" in parent.says()
        assert "accept the weaker" in parent.says()
        assert parent.end() == (0, "", "")


# ------------------------------------------------------------------ exit codes


def test_exit_codes_pass(mode: str) -> None:
    for script, status in [("exit 0", 0), ("exit 42", 42), ("kill -USR1 $$", 128 + 10)]:
        with Tree.prepare(mode) as tree:
            assert run_to_end(tree, "sh", "-c", script) == status
            assert tree.confirmed


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("no-such-command-anywhere", 127, "command not found"),
        ("/no/such/file", 127, "command not found"),
        ("/", 126, "Permission denied"),
        ("/etc/passwd", 126, "Permission denied"),
        ("{tmp}/no-interpreter", 126, "interpreter that it names is missing"),
        ("{tmp}/no-format", 126, "Exec format error"),
    ],
)
def test_a_command_that_cannot_be_executed_gives_one_line(
    tree: Tree, tmp_path: Path, name: str, status: int, reason: str
) -> None:
    for file, content in [("no-interpreter", "#!/no/such/thing\n"), ("no-format", "\0\1\2\3")]:
        (tmp_path / file).write_text(content)
        (tmp_path / file).chmod(0o755)
    tree.start([name.format(tmp=tmp_path)])
    assert tree.poll() == status
    assert tree.error is not None
    assert reason in tree.error
    assert "\n" not in tree.error
    assert tree.stop(1) == status


def test_a_working_directory_that_is_none(tree: Tree) -> None:
    tree.start(["true"], cwd="/no/such/folder")
    assert tree.poll() == 126
    assert tree.error == "cannot work in /no/such/folder: No such file or directory"


def test_environment_and_directory_are_those_given(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f'echo "$(pwd) $GIVEN ${{HOME-unset}}" >{out}'
    tree.start(["sh", "-c", script], env={"GIVEN": "caf\xe9", "PATH": "/bin"}, cwd=tmp_path)
    assert tree.wait_gone(LIMIT_S)
    assert out.read_text() == f"{tmp_path} caf\xe9 unset\n"


def test_an_environment_larger_than_a_socket_buffer(tree: Tree) -> None:
    env = {f"V{i}": "x" * 100_000 for i in range(12)} | {"PATH": os.environ["PATH"]}
    tree.start(["sh", "-c", "exit ${#V11}"[:-1] + "}"], env=env)
    assert tree.wait_gone(LIMIT_S)
    assert tree.poll() == 100_000 % 256


def test_the_command_has_ordinary_signals_and_no_stray_descriptors(
    tree: Tree, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = f"(grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd) >{out}"
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    try:
        assert run_to_end(tree, "sh", "-c", script) == 0
    finally:
        os.close(stray)
    blocked, ignored, *fds = out.read_text().split("\n")[:-1]
    # posix_spawn of glibc leaves its two internal signals ignored; nothing can reset these.
    internal = sum(1 << (signum - 1) for signum in range(32, signal.SIGRTMIN))
    of_python = sum(1 << (signum - 1) for signum in (signal.SIGPIPE, signal.SIGXFSZ))
    ours = Path("/proc/self/status").read_text().split("SigIgn:")[1].split()[0]
    assert int(blocked.split()[1], 16) == 0
    assert int(ignored.split()[1], 16) & ~internal == int(ours, 16) & ~of_python & ~internal
    assert len(fds) == 4  # the standard three, and that of the folder being listed


# ------------------------------------------------------------------ ending the tree


def test_stop_leaves_nothing_of_the_nastiest_tree(tree: Tree, marks: Marks) -> None:
    tree.start(command(NASTY, marks))
    marks.await_kinds("cdg")
    assert tree.stop(LIMIT_S / 2) == 128 + signal.SIGTERM
    marks.assert_ended_already()
    assert tree.gone
    assert tree.confirmed


def test_what_the_command_leaves_behind_is_killed(tree: Tree, marks: Marks) -> None:
    work = """
        daemon(b"d")
        started = now()
        work(b"c", until=lambda: now() > started + 0.1)
        sys.exit(5)
    """
    tree.start(command(work, marks))
    marks.await_kinds("cd")
    assert tree.wait_gone(LIMIT_S)
    assert tree.poll() == 5
    marks.assert_ended_already()


def test_a_graceful_end_keeps_its_exit_code(tree: Tree, marks: Marks) -> None:
    work = """
        stopping = []
        signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
        work(b"c", until=lambda: stopping)
        sys.exit(9)
    """
    tree.start(command(work, marks))
    marks.await_kinds("c")
    began = now()
    assert tree.stop(LIMIT_S) == 9
    assert now() - began < LIMIT_S / 2
    marks.assert_ended_already()


def test_the_process_group_has_its_share_of_the_grace(tree: Tree, marks: Marks) -> None:
    work = """
        stopping = []
        if os.fork():
            work(b"c")
        signal.signal(signal.SIGTERM, lambda *_: stopping.append(now()))
        work(b"w", until=lambda: stopping and now() > stopping[0] + 0.2)
        os.write(os.open(fifo, os.O_WRONLY), struct.pack("=cd", b"F", now()))
    """
    tree.start(command(work, marks))
    marks.await_kinds("cw")
    began = now()
    assert tree.stop(LIMIT_S) == 128 + signal.SIGTERM
    assert now() - began < LIMIT_S / 2
    marks.await_end()
    assert marks.seen[-1][0] == "F"


def test_grace_overrun_ends_in_kill(tree: Tree, marks: Marks) -> None:
    tree.start(command("deaf()\nwork(b'c')", marks))
    marks.await_kinds("c")
    began = now()
    assert tree.stop(0.2) == 128 + signal.SIGKILL
    assert 0.2 <= now() - began < LIMIT_S / 2
    marks.assert_ended_already()


def test_kill_gives_no_grace(tree: Tree, marks: Marks) -> None:
    tree.start(command(NASTY, marks))
    marks.await_kinds("cdg")
    tree.kill()
    assert tree.wait_gone(LIMIT_S)
    marks.assert_ended_already()
    assert tree.poll() == 128 + signal.SIGKILL


def test_a_tree_that_forks_all_the_time(tree: Tree, marks: Marks) -> None:
    work = """
        deaf()
        def breed():
            os.write(fd, struct.pack("=cd", b"b", now()))
            for _ in range(40):
                if os.fork() == 0:
                    os.setsid()
                    while True:
                        if os.fork():
                            os._exit(0)
                        os.write(fd, struct.pack("=cd", b"b", now()))
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.set_blocking(fd, True)
        breed()
        signal.pause()
    """
    tree.start(command(work, marks))
    marks.await_kinds("b")
    tree.kill()
    assert tree.wait_gone(LIMIT_S)
    marks.assert_ended_already()


def test_a_stopped_command_may_still_end_gracefully(tree: Tree, marks: Marks) -> None:
    work = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
        work(b"c")
    """
    tree.start(command(work, marks))
    marks.await_kinds("c")
    tree.signal(signal.SIGSTOP)
    assert tree.stop(LIMIT_S) == 4


def test_signals_reach_the_command_or_its_group(tree: Tree, marks: Marks) -> None:
    work = """
        me = b"g" if os.fork() == 0 else b"c"
        got = []
        for signum in (signal.SIGUSR1, signal.SIGHUP):
            signal.signal(signum, lambda *_: got.append(1))
        work(me, until=lambda: got)
        work(me.upper())
    """
    tree.start(command(work, marks))
    marks.await_kinds("cg")
    tree.signal(signal.SIGUSR1)
    marks.await_kinds("C")
    assert "G" not in {kind for kind, _ in marks.seen}
    tree.signal(signal.SIGHUP, group=True)
    marks.await_kinds("G")


def test_the_init_being_stopped_saves_nobody(tree: Tree, marks: Marks) -> None:
    tree.start(command(NASTY, marks))
    marks.await_kinds("cdg")
    os.kill(tree._init, signal.SIGSTOP)
    tree.stop(0.1)
    marks.assert_ended_already()


def test_prepared_and_never_started(tree: Tree) -> None:
    assert tree.poll() is None
    assert tree.stop(LIMIT_S) == 128 + signal.SIGKILL


@needs_namespaces
def test_the_death_of_the_init_is_the_death_of_the_namespace(marks: Marks) -> None:
    with Tree.prepare("pidns") as tree:
        tree.start(command(NASTY, marks))
        marks.await_kinds("cdg")
        os.kill(tree._init, signal.SIGKILL)
        assert tree.wait_gone(LIMIT_S)
        marks.assert_ended_already()
        assert tree.poll() == 137


def test_a_murdered_subreaper_is_no_confirmation(marks: Marks) -> None:
    with Tree.prepare("group") as tree:
        tree.start(command(NASTY, marks))
        marks.await_kinds("cdg")
        os.kill(tree._init, signal.SIGKILL)
        with pytest.raises(WorkStuck, match="cannot be confirmed"):
            tree.stop(LIMIT_S)
        assert tree.gone
        assert not tree.confirmed
        marks.await_end()
        with pytest.raises(WorkStuck):
            tree.wait_gone(LIMIT_S)


# ------------------------------------------------------------------ events


def test_the_descriptor_is_readable_when_there_is_news_and_quiet_at_the_end(
    tree: Tree, marks: Marks
) -> None:
    tree.start(command("work(b'c')", marks))
    marks.await_kinds("c")
    assert select.select([tree], [], [], 0) == ([], [], [])
    tree.request_stop(LIMIT_S)
    while not tree.gone:
        assert select.select([tree], [], [], LIMIT_S)[0] == [tree]
        tree.poll()
    assert tree.confirmed
    assert select.select([tree], [], [], 0) == ([], [], [])


def test_the_wait_is_bounded(tree: Tree, marks: Marks) -> None:
    tree.start(command("work(b'c')", marks))
    assert tree.wait_gone(0.05) is False
    assert tree.poll() is None


# ------------------------------------------------------------------ evidence of life


def test_a_lock_is_free_only_when_the_tree_is_gone(mode: str, marks: Marks, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = f"""
        tree = Tree.prepare(mode)
        fd = os.open({str(lock)!r}, os.O_RDWR | os.O_CREAT)
        fcntl.flock(fd, fcntl.LOCK_EX)
        tree.start(command, pass_fds=[fd])
        say("started")
        hold()
    """
    work = """
        os.closerange(3, 256)
        daemon(b"d")
        daemon(b"e")
        work(b"c")
    """
    with Parent(script, mode, marks, work=work) as parent:
        assert parent.says() == "started"
        marks.await_kinds("cde")
        alive_at_lock: list[bool] = []

        def contend() -> None:
            fd = os.open(lock, os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                while os.read(marks.fd, 65536):
                    pass
                alive_at_lock.append(False)
            except BlockingIOError:
                alive_at_lock.append(True)
            os.close(fd)

        fd = os.open(lock, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
        successor = threading.Thread(target=contend)
        successor.start()
        parent.process.kill()
        successor.join(LIMIT_S)
        assert alive_at_lock == [False]


def test_descriptors_arrive_under_the_numbers_they_had(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ends = [os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(3)]
    high = fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, 200)
    script = "import os, sys\nfor fd in sys.argv[1:]: os.write(int(fd), fd.encode() + b'\\n')"
    fds = [ends[2], high, ends[0], ends[1]]
    tree.start([sys.executable, "-c", script, *map(str, fds)], pass_fds=fds)
    for fd in (*ends, high):
        os.close(fd)
    assert tree.wait_gone(LIMIT_S)
    assert out.read_text().split() == [str(fd) for fd in fds]


# ------------------------------------------------------------------ the death of W

RUN = """
    tree = Tree.prepare(mode)
    tree.start(command)
    say(tree.containment.mode)
    hold()
"""


def test_the_tree_ends_when_w_is_killed(mode: str, marks: Marks) -> None:
    with Parent(RUN, mode, marks) as parent:
        assert parent.says() == mode
        marks.await_kinds("cdg")
        parent.watch()
        parent.process.kill()
        killed = now()
        assert marks.await_end() - killed < 1
        parent.await_all_dead()


def test_the_tree_ends_when_w_has_only_prepared(mode: str, marks: Marks) -> None:
    script = "tree = Tree.prepare(mode)\nsay('ready')\nhold()"
    with Parent(script, mode, marks) as parent:
        assert parent.says() == "ready"
        parent.watch()
        assert parent.pidfds
        parent.process.kill()
        parent.await_all_dead()


def test_the_tree_ends_when_w_replaces_itself(mode: str, marks: Marks) -> None:
    script = """
        signal.signal(signal.SIGUSR1, lambda *_: os.execvp("sleep", ["sleep", "60"]))
        tree = Tree.prepare(mode)
        tree.start(command)
        say(tree.containment.mode)
        hold()
    """
    with Parent(script, mode, marks) as parent:
        assert parent.says() == mode
        marks.await_kinds("cdg")
        parent.watch()
        parent.process.send_signal(signal.SIGUSR1)
        marks.await_end()
        parent.await_all_dead()
        assert parent.process.poll() is None


def test_a_forked_child_of_w_neither_keeps_the_tree_nor_ends_it(mode: str, marks: Marks) -> None:
    script = """
        from incumbent.errors import IncumbentError
        tree = Tree.prepare(mode)
        tree.start(command)
        if os.fork() == 0:
            for method in (tree.poll, tree.kill, lambda: tree.stop(0)):
                try:
                    method()
                except IncumbentError:
                    continue
                os._exit(1)
            say(os.getpid())
            hold()
        signal.signal(signal.SIGUSR1, lambda *_: say(tree.poll()))
        hold()
    """
    with Parent(script, mode, marks) as parent:
        child = int(parent.says())
        child_end = os.pidfd_open(child)
        try:
            marks.await_kinds("cdg")
            parent.process.send_signal(signal.SIGUSR1)
            assert parent.says() == "None"
            parent.process.kill()
            marks.await_end()
            assert select.select([child_end], [], [], 0) == ([], [], [])
        finally:
            signal.pidfd_send_signal(child_end, signal.SIGKILL)
            os.close(child_end)


def test_w_stopped_past_its_deadline_takes_the_tree_with_it(mode: str, marks: Marks) -> None:
    script = """
        tree = Tree.prepare(mode)
        tree.start(command)
        say("started")
        sys.stdin.read()
        deadline = now() + 0.5
        dead_man = DeadMan()
        dead_man.arm(deadline, "election 'x'")
        say(deadline)
        hold()
    """
    with Parent(script, mode, marks) as parent:
        assert parent.says() == "started"
        marks.await_kinds("cdg")
        deadline = float(parent.says())
        parent.process.send_signal(signal.SIGSTOP)
        assert marks.await_end() - deadline < 1
        assert parent.process.wait(LIMIT_S) == -signal.SIGKILL


def test_a_stopped_tree_does_nothing_on_waking(mode: str, marks: Marks) -> None:
    script = """
        tree = Tree.prepare(mode)
        tree.start(command)
        say("started")
        deadline = now() + 1.0
        dead_man = DeadMan()
        dead_man.arm(deadline, "election 'x'")
        say(deadline)
        hold()
    """
    with Parent(script, mode, marks) as parent:
        assert parent.says() == "started"
        deadline = float(parent.says())
        marks.await_kinds("cdg")
        parent.watch()
        for pid in [parent.process.pid, *parent.tree()]:
            os.kill(pid, signal.SIGSTOP)
        stopped = now()
        assert stopped < deadline, "the machine is too busy for this test"
        last = marks.await_end()
        assert last < stopped + 0.1
        assert last < deadline < now()
        parent.await_all_dead()


def test_prepare_again_and_again_in_a_process_with_threads(mode: str) -> None:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    before = os.readlink("/proc/self/ns/pid_for_children")
    try:
        for code in range(3):
            with Tree.prepare(mode) as tree:
                assert run_to_end(tree, "sh", "-c", f"exit {code}") == code
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert os.readlink("/proc/self/ns/pid_for_children") == before


def test_nothing_is_left_open(mode: str) -> None:
    def open_now() -> tuple[list[str], list[int]]:
        return sorted(os.listdir("/proc/self/fd")), children(os.getpid())

    with Tree.prepare(mode) as tree:
        run_to_end(tree, "true")
    before = open_now()
    for _ in range(3):
        with Tree.prepare(mode) as tree:
            run_to_end(tree, "true")
    assert open_now() == before


class Late:
    """Our end of the conversation, for one who is slow: his first word is answered at once."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control

    def __getattr__(self, name: str) -> Any:
        return getattr(self.control, name)

    def sendmsg(self, *arguments: Any) -> int:
        sent = self.control.sendmsg(*arguments)
        poll = select.poll()
        poll.register(self.control, select.POLLHUP)
        assert poll.poll(LIMIT_S * 1000), "the init does not end"
        return sent


def test_a_command_may_end_before_we_have_seen_it_start(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_control", Late(tree._control))
    assert run_to_end(tree, "sh", "-c", "exit 7") == 7


def test_the_init_is_small(tree: Tree) -> None:
    status = Path(f"/proc/{tree._init}/status").read_text()
    rss_kib = int(status.split("VmRSS:")[1].split()[0])
    assert rss_kib < 16 * 1024
    assert "Threads:\t1\n" in status


# ------------------------------------------------------------------ PID 1


@needs_namespaces
def test_leaving_pid_1_passes_exit_codes_and_reaps_strangers(marks: Marks) -> None:
    script = """
        assert os.getpid() == 1 and leave_pid1()
        assert os.getppid() == 1 and not leave_pid1()
        if os.fork() == 0:
            if os.fork():
                os._exit(0)
            os.execvp("sleep", ["sleep", "0"])
        os.wait()
        until = now() + 10
        while sum(name.isdigit() for name in os.listdir("/proc")) > 2 and now() < until:
            time.sleep(0.01)
        assert now() < until
        sys.exit(7)
    """
    with Parent(script, "auto", marks, *CONTAINER) as parent:
        assert parent.end() == (7, "", "")


@needs_namespaces
def test_pid_1_forwards_signals(marks: Marks) -> None:
    script = """
        leave_pid1()
        got = []
        names = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT")
        for name in names:
            signal.signal(getattr(signal, "SIG" + name), lambda n, _: (got.append(n), say(n)))
        say("ready")
        while len(got) < len(names):
            time.sleep(0.01)
    """
    with Parent(script, "auto", marks, *CONTAINER) as parent:
        assert parent.says() == "ready"
        (pid1,) = [pid for pid in parent.tree() if descendants(pid)]
        for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"):
            signum = getattr(signal, f"SIG{name}")
            os.kill(pid1, signum)
            assert parent.says() == str(int(signum))
        assert parent.end()[0] == 0


@needs_namespaces
@pytest.mark.parametrize("inner", ["pidns", "group"])
def test_the_dead_man_works_below_pid_1_and_takes_everything(inner: str, marks: Marks) -> None:
    script = """
        leave_pid1()
        tree = Tree.prepare(mode)
        tree.start(command)
        say(tree.containment.mode)
        dead_man = DeadMan()
        dead_man.arm(now() + 3, "election 'x'")
        os.kill(os.getpid(), signal.SIGSTOP)
        say("worked after the pause")
    """
    with Parent(script, inner, marks, *CONTAINER) as parent:
        assert parent.says() == inner
        marks.await_kinds("cdg")
        code, _, err = parent.end()
        marks.await_end()
        assert code == 137
        assert "main process was killed by SIGKILL" in err


@needs_namespaces
def test_stop_below_pid_1(mode: str, marks: Marks) -> None:
    script = """
        leave_pid1()
        tree = Tree.prepare(mode)
        tree.start(command)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(tree.stop(5)))
        say(tree.containment.mode)
        hold()
    """
    with Parent(script, mode, marks, *CONTAINER) as parent:
        assert parent.says() == mode
        marks.await_kinds("cdg")
        pid1 = min(pid for pid in parent.tree() if descendants(pid))
        os.kill(pid1, signal.SIGTERM)
        assert parent.end()[0] == 128 + signal.SIGTERM
        marks.await_end()


def test_a_process_that_is_not_pid_1_stays_what_it_is() -> None:
    assert leave_pid1() is False


# ------------------------------------------------------------------ misuse


def test_misuse_is_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="auto, pidns, group"):
        Tree.prepare("docker")
    with pytest.raises(ConfigError, match="no command"):
        tree.start([])
    with pytest.raises(ConfigError, match="negative"):
        tree.stop(-1)
    tree.start(["true"])
    with pytest.raises(IncumbentError, match="one run"):
        tree.start(["true"])
    tree.wait_gone(LIMIT_S)
    monkeypatch.setattr(sys, "platform", "win32")
    refused: list[Callable[[], object]] = [Tree.prepare, probe]
    for function in refused:
        with pytest.raises(UnsupportedPlatform, match="win32"):
            function()
    assert leave_pid1() is False
