"""`incumbent run`: a command of any language, and all that it starts, in one replica at a time.

The commands write marks (see `tests.faces.programs`). The kernel's order of the marks in their one
file is the order of the effects: a mark under an older token after one under a newer would be work
without a term.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from incumbent import Election, NotElected
from incumbent.cli.app import main
from tests.faces.programs import (
    LIMIT_S,
    Program,
    assert_no_overlap,
    environment,
    is_stopped,
    marks,
    until,
)
from tests.processes import CONTAINER, ORDINARY, children, namespaces_permitted, stat
from tests.servers.consul import Consul
from tests.servers.kubernetes import ApiServer
from tests.servers.proxy import Proxy

Run = Callable[..., Program]

MARKER = """
import os, signal, sys, time
path, kinds = sys.argv[1], sys.argv[2]
token = int(os.environ["INCUMBENT_TOKEN"])

def work():
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    while True:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.write(fd, b"%020d %020d %021d\\n" % (token, os.getpid(), now))
        time.sleep(0.002)

def deaf():
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)

if "d" in kinds and os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    deaf()
    os.closerange(0, 256)
    work()
if "t" in kinds:
    deaf()
if "g" in kinds:
    def graceful(*_):
        sys.exit(9)
    signal.signal(signal.SIGTERM, graceful)
work()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/store/incumbent.db"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "marks"


@pytest.fixture
def run() -> Iterator[Run]:
    """Start `incumbent run`; what comes before it is given by `under`."""
    started: list[Program] = []

    def starting(*arguments: str, under: tuple[str, ...] = (), **extra: str) -> Program:
        argv = [*under, sys.executable, "-m", "incumbent.cli", "run", *arguments]
        started.append(Program(argv, extra))
        return started[-1]

    yield starting
    for program in started:
        program.close()


def to_end(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "incumbent.cli", "run", *arguments],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT_S,
        env=environment(extra),
    )


def marker(path: Path, kinds: str = "") -> list[str]:
    return [sys.executable, "-I", "-S", "-c", MARKER, str(path), kinds]


def works(path: Path, beyond: int = 0) -> None:
    until(lambda: sum(token > beyond for token, _, _ in marks(path)) > 3, "the command works")


def works_on(path: Path) -> None:
    before = len(marks(path))
    until(lambda: len(marks(path)) > before + 20, "it works on")


def last_token(path: Path) -> int:
    return marks(path)[-1][0]


@pytest.fixture
def marking(run: Run, url: str, path: Path) -> Run:
    """Start `incumbent run` around a command that makes marks."""

    def starting(
        kinds: str, *options: str, ttl_s: float = 20, under: tuple[str, ...] = ()
    ) -> Program:
        timing = ("--ttl", str(ttl_s))
        words = ("e", "--store", url, *timing, *options, "--", *marker(path, kinds))
        return run(*words, under=under)

    return starting


@pytest.fixture
def holder(marking: Run, path: Path) -> Run:
    """The same, and see it work."""

    def starting(*arguments: Any, **options: Any) -> Program:
        program = marking(*arguments, **options)
        works(path)
        return program

    return starting


@pytest.fixture
def standby(marking: Run) -> Run:
    """The same beside a holder, and see it stand by."""

    def starting(*arguments: Any, **options: Any) -> Program:
        program = marking(*arguments, **options)
        program.error("standby")
        return program

    return starting


@contextlib.contextmanager
def taken_over(
    url: str, path: Path, *, ttl_s: float = 20, within_s: float = LIMIT_S
) -> Iterator[None]:
    """Hold after what worked, and see that it does not any more."""
    token = last_token(path)
    with Election("e", store=url, ttl_s=ttl_s).hold(timeout_s=within_s) as term:
        assert (term.token or 0) > token
        before = marks(path)
        yield
    assert marks(path) == before


needs_namespaces = pytest.mark.skipif(
    not namespaces_permitted(), reason="may not make a PID namespace"
)
MODES = [pytest.param("pidns", marks=needs_namespaces), "group"]


# ---- what the command is, and what comes back


def test_a_store_of_one_process_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "e", "--store", "memory://x", "--", "true"]) == 2
    assert "one process only" in capsys.readouterr().err


