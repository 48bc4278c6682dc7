"""`incumbent probe`: what is alive says so, what is not is silent; nobody is asked who leads."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from incumbent.cli import answering
from incumbent.cli.answering import Answers
from incumbent.errors import ConfigError
from tests.cli.processes import command, run, run_python
from tests.faces.programs import Program, is_stopped, until
from tests.processes import children
from tests.servers.kubernetes import ApiServer
from tests.servers.proxy import Proxy

WORK = ("sh", "-c", "echo works; exec sleep 600")
DEAF = ("sh", "-c", "trap '' TERM; echo works; while :; do sleep 600; done")
Start = Callable[..., Program]
LIMIT_S = 30.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/incumbent.db"


@pytest.fixture
def at(tmp_path: Path) -> str:
    return str(tmp_path / "probe")


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    """Start `incumbent run --probe PATH`."""
    started: list[Program] = []

    def starting(
        path: str, *options: str, store: str = url, work: tuple[str, ...] = WORK, **extra: str
    ) -> Program:
        words = ("e", "--store", store, "--probe", path, *options, "--", *work)
        started.append(Program(command("run", *words), extra))
        return started[-1]

    yield starting
    for program in started:
        program.close()


def state(path: str, *words: str) -> str:
    """Ask; return what is answered, and see that the exit code agrees."""
    done = run("probe", "--json", path, *words)
    assert done.code == (0 if done.json["alive"] else 1), done
    assert done.json["why"]
    found: str = done.json["state"]
    return found


def test_a_standby_is_as_alive_as_the_one_that_works(start: Start, tmp_path: Path) -> None:
    first, second = str(tmp_path / "1"), str(tmp_path / "2")
    start(first).expect("works")
    start(second).error("standby")
    assert state(first) == "active"
    assert state(second) == "standby"
    done = run("probe", first)
    assert (done.code, done.out) == (0, "alive: the command runs here\n")
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o600


def test_a_stopped_wrapper_is_silent_and_one_that_goes_on_answers_all(
    start: Start, at: str
) -> None:
    program = start(at, "--ttl", "600")
    program.expect("works")
    program.send(signal.SIGSTOP)
    until(lambda: is_stopped(program.pid), "it is stopped")
    done = run("probe", "--timeout", "0.2", at)
    assert (done.code, done.out) == (1, f"not alive: no answer within 0.2 s at {at}\n")
    impatient = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(12)]
    for asking in impatient:
        asking.connect(at)
        asking.close()
    program.send(signal.SIGCONT)
    assert state(at) == "active"


BLOCKED = """
import sys, threading, time
from incumbent.cli.__main__ import main
from incumbent.runtime.keeper import Keeper

def block():
    sys.stdin.readline()
    Keeper.current().loop.call_soon_threadsafe(time.sleep, 600)
    print("blocked", flush=True)

