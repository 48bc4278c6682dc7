"""The dead-man kills real processes: each test is a child whose marks come through a pipe."""

import ctypes
import os
import signal
import sys
import textwrap
import time

import pytest

from incumbent.errors import IncumbentError, UnsupportedPlatform
from incumbent.runtime import deadman
from incumbent.runtime.deadman import DeadMan, supported
from tests.processes import CONTAINER, namespaces_permitted
from tests.runtime.speaking import Speaking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a kernel timer of Linux")

PROMPT_S = 2.0

PRELUDE = """
import ctypes, os, signal, sys, threading, time
from incumbent.errors import IncumbentError, UnsupportedPlatform
from incumbent.runtime.deadman import DeadMan, supported

def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)

def mark(word):
    os.write(1, (word + "\\n").encode())

def hang_with_the_gil():
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
"""


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Child(Speaking):
    """A Python process under test."""

    def __init__(self, script: str, *wrapper: str) -> None:
        super().__init__(*wrapper, sys.executable, "-c", PRELUDE + textwrap.dedent(script))


def test_a_stopped_process_is_killed_at_the_deadline_and_does_nothing_on_waking() -> None:
    script = """
        deadline = now() + 3
        DeadMan().arm(deadline, "election 'a': paused")
        mark(repr(deadline))
        signal.pause()
        mark("worked after the pause")
    """
    with Child(script) as child:
        deadline = float(child.says())
        child.process.send_signal(signal.SIGSTOP)
        pid, status = os.waitpid(child.process.pid, os.WUNTRACED)
        assert (pid, os.WIFSTOPPED(status)) == (child.process.pid, True)
        code, out, _ = child.end()
        assert code == -signal.SIGKILL
        assert out == ""
        assert 0 <= now() - deadline < PROMPT_S


def test_a_c_call_that_holds_the_gil_is_killed_and_says_so_before() -> None:
    script = """
        def other():
            while True:
                time.sleep(0.01)
        threading.Thread(target=other, daemon=True).start()
        deadline = now() + 0.4
        DeadMan().arm(deadline, "election 'billing' at 100%: last renewal confirmed 9 s ago")
        mark(repr(deadline))
        hang_with_the_gil()
    """
    with Child(script) as child:
        deadline = float(child.says())
        code, _, err = child.end()
        assert code == -signal.SIGKILL
        assert 0 <= now() - deadline < PROMPT_S
        (line,) = [line for line in err.splitlines() if "incumbent: " in line]
        assert "dead-man" in line
        assert line.endswith("election 'billing' at 100%: last renewal confirmed 9 s ago")
        assert "in hang_with_the_gil" in err
        assert "in other" in err


def test_a_message_that_renewals_changed_is_the_one_that_is_written() -> None:
    script = """
        dead_man = DeadMan()
        dead_man.arm(now() + 60, "a long message that is first, with a tail to overwrite")
        dead_man.arm(now() + 60, "%n%s%")
        dead_man.arm(now() + 3, "two\\nlines\\x1b[31m")
        hang_with_the_gil()
    """
    with Child(script) as child:
        code, _, err = child.end()
        assert code == -signal.SIGKILL
        assert any(line.endswith("): two lines [31m") for line in err.splitlines())


def test_per_cent_signs_and_length_do_no_harm() -> None:
    script = """
        DeadMan().arm(now() + 3, "x" * (2048 - int(sys.argv[1])) + "%" * 5000)
        hang_with_the_gil()
    """
    for offset in (200, 201):
        with Child(script.replace("sys.argv[1]", str(offset))) as child:
            code, _, err = child.end()
            assert code == -signal.SIGKILL
            assert any(line.rstrip("%").endswith("xxx") for line in err.splitlines())


def test_renewals_keep_it_alive_past_the_first_deadline() -> None:
    script = """
        dead_man = DeadMan()
        first = now() + 0.3
        while now() < first + 0.5:
            dead_man.arm(now() + 0.3, "renewed")
            time.sleep(0.01)
        dead_man.disarm()
        assert dead_man.armed_until is None
        mark("alive")
        sys.stdin.read()
    """
    with Child(script) as child:
        assert child.says() == "alive"


def test_disarmed_and_closed_it_lets_live() -> None:
    script = """
        for end in (DeadMan.disarm, DeadMan.close):
            dead_man = DeadMan()
            dead_man.arm(now() + 0.2, "over")
            end(dead_man)
            assert dead_man.armed_until is None
        past_both = now() + 0.3
        while now() < past_both:
            time.sleep(0.02)
        mark("alive")
    """
    with Child(script) as child:
        assert child.end() == (0, "alive\n", "")


def test_a_deadline_in_the_past_kills_at_once() -> None:
    script = """
        DeadMan().arm(now() - 1, "late")
        while True:
            pass
    """
    with Child(script) as child:
        assert child.end()[0] == -signal.SIGKILL