def test_what_the_command_is_told(url: str) -> None:
    done = to_end("e", "--store", url, "--as", "me", "--", "env")
    assert done.returncode == 0, done.stderr
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert told["INCUMBENT_ELECTION"] == "e"
    assert told["INCUMBENT_IDENTITY"].startswith("me_")
    assert told["INCUMBENT_TERM"].startswith(told["INCUMBENT_IDENTITY"])
    assert int(told["INCUMBENT_TOKEN"]) > 0
    assert "elected: 'e', token " + told["INCUMBENT_TOKEN"] in done.stderr


def test_quiet_says_nothing(url: str) -> None:
    done = to_end("e", "--store", url, "-q", "--", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 42"], 42, ""),
        (["sh", "-c", "kill -USR1 $$"], 128 + signal.SIGUSR1, ""),
        (["sh", "-c", "kill -KILL $$"], 137, ""),
        (["no-such-command-anywhere"], 127, "command not found"),
        (["/etc/passwd"], 126, "Permission denied"),
    ],
    ids=str,
)
def test_the_exit_code_is_the_commands_own(
    command: list[str], code: int, said: str, url: str
) -> None:
    done = to_end("e", "--store", url, "--", *command)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_the_path_that_is_closed_to_us_has_no_word(
    run: Run, url: str, tmp_path: Path
) -> None:
    """As when somebody else is made of root, and keeps root's PATH."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    path = f"{closed}:{os.environ['PATH']}"
    for command, code in ((["no-such-command-anywhere"], 127), ([f"{closed}/any"], 126)):
        program = run("e", "--store", url, "--", *command, under=ORDINARY, PATH=path)
        assert program.wait() == code


def test_what_stands_after_the_dashes_is_the_commands(url: str) -> None:
    done = to_end("e", "--store", url, "--", "echo", "--store", "--", "-q")
    assert done.stdout == "--store -- -q\n"
    done = to_end("--store", url, "e", "echo", "plain")
    assert done.stdout == "plain\n"
    assert to_end("e", "--store", url).returncode == 2
    assert to_end("e", "--store", url, "--no-such-option", "--", "true").returncode == 2


def test_the_streams_are_the_commands(run: Run, url: str) -> None:
    program = run("e", "--store", url, "-q", "--", "sh", "-c", "cat; echo ended >&2; exit 3")
    program.tell("one line")
    program.expect("one line")
    assert program.process.stdin is not None
    program.process.stdin.close()
    assert program.wait() == 3
    assert program.errors() == "ended"


def test_timing_that_cannot_be_safe_is_refused_with_the_arithmetic(url: str) -> None:
    done = to_end("e", "--store", url, "--ttl", "10", "--grace", "9", "--", "true")
    assert done.returncode == 2
    assert "W = 10 x (1-0.1)/(1+0.1)" in done.stderr
    assert "the stop, --grace 9 and 0.5 to kill, leaves" in done.stderr
    assert "raise --ttl above" in done.stderr
    assert to_end("e", "--store", url, "--ttl", "0", "--", "true").returncode == 2


def test_timing_from_the_environment_is_named_so(url: str) -> None:
    done = to_end("e", "--store", url, "--grace", "9", "--", "true", INCUMBENT_TTL="10")
    assert done.returncode == 2
    assert "INCUMBENT_TTL=10 gives W = " in done.stderr
    assert "raise INCUMBENT_TTL above" in done.stderr
    assert "lower --grace" in done.stderr
    done = to_end(
        "e", "--store", url, "--ttl", "5", "--", "true", INCUMBENT_TTL="10", INCUMBENT_RHO="3"
    )
    assert "INCUMBENT_RHO=3.0 must be between" in done.stderr
    done = to_end("e", "--store", url, "--", "true", INCUMBENT_GRACE="90")
    assert "--ttl 15 gives W" in done.stderr
    assert "INCUMBENT_GRACE=90" in done.stderr


def test_without_a_store_in_a_container_the_choices_are_named() -> None:
    done = to_end("e", "--", "true", KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert done.returncode == 2
    for choice in ("a Kubernetes Pod", "INCUMBENT_STORE", "--store", "kubernetes://"):
        assert choice in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["E!", "--", "true"], 2),
        (["e", "--store", "nothing://", "--", "true"], 2),
        (["e", "--once", "--again", "--", "true"], 2),
        (["e", "--no-wait", "--wait", "1", "--", "true"], 2),
        (["e", "--no-wait", "--again", "--", "true"], 2),
        (["e", "--wait", "-1", "--", "true"], 2),
        (["e", "--contain", "well", "--", "true"], 2),
        (["e", "--store", "sqlite:///proc/x/incumbent.db", "--", "true"], 69),
    ],
    ids=str,
)
def test_what_cannot_work_has_its_code_and_a_line(
    arguments: list[str], code: int, url: str
) -> None:
    if "--store" not in arguments:
        arguments = [arguments[0], "--store", url, *arguments[1:]]
    done = to_end(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("incumbent: error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["ls", "-l"], ["ls"], [], ["e", "sh", "-c", "true"], ["e", "--no-such", "true"]]
)
def test_who_forgets_the_dashes_is_told_of_them(arguments: list[str], url: str) -> None:
    done = to_end("--store", url, *arguments)
    assert done.returncode == 2
    assert "incumbent run NAME [options] -- COMMAND" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = to_end("--store", url, "no-such-command", "60")
    assert done.returncode == 127
    assert "'no-such-command' was taken for the election's NAME" in done.stderr
    done = to_end("e", "--store", url, "--no-such", "--", "true")
    assert "COMMAND" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("no-such-command-anywhere", 127, "no-such-command-anywhere: command not found"),
        ("/etc/passwd", 126, "/etc/passwd: cannot be executed: Permission denied"),
        ("/etc", 126, "/etc: cannot be executed: it is a folder"),
        ("", 127, "command not found"),
    ],
)
def test_what_cannot_be_run_is_refused_before_it_is_a_candidate(
    command: str, code: int, said: str, url: str
) -> None:
    with Election("e", store=url, ttl_s=20).hold():
        done = to_end("e", "--store", url, "--", command)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert to_end("e", "--store", url + "2", "--", command).returncode == code
    assert not Path(url.removeprefix("sqlite://") + "2").exists()


def test_a_command_that_vanishes_while_it_waits(run: Run, url: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    with Election("e", store=url, ttl_s=20).hold():
        program = run("e", "--store", url, "-q", "--", str(script))
        until(lambda: children(program.pid) != [], "it is ready")
        script.unlink()
    assert program.wait() == 127
    assert program.errors() == f"incumbent: error: {script}: command not found"


@pytest.mark.parametrize("mode", MODES)
def test_what_is_left_behind_is_killed_and_counted(mode: str, url: str) -> None:
    script = "sleep 60 & sleep 61 & exit 3"
    done = to_end("e", "--store", url, "--contain", mode, "--", "sh", "-c", script)
    assert done.returncode == 3
    assert "killed 2 processes that the command had left behind" in done.stderr
    done = to_end("e", "--store", url, "--contain", mode, "--", "sh", "-c", "true; exit 3")
    assert "left behind" not in done.stderr


def test_events_for_programs(url: str) -> None:
    command = ("e", "--", "sh", "-c", "sleep 60 & exit 3")
    done = to_end("--store", url, "--as", "me", "--json", *command)
    events = {event["event"]: event for event in map(json.loads, done.stderr.splitlines())}
    assert (done.returncode, list(events)) == (3, ["elected", "left-behind"])
    elected = events["elected"]
    assert set(elected) == {"event", "election", "identity", "token", "text"}
    assert (elected["election"], elected["identity"][:3]) == ("e", "me_")
    assert elected["token"] == events["left-behind"]["token"] > 0
    done = to_end("--store", url, "-v", "--json", *command)
    told = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert told == ["timing", "containment", "elected", "left-behind", "closed"]
    done = to_end("--store", "sqlite:///proc/x/incumbent.db", "--json", "-q", *command)
    assert json.loads(done.stderr)["event"] == "error"


def test_warnings_of_the_library_are_events_and_told_once(
    api_server: ApiServer, namespace: str, api_proxy: Proxy, run: Run
) -> None:
    config = api_server.kubeconfig(url=f"https://{api_proxy.address}")
    store = f"kubernetes://{namespace}?kubeconfig={config}"
    program = run("e", "--json", "--store", store, "--ttl", "5", "--", "sleep", "60")
    program.error("standby")
    api_proxy.refuse()
    told: list[dict[str, Any]] = []
    while not told or told[-1]["event"] != "take-failed":
        told.append(json.loads(program.error("")))
    program.send(signal.SIGTERM)
    assert program.wait() == 143
    assert "cannot follow e" in "".join(e["text"] for e in told if e["event"] == "log")
    assert sum(event["text"] == told[-1]["text"] for event in told) == 1


def test_options_may_stand_before_the_command(url: str) -> None:
    argv = [sys.executable, "-m", "incumbent", "-q", "--store", url, "run", "e", "--", "env"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"INCUMBENT_STORE={url}" in done.stdout.splitlines()


@pytest.mark.parametrize(
    "arguments", [["run", "e", "-q", "--", "true"], ["status"], ["watch", "e", "--for", "0.1"]]
)
def test_nothing_is_left_open_at_the_end(arguments: list[str], url: str) -> None:
    assert to_end("e", "--store", url, "--", "true").returncode == 0
    argv = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-m", "incumbent"]
    done = subprocess.run(
        [*argv, "-q", "--store", url, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=environment(),
    )
    # asyncio's debug mode reports callbacks that a busy machine made slow; nothing is open by that.
    said = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, said) == (0, [])


def test_a_reader_that_goes_away_does_not_end_the_command(url: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "incumbent", "run", "e", "--store", url, "--", "sh", "-c"]
    done = subprocess.run(
        [*argv, "sleep 60 & echo ended"], check=False, stdout=-1, stderr=writer, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, "ended\n")


# ---- waiting


def test_who_does_not_wait_gets_75_and_never_runs(url: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with Election("e", store=url, ttl_s=20).hold():
        for waiting in (["--no-wait"], ["--wait", "0.3"]):
            done = to_end("e", "--store", url, *waiting, "--", "touch", str(ran))
            assert done.returncode == 75
            assert "is held by" in done.stderr
    assert not ran.exists()
    assert to_end("e", "--store", url, "--no-wait", "--", "touch", str(ran)).returncode == 0
    assert ran.exists()


def test_who_gives_up_does_not_run_although_it_is_elected_in_that_moment(
    run: Run, url: str, tmp_path: Path
) -> None:
    """Whatever comes first: either it ran and the code is the command's, or neither."""
    for number in range(6):
        ran = tmp_path / f"ran{number}"
        with Election("e", store=url, ttl_s=20).hold():
            program = run("e", "--store", url, "--wait", "0.2", "--", "touch", str(ran))
            program.error("standby")
        code = program.wait()
        assert (code, ran.exists()) in [(0, True), (75, False)]