threading.Thread(target=block, daemon=True).start()
sys.exit(main(sys.argv[1:]))
"""


def test_a_keeper_that_does_not_turn_is_no_life(url: str, at: str) -> None:
    words = ("run", "e", "--store", url, "--ttl", "600", "--probe", at, "--", *WORK)
    program = Program([sys.executable, "-c", BLOCKED, *words])
    try:
        program.expect("works")
        assert state(at) == "active"
        program.tell()
        program.expect("blocked")
        assert state(at, "--timeout=0.3") == "silent"
    finally:
        program.close()


def test_neither_the_store_nor_leadership_is_asked(
    start: Start, at: str, api_server: ApiServer, api_proxy: Proxy, namespace: str
) -> None:
    config = api_server.kubeconfig(url=f"https://{api_proxy.address}", namespace=namespace)
    store = f"kubernetes://{namespace}"
    program = start(at, "--ttl", "3", store=store, KUBECONFIG=str(config))
    program.expect("works")
    assert state(at) == "active"
    api_proxy.cut()
    program.error("stopping")
    until(lambda: state(at) == "standby", "the command is stopped")
    assert state(at) == "standby"


def test_work_that_is_known_to_be_stuck_is_no_life(start: Start, at: str) -> None:
    program = start(at, "--ttl", "60", "--contain", "group", work=DEAF)
    program.expect("works")
    (subreaper,) = children(program.pid)
    os.kill(subreaper, signal.SIGKILL)
    program.error("cannot be confirmed")
    assert state(at) == "stuck"


# -- the user's own question ----------------------------------------------------------------------


def test_a_command_is_asked_only_where_the_work_runs(start: Start, tmp_path: Path) -> None:
    first, second = str(tmp_path / "1"), str(tmp_path / "2")
    asked = tmp_path / "asked"
    start(first).expect("works")
    start(second).error("standby")
    question = ("--", "sh", "-c", f"echo asked >> {asked}; exit 3")
    assert run("probe", second, *question).code == 0
    assert not asked.exists()
    assert run("probe", first, *question).code == 3
    assert asked.read_text() == "asked\n"
    done = run("probe", first, "--", "no-such-program")
    assert done.code == 1
    assert "no-such-program cannot be run: No such file" in done.out


# -- the path -------------------------------------------------------------------------------------


def test_the_path_of_a_dead_one_is_taken_over_and_that_of_a_live_one_is_not(
    start: Start, at: str, url: str
) -> None:
    first = start(at)
    first.expect("works")
    words = ("run", "e", "--store", url, "--probe", at, "--", *WORK)
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert "another `incumbent run` answers there" in done.err
    first.send(signal.SIGKILL)
    assert first.wait() == -9
    assert Path(at).exists()
    assert state(at) == "silent"
    second = start(at)
    second.expect("works")
    assert state(at) == "active"
    second.send(signal.SIGTERM)
    second.wait()
    assert not Path(at).exists()


class Pausing(socket.socket):
    """A socket whose first owner lets another one begin, at one step of its own beginning."""

    step = ""
    meanwhile: Callable[[], None] | None = None

    def bind(self, address: Any) -> None:
        super().bind(address)
        self._reached("bound")

    def connect(self, address: Any) -> None:
        try:
            super().connect(address)
        finally:
            self._reached("looked")

    def close(self) -> None:
        super().close()
        self._reached("closed")

    @classmethod
    def _reached(cls, step: str) -> None:
        act = cls.meanwhile
        if act is not None and step == cls.step:
            cls.meanwhile = None
            act()


@pytest.mark.parametrize("step", ["bound", "looked"])
def test_of_two_that_begin_at_once_one_is_refused(
    at: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one begins when this one has looked at what is there, or does not listen yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(at)
    waits, ends = threading.Event(), threading.Event()
    ended: list[Answers | ConfigError] = []

    def begin() -> None:
        try:
            ended.append(Answers(at))
        except ConfigError as error:
            ended.append(error)
        finally:
            waits.set()
            ends.set()

    def flock(folder: int, operation: int) -> None:
        try:
            fcntl.flock(folder, operation)
        except BlockingIOError:
            waits.set()
            raise

    def meanwhile() -> None:
        threading.Thread(target=begin, daemon=True).start()
        assert waits.wait(LIMIT_S)

    monkeypatch.setattr(Pausing, "step", step)
    monkeypatch.setattr(Pausing, "meanwhile", staticmethod(meanwhile))
    monkeypatch.setattr(answering, "socket", SimpleNamespace(**vars(socket) | {"socket": Pausing}))
    monkeypatch.setattr(answering, "fcntl", SimpleNamespace(**vars(fcntl) | {"flock": flock}))
    with closing(Answers(at)) as first:
        assert ends.wait(LIMIT_S)
        (other,) = ended
        if isinstance(other, Answers):
            other.close()
        assert "another `incumbent run` answers there" in str(other)
        assert answered_by(first, at), "it is asked, and nobody else"
    assert not Path(at).exists()


def answered_by(answers: Answers, at: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(LIMIT_S)
        asking.connect(at)
        for reply in answers.take():
            reply(b"here")
        return asking.recv(8) == b"here"


def test_a_file_that_the_next_one_made_is_left_alone(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one begins when this one does not listen any more, and may get the same inode."""
    begun: list[Answers] = []
    monkeypatch.setattr(answering, "socket", SimpleNamespace(**vars(socket) | {"socket": Pausing}))
    first = Answers(at)
    monkeypatch.setattr(Pausing, "step", "closed")
    monkeypatch.setattr(Pausing, "meanwhile", staticmethod(lambda: begun.append(Answers(at))))
    first.close()
    with closing(begun[0]) as second:
        assert answered_by(second, at)


def test_a_folder_that_somebody_keeps_locked_is_named(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "LIMIT_S", 0.05)
    folder = os.open(Path(at).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="has been locked by another process"):
            Answers(at)
    finally:
        os.close(folder)
    assert not Path(at).exists()


def test_a_file_that_is_no_socket_is_left_alone(at: str, url: str) -> None:
    Path(at).write_text("mine")
    for path in (at, "", f"{at}/below", "x" * 200):
        done = run("run", "e", "--store", url, "--probe", path, "--", "true")
        assert (done.code, done.out) == (2, "")
        assert "--probe" in done.err
        assert len(done.err.splitlines()) == 1
    assert Path(at).read_text() == "mine"


def test_where_there_is_nobody(at: str) -> None:
    done = run("probe", at)
    assert (done.code, done.out) == (
        1,
        f"not alive: nobody answers at {at}: No such file or directory\n",
    )


# -- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "say which PATH"),
        (["a", "b"], "'b' is one PATH too many"),
        (["a", "--tiemout", "1"], "there is no option '--tiemout'"),
        (["a", "--timeout", "x"], "--timeout 'x' is not a number"),
        (["a", "--timeout=0"], "--timeout '0' is not a number"),
        (["a", "--timeout=nan"], "--timeout 'nan' is not a number"),
        (["a", "--timeout"], "--timeout '' is not a number"),
        (["a", "--"], "there is no COMMAND after the `--`"),
    ],
)
def test_bad_input_is_one_line(words: list[str], text: str) -> None:
    done = run("probe", *words)
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert len(done.err.splitlines()) == 1


def test_it_is_one_of_the_commands(at: str) -> None:
    assert "incumbent probe [--json]" in run("probe", "--help").out
    assert "incumbent probe [--json]" in run("-v", "probe", "-h").out
    assert json.loads(run("--json", "probe", at).out)["state"] == "silent"
    assert run("-q", "probe", at).code == 1


def test_it_imports_next_to_nothing(at: str) -> None:
    done = run_python(
        "import sys; from incumbent.cli.__main__ import main\n"
        f"code = main(['probe', {at!r}])\n"
        "heavy = ('click', 'rich', 'asyncio', 'ssl', 'json', 'incumbent.runtime')\n"
        "print(code, [name for name in heavy if name in sys.modules])"
    )
    assert done.out.splitlines()[-1] == "1 []"