def test_a_forked_child_lives_on_and_its_object_is_void() -> None:
    script = """
        dead_man = DeadMan()
        deadline = now() + 0.3
        dead_man.arm(deadline, "parent")
        if os.fork() == 0:
            while now() < deadline + 0.3:
                time.sleep(0.02)
            assert dead_man.armed_until is None
            try:
                dead_man.arm(now() + 9, "child")
            except IncumbentError as error:
                mark(f"child alive: {error}")
            dead_man.disarm()
            dead_man.close()
            own = DeadMan()
            own.arm(now() + 9, "own")
            own.close()
            mark("child may have its own")
            os._exit(0)
        hang_with_the_gil()
    """
    with Child(script) as child:
        code, out, _ = child.end()
        assert code == -signal.SIGKILL
        first, second = out.splitlines()
        assert first.startswith("child alive: ")
        assert "void" in first
        assert second == "child may have its own"


def test_exec_deletes_the_timer() -> None:
    script = """
        deadline = now() + 0.2
        DeadMan().arm(deadline, "before exec")
        rest = f'''
        import os, time
        while time.clock_gettime(time.CLOCK_BOOTTIME) < {deadline} + 0.3:
            time.sleep(0.02)
        print("alive")
        '''
        import textwrap
        os.execv(sys.executable, [sys.executable, "-c", textwrap.dedent(rest)])
    """
    with Child(script) as child:
        assert child.end() == (0, "alive\n", "")


def test_a_signal_that_the_user_handles_is_left_alone() -> None:
    script = """
        import faulthandler
        mine = signal.SIGRTMAX - 2
        by_c = signal.SIGRTMAX - 3
        signal.signal(mine, lambda *_: mark("mine"))
        faulthandler.register(by_c, file=1, all_threads=False)
        dead_man = DeadMan()
        signal.raise_signal(mine)
        signal.raise_signal(by_c)
        dead_man.arm(now() + 0.2, "x")
        hang_with_the_gil()
    """
    with Child(script) as child:
        code, out, err = child.end()
        assert code == -signal.SIGKILL
        assert out.startswith("mine\n")
        assert "most recent call first" in out
        assert "in hang_with_the_gil" in err


@pytest.mark.skipif(not namespaces_permitted(), reason="may not make a PID namespace")
def test_pid_1_refuses_and_names_the_way_out() -> None:
    script = """
        assert os.getpid() == 1
        mark(supported())
        try:
            DeadMan()
        except UnsupportedPlatform as error:
            mark(str(error))
    """
    with Child(script, *CONTAINER) as child:
        code, out, _ = child.end()
        assert code == 0
        reason, raised = out.splitlines()
        assert reason == raised
        assert "PID 1" in reason
        for way_out in ("incumbent run", "docker run --init", "shareProcessNamespace: true"):
            assert way_out in reason


@pytest.mark.skipif(not namespaces_permitted(), reason="may not make a PID namespace")
def test_the_kernel_fact_behind_that_refusal() -> None:
    script = """
        import incumbent.runtime.deadman as module
        real, os.getpid = os.getpid, lambda: 4711
        dead_man = DeadMan()
        os.getpid = real
        deadline = now() + 0.2
        dead_man.arm(deadline, "ignored")
        while now() < deadline + 0.2:
            time.sleep(0.02)
        mark("PID 1 outlived its SIGKILL")
    """
    with Child(script, *CONTAINER) as child:
        code, out, _ = child.end()
        assert (code, out) == (0, "PID 1 outlived its SIGKILL\n")


def test_instants_that_would_disarm_or_mean_nothing_are_refused() -> None:
    dead_man = DeadMan()
    dead_man.arm(deadline := now() + 600, "x")
    try:
        for nonsense in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="BOOTTIME"):
                dead_man.arm(nonsense, "x")
        assert dead_man.armed_until == deadline
    finally:
        dead_man.close()
    dead_man.close()
    with pytest.raises(IncumbentError, match="closed"):
        dead_man.arm(now() + 600, "x")


def test_supported_says_nothing_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supported() is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "darwin" in (supported() or "")
    with pytest.raises(UnsupportedPlatform, match="Linux"):
        DeadMan()


def test_no_room_for_a_timer_is_said_and_leaks_none() -> None:
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))
        try:
            DeadMan()
        except IncumbentError as error:
            mark(str(error))
    """
    with Child(script) as child:
        code, out, err = child.end()
        assert (code, err) == (0, "")
        assert "pending signals" in out


def test_a_renewal_costs_microseconds() -> None:
    dead_man = DeadMan()
    costs_ns = []
    try:
        for _ in range(2000):
            deadline = now() + 600
            began_ns = time.perf_counter_ns()
            dead_man.arm(deadline, "election 'x': renewed")
            costs_ns.append(time.perf_counter_ns() - began_ns)
    finally:
        dead_man.close()
    assert sorted(costs_ns)[len(costs_ns) // 2] < 100_000


def test_the_structures_are_as_large_as_the_kernels() -> None:
    assert ctypes.sizeof(deadman._SigEvent) >= 64
    assert ctypes.sizeof(deadman._ITimerSpec) == 4 * ctypes.sizeof(ctypes.c_long)