def test_waiting_can_be_ended(standby: Run, url: str, path: Path) -> None:
    with Election("e", store=url, ttl_s=20).hold():
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            program = standby("")
            program.send(number)
            assert program.wait() == code
    assert marks(path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGQUIT, 131)])
def test_a_standby_ends_of_what_would_end_it(
    number: signal.Signals, code: int, run: Run, url: str, path: Path
) -> None:
    with Election("e", store=url, ttl_s=20).hold():
        program = run("e", "--store", url, "--", *marker(path))
        program.error("standby")
        program.send(signal.SIGUSR1)
        program.error("SIGUSR1 came, and there is no command")
        program.send(number)
        assert program.wait() == code
    assert marks(path) == []


@pytest.mark.parametrize(
    ("under", "number"),
    [
        (("nohup",), signal.SIGHUP),
        (("sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh"), signal.SIGINT),
    ],
    ids=["nohup", "behind an ampersand"],
)
def test_what_is_ignored_from_the_start_is_nobodys(
    under: tuple[str, ...], number: signal.Signals, run: Run, url: str, path: Path
) -> None:
    with Election("e", store=url, ttl_s=20).hold():
        program = run("e", "--store", url, "--", *marker(path), under=under)
        program.error("standby")
        program.send(number)
        program.send(signal.SIGUSR1)
        program.error("SIGUSR1 came")
    works(path)
    program.send(number)
    before = len(marks(path))
    until(lambda: len(marks(path)) > before + 20, "it works on")
    program.send(signal.SIGTERM)
    assert program.wait() == 143
    program = run("e", "--store", url, "--", "grep", "SigIgn", "/proc/self/status", under=under)
    assert int(program.line().split()[1], 16) >> (number - 1) & 1


