"""SIGTERM and `stop` for work on the main thread: what has begun ends, the lease is given up."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from incumbent.core.records import Holding
from tests.faces.ending import holding, outcomes
from tests.faces.programs import Start

JOB = {
    "sync": """
        @incumbent.every("50ms", name="w", store=sys.argv[1], ttl_s=15)
        def job(tick):
            say("begin")
            tick.term.on_lost(lambda _: say("stopping"))
            hear()
            say("end")

        try:
            job.run()
            say("it goes on")
        finally:
            say("left")
    """,
    "aio": """
        there = asyncio.Event()

        async def ended(tick):
            while not tick.lost.is_set():
                await asyncio.sleep(0.01)

        @aio.every("50ms", name="w", store=sys.argv[1], ttl_s=15)
        async def job(tick):
            await there.wait()
            say("begin")
            await asyncio.shield(ended(tick))

        @aio.every("50ms", name="other", store=sys.argv[1], ttl_s=15)
        async def other(tick):
            there.set()
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.3)
                say("cleaned up")

        async def main():
            await asyncio.gather(other.run(), job.run())
            say("it goes on")

        try:
            asyncio.run(main())
        finally:
            say("left")
    """,
}


def test_a_run_in_a_thread_comes_to_its_end(start: Start, url: str) -> None:
    program = start(JOB["sync"], url)
    program.expect("begin")
    program.send(signal.SIGTERM)
    program.expect("stopping")
    program.tell()
    assert [program.line(), program.line()] == ["end", "left"]
    assert program.wait() == 143
    assert holding(url, "w") is Holding.VACANT
    assert outcomes(url, "w") == ["done"]


def test_all_work_of_a_loop_ends_before_the_program_does(start: Start, url: str) -> None:
    program = start(JOB["aio"], url)
    program.expect("begin")
    program.send(signal.SIGTERM)
    assert [program.line(), program.line()] == ["cleaned up", "left"]
    assert program.wait() == 143
    said = program.errors().splitlines()
    assert said
    assert all("was cut short by the end of the term" in line for line in said), said
    assert holding(url, "w") is Holding.VACANT
    assert holding(url, "other") is Holding.VACANT


def test_who_handles_the_signal_keeps_it_and_may_stop_the_work(start: Start, url: str) -> None:
    program = start(
        """
        @incumbent.every("50ms", name="w", store=sys.argv[1], ttl_s=15)
        def job(tick):
            say("begin")
            hear()
            say("end")

        signal.signal(signal.SIGTERM, lambda *_: (say("mine"), job.stop()))
        say(job.run())
        """,
        url,
    )
    program.expect("begin")
    program.send(signal.SIGTERM)
    program.expect("mine")
    program.tell()
    assert [program.line(), program.line()] == ["end", "None"]
    assert program.wait() == 0
    assert holding(url, "w") is Holding.VACANT


def test_after_the_run_the_signal_does_what_it_did_before(start: Start, url: str) -> None:
    program = start(
        """
        job = incumbent.Jobs("w", store=sys.argv[1], ttl_s=15)

        @job.every("50ms")
        def once(tick):
            job.stop()

        job.run()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        say("after")
        hear()
        """,
        url,
    )
    program.expect("after")
    program.send(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM


def test_a_forked_child_is_ended_by_the_signal_as_ever(start: Start, url: str) -> None:
    program = start(
        """
        @incumbent.every("50ms", name="w", store=sys.argv[1], ttl_s=15)
        def job(tick):
            there, here = os.pipe()
            child = os.fork()
            if not child:
                signal.alarm(5)
                os.write(here, b"x")
                signal.pause()
                os._exit(1)
            os.read(there, 1)
            os.kill(child, signal.SIGTERM)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), tick.lost.is_set())
            job.stop()

        job.run()
        """,
        url,
    )
    assert program.line() == f"{-signal.SIGTERM} False"
    assert program.wait() == 0


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_a_spread_gives_everything_up(start: Start, url: str, face: str) -> None:
    program = start(
        """
        names = ["a", "b"]

        def wait(term):
            say("begin")
            term.lost.wait()
            say("end")

        async def awaited(term):
            say("begin")
            try:
                await asyncio.sleep(60)
            finally:
                say("end")

        try:
            if sys.argv[2] == "sync":
                incumbent.Spread("s", names, wait, store=sys.argv[1], ttl_s=15).run()
            else:
                asyncio.run(aio.Spread("s", names, awaited, store=sys.argv[1], ttl_s=15).run())
            say("it goes on")
        finally:
            say("left")
        """,
        url,
        face,
    )
    assert [program.line(), program.line()] == ["begin", "begin"]
    program.send(signal.SIGTERM)
    assert [program.line() for _ in range(3)] == ["end", "end", "left"]
    assert program.wait() == 143
    assert program.errors() == ""
    assert holding(url, "a") is Holding.VACANT
    assert holding(url, "b") is Holding.VACANT


# -- in the background ----------------------------------------------------------------------------

BACKGROUND = """
    @incumbent.every("50ms", name="w", store=sys.argv[1], ttl_s=15, background=True)
    def job(tick):
        say("begin")
        tick.lost.wait()
        time.sleep(0.3)
        say("end")

    threading.Event().wait()
"""


def test_in_the_background_a_run_ends_and_then_the_process(start: Start, url: str) -> None:
    program = start(BACKGROUND, url)
    program.expect("begin")
    program.send(signal.SIGTERM)
    program.expect("end")
    assert program.wait() == -signal.SIGTERM
    assert holding(url, "w") is Holding.VACANT
    assert outcomes(url, "w") == ["done"]


def test_work_that_will_not_stop_does_not_keep_the_process(start: Start, url: str) -> None:
    program = start(
        """
        @incumbent.every(
            "50ms", name="w", store=sys.argv[1], ttl_s=3, grace_s=0.1, deadman=False,
            background=True
        )
        def job(tick):
            say("begin")
            threading.Event().wait()

        threading.Event().wait()
        """,
        url,
    )
    program.expect("begin")
    program.send(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM


def test_a_program_that_ends_meanwhile_waits_for_the_work(start: Start, url: str) -> None:
    program = start(BACKGROUND.replace("threading.Event().wait()", "hear()"), url)
    program.expect("begin")
    program.send(signal.SIGTERM)
    program.tell()
    program.expect("end")
    program.wait()
    assert holding(url, "w") is Holding.VACANT


def test_nothing_begins_where_it_is_switched_off(start: Start, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/incumbent.db"
    source = """
        @incumbent.every("50ms", name="w", store=sys.argv[1], background=True)
        def job(tick):
            say("begin")

        say(job.standing.role)
    """
    program = start(source, url, INCUMBENT_BACKGROUND="off")
    assert program.line() == "stopped"
    assert program.wait() == 0
    assert not Path(tmp_path, "incumbent.db").exists()
    program = start(source, url, INCUMBENT_BACKGROUND="nein")
    program.error("INCUMBENT_BACKGROUND='nein': use 'on' or 'off'")
    assert program.wait() == 1


def test_a_program_that_ends_at_once_ends_in_silence(start: Start, url: str) -> None:
    for _ in range(3):
        program = start(
            """
            @incumbent.every("1h", name="w", store=sys.argv[1], background=True)
            def job(tick):
                "Nothing to do."
            """,
            url,
        )
        assert program.wait() == 0
        assert program.errors() == ""