def test_a_standby_whose_waiting_init_was_killed_makes_another(
    standby: Run, url: str, path: Path
) -> None:
    with Election("e", store=url, ttl_s=20).hold():
        program = standby("", "--contain", "group")
        (init,) = children(program.pid)
        os.kill(init, signal.SIGKILL)
        program.error("making another")
        spent = _cpu_ticks(program.pid)
        until(lambda: children(program.pid) not in ([], [init]), "there is another")
    works(path)
    assert _cpu_ticks(program.pid) - spent < 100
    program.send(signal.SIGTERM)
    assert program.wait() == 143


# ---- the end of a term


@pytest.mark.parametrize("mode", MODES)
def test_the_whole_tree_is_gone_before_another_begins(
    mode: str, holder: Run, standby: Run, path: Path
) -> None:
    options = ("--grace", "0.3", "--contain", mode)
    first = holder("dt", *options)
    second = standby("g", *options)
    token = last_token(path)
    began = time.monotonic()
    first.send(signal.SIGTERM)
    works(path, beyond=token)
    assert time.monotonic() - began < 10
    assert first.wait() == 137
    assert "the grace is over" in first.errors()
    second.send(signal.SIGTERM)
    assert second.wait() == 9
    assert len(assert_no_overlap(path)) == 2


def test_the_first_signal_asks_and_the_second_kills(holder: Run, path: Path) -> None:
    program = holder("t", "--grace", "25", ttl_s=60)
    program.send(signal.SIGTERM)
    works_on(path)
    program.send(signal.SIGTERM)
    assert program.wait(10) == 137


def test_other_signals_are_forwarded(run: Run, url: str) -> None:
    script = (
        "import signal,sys\n"
        "for n in ('HUP','USR1','USR2','QUIT'):\n"
        "    signal.signal(getattr(signal,'SIG'+n), lambda s,f: print(signal.Signals(s).name,"
        " flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    program = run("e", "--store", url, "--", sys.executable, "-c", script)
    program.expect("ready")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        program.send(number)
        program.expect(number.name)
    program.send(signal.SIGINT)
    assert program.wait() in (1, 130)


@pytest.mark.parametrize("mode", MODES)
def test_the_wrapper_is_killed_and_the_tree_with_it(
    mode: str, holder: Run, standby: Run, path: Path
) -> None:
    first = holder("dt", "--contain", mode)
    standby("")
    token = last_token(path)
    began = time.monotonic()
    first.send(signal.SIGKILL)
    works(path, beyond=token)
    assert time.monotonic() - began < 10, "the kernel's word was not heard"
    assert len(assert_no_overlap(path)) == 2


@pytest.mark.parametrize("mode", MODES)
def test_the_wrapper_is_stopped_and_killed_by_its_deadline_and_the_tree_with_it(
    mode: str, holder: Run, standby: Run, path: Path
) -> None:
    first = holder("dt", "--contain", mode, ttl_s=2)
    standby("", ttl_s=2)
    token = last_token(path)
    first.send(signal.SIGSTOP)
    works(path, beyond=token)
    first.send(signal.SIGCONT)
    assert first.wait() == -9
    works_on(path)
    assert len(assert_no_overlap(path)) == 2


def test_stopped_for_a_moment_it_works_on(holder: Run, path: Path) -> None:
    program = holder("g")
    program.send(signal.SIGSTOP)
    until(lambda: is_stopped(program.pid), "it is stopped")
    program.send(signal.SIGCONT)
    works_on(path)
    program.send(signal.SIGTERM)
    assert program.wait() == 9
    assert len(assert_no_overlap(path)) == 1


def test_where_the_end_cannot_be_confirmed_it_is_said_and_never_released(
    holder: Run, url: str, path: Path
) -> None:
    """The subreaper is killed from outside: the wrapper must not hold the election for ever."""
    first = holder("t", "--contain", "group", ttl_s=2)
    first.error("weaker than a PID namespace")
    (subreaper,) = children(first.pid)
    os.kill(subreaper, signal.SIGKILL)
    first.error("cannot be confirmed")
    with taken_over(url, path, ttl_s=2):
        assert first.wait() == -9


# ---- once, again, and lost stores


def test_lost_it_is_stopped_and_started_again_when_elected_again(
    holder: Run, url: str, path: Path
) -> None:
    program = holder("g", ttl_s=2)
    token = last_token(path)
    Path(url.removeprefix("sqlite://")).unlink()
    program.error("stopping")
    works(path, beyond=token)
    program.send(signal.SIGTERM)
    assert program.wait() == 9
    assert len(assert_no_overlap(path)) == 2


def test_once_is_the_first_term_and_no_more(holder: Run, url: str, path: Path) -> None:
    assert to_end("e", "--store", url, "--once", "--", "sh", "-c", "exit 5").returncode == 5
    program = holder("g", "--once", ttl_s=2)
    Path(url.removeprefix("sqlite://")).unlink()
    assert program.wait() == 75
    assert len(assert_no_overlap(path)) == 1


def test_again_is_again_also_after_the_commands_own_end(run: Run, url: str, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    script = f"echo $INCUMBENT_TOKEN >>{out}; exit 1"
    program = run("e", "--store", url, "--ttl", "1", "--again", "--", "sh", "-c", script)
    until(lambda: out.exists() and len(out.read_text().split()) >= 3, "it was run three times")
    program.send(signal.SIGTERM)
    assert program.wait() in (1, 143)
    tokens = [int(token) for token in out.read_text().split()]
    assert tokens == sorted(set(tokens))


# ---- as PID 1 of a container


@needs_namespaces
@pytest.mark.parametrize(
    ("command", "code"),
    [(["sh", "-c", "exit 42"], 42), (["no-such-command-anywhere"], 127)],
    ids=["own", "not found"],
)
def test_as_the_first_process_of_a_container(
    command: list[str], code: int, run: Run, url: str
) -> None:
    program = run("e", "--store", url, "--", *command, under=CONTAINER)
    assert program.wait() == code


@needs_namespaces
def test_options_before_the_command_leave_it_the_first_process(run: Run, url: str) -> None:
    argv = [*CONTAINER, sys.executable, "-m", "incumbent", "--store", url, "run", "e", "--", "env"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "INCUMBENT_ELECTION=e" in done.stdout


@needs_namespaces
def test_a_container_is_told_to_stop(holder: Run, url: str, path: Path) -> None:
    program = holder("dg", under=CONTAINER)
    (first,) = children(program.pid)
    os.kill(first, signal.SIGTERM)
    with taken_over(url, path, within_s=10):
        assert program.wait() == 9


@needs_namespaces
def test_a_stopped_container_is_killed_by_its_deadline(holder: Run, url: str, path: Path) -> None:
    """PID 1 of a namespace ignores its own timer: so the one with the timer is not PID 1."""
    program = holder("dt", ttl_s=2, under=CONTAINER)
    (first,) = children(program.pid)
    (wrapper,) = children(first)
    os.kill(wrapper, signal.SIGSTOP)
    with taken_over(url, path, ttl_s=2):
        assert program.wait() == 137
    assert "SIGKILL" in program.errors()


@needs_namespaces
def test_a_killed_container_leaves_the_election_at_once(holder: Run, url: str, path: Path) -> None:
    program = holder("dt", under=CONTAINER)
    (first,) = children(program.pid)
    os.kill(first, signal.SIGKILL)
    with taken_over(url, path, within_s=10):
        assert program.wait() != 0


def test_a_child_that_closed_everything_still_counts_as_the_holder(
    holder: Run, url: str, path: Path
) -> None:
    """The lock is held by the tree's own init: as long as anything works, there is no evidence."""
    program = holder("dt")
    with pytest.raises(NotElected), Election("e", store=url, ttl_s=20).hold(timeout_s=0.5):
        pytest.fail("two hold")
    program.send(signal.SIGKILL)
    with taken_over(url, path, within_s=10):
        assert program.wait() == -9


def _cpu_ticks(pid: int) -> int:
    return int(stat(pid, 11)) + int(stat(pid, 12))


def test_why_a_first_start_waits_is_said(consul: Consul, consul_prefix: str, url: str) -> None:
    """A missing record proves nothing there; where it does, nothing is waited for."""
    words = ["bill", "--ttl", "5", "--no-wait", "--store"]
    done = to_end(*words, consul.url(consul_prefix), "--", "true")
    assert done.returncode == 75
    why = "'bill' has no record here; waiting one TTL (5 s), because a record could have been lost"
    assert done.stderr.count(why) == 2, done.stderr  # As a standby, and as the reason.
    done = to_end(*words, url, "--", "true")
    assert (done.returncode, "has no record" in done.stderr) == (0, False), done.stderr
