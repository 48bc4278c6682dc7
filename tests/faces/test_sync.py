"""Elections for threads: the body never runs without the lock, and the work ends before it goes."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from incumbent import Election, IncumbentError, LeadershipLost, NotElected, Sighting, Term, testing
from incumbent.runtime import keeper
from incumbent.runtime.keeper import Keeper
from incumbent.stores import open_store
from incumbent.stores.memory import MemoryStore
from tests.faces.programs import LIMIT_S, Start


class Watch:
    """Hears what happens to a candidate."""

    def __init__(self) -> None:
        self.seen: list[Sighting] = []
        self._came = threading.Condition()

    def __call__(self, sighting: Sighting) -> None:
        with self._came:
            self.seen.append(sighting)
            self._came.notify_all()

    def until(self, event: str, count: int = 1) -> Sighting:
        def found() -> list[Sighting]:
            return [sighting for sighting in self.seen if sighting.event == event]

        with self._came:
            assert self._came.wait_for(lambda: len(found()) >= count, LIMIT_S), self.seen
            return found()[count - 1]


@contextmanager
def keeper_stands_still() -> Iterator[threading.Event]:
    """Hold up the keeper's thread, as a pause of the process would, but not ours."""
    halted, go_on = threading.Event(), threading.Event()

    def halt() -> None:
        halted.set()
        go_on.wait(LIMIT_S)

    Keeper.current().loop.call_soon_threadsafe(halt)
    assert halted.wait(LIMIT_S)
    try:
        yield go_on
    finally:
        go_on.set()


def in_thread(call: Any, *values: Any) -> threading.Thread:
    thread = threading.Thread(target=call, args=values, daemon=True)
    thread.start()
    return thread


def election(store: Any, **more: Any) -> Election:
    return Election("e", store=store, **{"ttl_s": 5.0, **more})


# ---- hold


def test_a_store_object_is_used_again_after_it_was_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LINGER_S", 0.0)
    election = Election("e", store=open_store(f"sqlite://{tmp_path}/incumbent.db"), ttl_s=2)
    for _ in range(50):
        with election.hold(timeout_s=30) as term:
            term.check()


def test_many_threads_never_two_at_once(memory: MemoryStore) -> None:
    stores = [memory, testing.memory_store(beside=memory), testing.memory_store(beside=memory)]
    inside, entered = 0, 0
    tokens: list[int] = []

    def work(number: int) -> None:
        nonlocal inside, entered
        candidate = election(stores[number % 3], as_=f"c{number}")
        for _ in range(4):
            with candidate.hold(timeout_s=LIMIT_S) as term:
                inside += 1
                assert inside == 1
                term.check()
                entered += 1
                tokens.append(term.token or 0)
                inside -= 1

    threads = [in_thread(work, number) for number in range(9)]
    for thread in threads:
        thread.join(LIMIT_S)
    assert entered == 36
    assert tokens == sorted(set(tokens))


def test_who_does_not_wait_is_not_elected(memory: MemoryStore) -> None:
    other = election(testing.memory_store(beside=memory), as_="other")
    with election(memory, as_="holder").hold():
        with pytest.raises(NotElected, match="is held by 'holder_"), other.hold(timeout_s=0):
            pytest.fail("two hold")
        began = time.monotonic()
        with pytest.raises(NotElected), other.hold(timeout_s=0.2):
            pytest.fail("two hold")
        assert time.monotonic() - began >= 0.2
    with other.hold(timeout_s=0) as term:
        term.check()


def test_the_second_of_a_process_queues_behind_the_first(memory: MemoryStore) -> None:
    order: list[str] = []
    watch = Watch()

    def second() -> None:
        with election(memory, observer=watch).hold(timeout_s=LIMIT_S):
            order.append("second")

    with election(memory).hold():
        inner = election(memory)
        with (
            pytest.raises(NotElected, match="has a candidate in this process already"),
            inner.hold(timeout_s=0),
        ):
            pytest.fail("nested")
        thread = in_thread(second)
        with pytest.raises(NotElected), inner.hold(timeout_s=0.05):
            pytest.fail("nested")
        order.append("first")
    thread.join(LIMIT_S)
    assert order == ["first", "second"]


def test_a_hold_is_entered_once_and_then_again(memory: MemoryStore) -> None:
    hold = election(memory).hold(timeout_s=LIMIT_S)
    with hold as term, pytest.raises(IncumbentError, match="make one for each"):
        hold.__enter__()
    with hold as next_term:
        assert (next_term.token or 0) > (term.token or 0)


def test_the_body_runs_only_as_a_decorated_function_that_holds(memory: MemoryStore) -> None:
    calls: list[int] = []

    @election(memory).hold(timeout_s=0)
    def nightly(number: int) -> int:
        """Say what it is for."""
        calls.append(number)
        return number + 1

    assert nightly(1) == 2
    other = election(testing.memory_store(beside=memory))
    with other.hold(timeout_s=LIMIT_S), pytest.raises(NotElected):
        nightly(2)
    assert nightly(3) == 4
    assert calls == [1, 3]
    assert nightly.__doc__ == "Say what it is for."


def test_an_error_of_the_body_goes_through_and_the_lease_is_free(memory: MemoryStore) -> None:
    with pytest.raises(ZeroDivisionError), election(memory).hold():
        raise ZeroDivisionError
    with election(testing.memory_store(beside=memory)).hold(timeout_s=0) as term:
        term.check()


def test_what_the_body_did_not_notice_is_raised_at_its_end(memory: MemoryStore) -> None:
    watch = Watch()
    terms: list[Term] = []

    def body() -> None:
        with election(memory, observer=watch).hold() as term:
            terms.append(term)
            memory.shelf.sessions.clear()
            assert term.lost.wait(LIMIT_S)
            with pytest.raises(LeadershipLost):
                term.check()

    with pytest.raises(LeadershipLost, match="was lost while the body ran"):
        body()
    assert watch.until("stopping").token == terms[0].token


def test_an_error_of_the_body_is_not_hidden_by_the_loss(memory: MemoryStore) -> None:
    def body() -> None:
        with election(memory).hold() as term:
            memory.shelf.sessions.clear()
            assert term.lost.wait(LIMIT_S)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()


def test_elected_in_the_very_moment_of_giving_up(memory: MemoryStore) -> None:
    """It must neither run, nor hold for ever, nor keep its caller waiting."""
    for delay_s in (0.0, 1e-6, 1e-4, 5e-4, 1e-3, 2e-3):
        for _ in range(15):
            try:
                with election(memory).hold(timeout_s=delay_s) as term:
                    term.check()
            except NotElected:
                continue
    with election(testing.memory_store(beside=memory)).hold(timeout_s=LIMIT_S) as term:
        term.check()


def test_elected_between_giving_up_and_withdrawing(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has a term by then has not waited in vain; and nobody holds for ever."""
    from incumbent.sync import election as sync

    candidate = election(memory)
    give_up, on_elected = sync.Seat.give_up, sync.Seat.on_elected
    elected, held = threading.Event(), threading.Semaphore(0)

    def late(seat: sync.Seat) -> None:
        held.release()
        assert elected.wait(LIMIT_S)
        give_up(seat)

    def note(seat: sync.Seat, term: Term) -> None:
        on_elected(seat, term)
        elected.set()

    rival = election(testing.memory_store(beside=memory))
    with rival.hold():
        monkeypatch.setattr(sync.Seat, "give_up", late)
        monkeypatch.setattr(sync.Seat, "on_elected", note)
        bodies: list[int] = []

        def enter() -> None:
            with candidate.hold(timeout_s=0.05) as term:
                term.check()
                bodies.append(1)

        thread = in_thread(enter)
        assert held.acquire(timeout=LIMIT_S)
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it waits for what nobody does"
    assert bodies == [1]
    with rival.hold(timeout_s=LIMIT_S) as term:
        term.check()


def test_interrupted_between_election_and_waking(memory: MemoryStore) -> None:
    """The keeper has begun a term that nobody took: leaving ends it."""
    from incumbent.sync import election as sync

    watch = Watch()
    candidate = election(memory, observer=watch)
    rival = election(testing.memory_store(beside=memory), ttl_s=60)
    seat = sync.Seat(candidate._settings(), watch)
    with rival.hold():
        seat.start()
        watch.until("standby")
    watch.until("elected")
    seat.quit()
    with rival.hold(timeout_s=LIMIT_S) as term:
        term.check()


def test_interrupted_while_it_waits(start: Start, url: str) -> None:
    source = """
        election = Election("e", store=sys.argv[1], ttl_s=3, observer=lambda s: say(s.event))
        try:
            with election.hold():
                say("elected-after-all")
        except KeyboardInterrupt:
            say("interrupted")
        say("body did not run")
    """
    with Election("e", store=url, ttl_s=3).hold():
        program = start(source, url)
        program.expect("standby")
        program.send(signal.SIGINT)
        assert {program.line(), program.line()} == {"closed", "interrupted"}
        program.expect("body did not run")
        assert program.wait() == 0


# ---- lead


def test_the_result_is_returned_and_the_lease_is_free_at_once(memory: MemoryStore) -> None:
    """Its TTL is a minute: only the release can let the other one in."""
    watch, second = Watch(), threading.Event()
    store = testing.memory_store(beside=memory)
    other = election(store, as_="other", ttl_s=60, observer=watch)
    threads: list[threading.Thread] = []

    def work(term: Term) -> str:
        threads.append(in_thread(lambda: other.lead(lambda _: second.set(), deadman=False)))
        watch.until("standby")
        assert not second.is_set()
        return "done"

    assert election(memory, ttl_s=60).lead(work, deadman=False) == "done"
    assert second.wait(LIMIT_S)
    threads[0].join(LIMIT_S)


def test_an_error_of_the_work_is_raised_after_the_release(memory: MemoryStore) -> None:
    def work(term: Term) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        election(memory).lead(work, deadman=False)
    with election(testing.memory_store(beside=memory)).hold(timeout_s=0) as term:
        term.check()


def test_the_successor_begins_after_the_work_has_ended(memory: MemoryStore) -> None:
    order: list[str] = []
    told, go_on = threading.Event(), threading.Event()
    watch, standby = Watch(), Watch()
    leader = election(memory, as_="one", ttl_s=60, grace_s=20, observer=watch)

    def reluctant(term: Term) -> str:
        if order:
            return "again"
        assert term.lost.wait(LIMIT_S)
        told.set()
        assert go_on.wait(LIMIT_S)
        term.check()
        order.append("end of one")
        return "told to stop"

    def follow() -> None:
        store = testing.memory_store(beside=memory)
        candidate = election(store, as_="two", ttl_s=60, observer=standby)
        with candidate.hold(timeout_s=LIMIT_S):
            order.append("begin of two")

    results: list[str] = []
    one = in_thread(lambda: results.append(leader.lead(reluctant, deadman=False)))
    watch.until("elected")
    two = in_thread(follow)
    standby.until("standby")
    leader.step_down()
    assert told.wait(LIMIT_S)
    assert order == []
    assert not any(sighting.event == "elected" for sighting in standby.seen)
    go_on.set()
    two.join(LIMIT_S)
    one.join(LIMIT_S)
    assert order == ["end of one", "begin of two"]
    assert results == ["again"]


def test_lost_the_work_is_told_and_run_again(memory: MemoryStore) -> None:
    tokens: list[int | None] = []

    def work(term: Term) -> str:
        tokens.append(term.token)
        if len(tokens) < 3:
            memory.shelf.sessions.clear()
            assert term.lost.wait(LIMIT_S)
            if len(tokens) == 2:
                term.check()
        return "done"

    assert election(memory).lead(work, deadman=False) == "done"
    assert len(tokens) == 3
    assert tokens == sorted(set(tokens), key=lambda token: token or 0)


def test_who_wakes_up_before_the_keeper_contends_again(memory: MemoryStore) -> None:
    """After a pause the work may ask first, and hear the loss from nobody but the clock."""
    attempts: list[Term] = []

    def work(term: Term) -> str:
        attempts.append(term)
        if len(attempts) > 1:
            return "done"
        with keeper_stands_still():
            never = threading.Event()
            while not never.wait(0.01):
                assert not term.lost.is_set()
                term.check()
        return "not reached"

    assert election(memory, ttl_s=1.0).lead(work, deadman=False) == "done"
    assert len(attempts) == 2


def test_a_loss_that_is_not_ours_is_an_error_like_any_other(memory: MemoryStore) -> None:
    def work(term: Term) -> None:
        raise LeadershipLost("of something else")

    with pytest.raises(LeadershipLost, match="of something else"):
        election(memory).lead(work, deadman=False)


def test_after_the_last_term_it_does_not_run_again(memory: MemoryStore) -> None:
    """Ending the work and withdrawing are one step: in between it could be elected once more."""
    watch = Watch()
    for _ in range(30):
        assert election(memory, observer=watch).lead(lambda term: 1, deadman=False) == 1
    watch.until("closed", count=30)
    assert [s.event for s in watch.seen].count("elected") == 30
    record = memory.shelf.records["e"]
    assert len({s.token for s in watch.seen if s.event == "elected"}) == 30
    assert record.session == ""


def test_a_blocked_thread_does_not_lose_the_lease(start: Start, url: str) -> None:
    source = """
        def work(term):
            say("began", term.token)
            time.sleep(10)
            term.check()
            return term.token

        say("result", Election("e", store=sys.argv[1], ttl_s=1).lead(work))
    """
    program = start(source, url)
    _, token = program.expect("began").split()
    other = Election("e", store=url, ttl_s=1)
    with pytest.raises(NotElected), other.hold(timeout_s=5):
        pytest.fail("two hold")
    assert program.expect("result").split()[1] == token


def test_work_that_holds_the_interpreter_is_killed_and_it_is_said_why(
    start: Start, url: str
) -> None:
    source = """
        def work(term):
            say("began")
            works.hold_the_gil()

        Election("bill", store=sys.argv[1], ttl_s=1.5).lead(work)
    """
    program = start(source, url)
    program.expect("began")
    with Election("bill", store=url, ttl_s=1.5).hold(timeout_s=LIMIT_S):
        assert program.wait(LIMIT_S) == -9
    errors = program.errors()
    assert "'bill'" in errors
    assert "outlived its term" in errors
    assert "hold_the_gil" in errors


def test_work_that_does_not_stop_is_reported_and_never_released(memory: MemoryStore) -> None:
    watch = Watch()
    go_on = threading.Event()
    leader = election(memory, ttl_s=1.0, observer=watch)

    def deaf(term: Term) -> None:
        go_on.wait(LIMIT_S)

    def lead() -> None:
        with suppress(NotElected):
            leader.lead(deaf, deadman=False, timeout_s=0.01)

    thread = in_thread(lead)
    watch.until("elected")
    leader.step_down()
    watch.until("stuck")
    assert memory.shelf.records["e"].session in memory.shelf.sessions
    beat = memory.shelf.sessions[memory.shelf.records["e"].session].beat
    other = election(testing.memory_store(beside=memory), ttl_s=1.0)
    with other.hold(timeout_s=LIMIT_S):
        assert beat >= 0
    go_on.set()
    thread.join(LIMIT_S)


def test_a_store_that_cannot_be_opened_is_said_at_once(memory: MemoryStore) -> None:
    with pytest.raises(IncumbentError), election("sqlite:///proc/x/incumbent.db").hold():
        pytest.fail("without a store")
    with pytest.raises(IncumbentError):
        election("sqlite:///proc/x/incumbent.db").lead(lambda term: None, deadman=False)


# ---- the end of the process


def test_the_main_thread_may_end_while_another_leads(start: Start, url: str) -> None:
    """From then on no executor of `concurrent.futures` takes work: renewals must not need one."""
    source = """
        began = threading.Event()

        def work(term):
            say("began", term.token)
            began.set()
            threading.main_thread().join()
            time.sleep(4)
            term.check()
            assert not term.lost.is_set(), term.cause
            return term.token

        election = Election("e", store=sys.argv[1], ttl_s=1)
        threading.Thread(target=lambda: say("result", election.lead(work))).start()
        # Not before there is a keeper: from Python 3.12 on no thread can be started after the end.
        began.wait()
    """
    program = start(source, url)
    _, token = program.expect("began").split()
    assert program.expect("result").split()[1] == token
    assert program.wait() == 0
    assert program.errors() == ""


def test_at_the_end_of_the_process_its_session_is_ended(start: Start, url: str) -> None:
    source = """
        with Election("e", store=sys.argv[1], ttl_s=30).hold():
            say("held")
    """
    for _ in range(5):
        program = start(source, url)
        program.expect("held")
        assert program.wait() == 0
        assert program.errors() == ""
    path = url.removeprefix("sqlite://")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM session WHERE beat <> -1").fetchone() == (0,)
    assert os.listdir(f"{path}-locks") == []


def test_at_the_end_of_the_process_the_keepers_loop_is_closed(start: Start, url: str) -> None:
    """The garbage collector would close it, perhaps after the sockets that it closes."""
    source = """
        import atexit
        from incumbent.runtime.keeper import Keeper
        with Election("e", store=sys.argv[1]).hold():
            loop = Keeper.current().loop
        atexit._run_exitfuncs()  # Nothing could be registered that is called after the keeper's.
        say("closed", loop.is_closed())
    """
    program = start(source, url)
    program.expect("closed True")
    assert program.wait() == 0
    assert program.errors() == ""


def test_what_is_left_at_the_exit_is_released(start: Start, url: str) -> None:
    """Registered before it was entered, so that it is called last; the keeper is still there."""
    source = """
        import atexit
        from contextlib import ExitStack
        stack = ExitStack()
        atexit.register(stack.close)
        stack.enter_context(Election("e", store=sys.argv[1], ttl_s=30).hold())
        say("held")
    """
    program = start(source, url)
    program.expect("held")
    assert program.wait() == 0
    with closing(sqlite3.connect(url.removeprefix("sqlite://"))) as db:
        assert db.execute("SELECT session FROM election").fetchone() == ("",)


# ---- what runs on the keeper's thread


@pytest.mark.parametrize("where", ["on_lost", "observer"])
def test_who_would_end_the_process_from_there_does_not_end_the_keeper(
    where: str, memory: MemoryStore
) -> None:
    """Nobody would be told any more that a lease was lost."""

    def observe(sighting: Sighting) -> None:
        if where == "observer" and sighting.event == "stopping":
            sys.exit(3)

    election = Election("e", store=memory, ttl_s=2, observer=observe)
    called: list[Term] = []
    again = threading.Event()

    def work(term: Term) -> None:
        if called:
            again.set()
            return
        if where == "on_lost":
            term.on_lost(lambda _: sys.exit(3))
        term.on_lost(called.append)
        election.step_down()
        assert term.lost.wait(LIMIT_S)

    lead = partial(election.lead, work, deadman=False)
    threading.Thread(target=lead, daemon=True).start()
    assert again.wait(LIMIT_S), "the keeper is gone"


def test_a_callback_may_leave_the_body_and_not_enter_one(start: Start, url: str) -> None:
    source = """
        from contextlib import ExitStack
        gone = threading.Event()
        said = []

        def leave(_):
            stack.close()
            try:
                Election("f", store=sys.argv[1]).hold().__enter__()
            except incumbent.IncumbentError as error:
                said.append(error)
            gone.set()

        with ExitStack() as stack:
            term = stack.enter_context(Election("e", store=sys.argv[1], ttl_s=60).hold())
            term.on_lost(leave)
            from incumbent.runtime.keeper import Keeper
            keeper = Keeper.current()
            keeper.loop.call_soon_threadsafe(term.end, "asked to")
            assert gone.wait(30)
        assert "cannot wait to be elected" in str(said[0]), said
        with Election("e", store=sys.argv[1]).hold(timeout_s=30):
            say("again")
    """
    program = start(source, url)
    program.expect("again")
    assert program.wait() == 0


class Cycle:
    """What only the garbage collector finds."""

    def __init__(self, body: Iterator[None]) -> None:
        self.itself = self
        self.body = body


@pytest.mark.parametrize("thread", ["keeper", "store"])
def test_a_body_that_the_garbage_collector_leaves_there_is_left(thread: str, url: str) -> None:
    """It closes what it finds in whatever thread it runs."""

    def body() -> Iterator[None]:
        with Election("e", store=url, ttl_s=60).hold(timeout_s=LIMIT_S):
            yield

    gc.disable()
    try:
        cycle = Cycle(body())
        next(cycle.body)
        del cycle
        if thread == "keeper":
            Keeper.current().loop.call_soon_threadsafe(gc.collect)
        else:
            store: Any = Keeper.current()._hubs[url]._store
            store._worker.submit(gc.collect)
        with Election("e", store=url).hold(timeout_s=LIMIT_S):
            pass
    finally:
        gc.enable()


def test_work_in_a_daemon_thread_outlives_the_keeper_and_looks_alive(
    start: Start, url: str
) -> None:
    """The interpreter's exit must not make a holder look dead whose work goes on."""
    source = """
        import atexit, ctypes
        elected = threading.Event()

        def work(term):
            elected.set()
            ctypes.CDLL(None).pause()

        election = Election("e", store=sys.argv[1], ttl_s=20)
        threading.Thread(target=election.lead, args=(work,), daemon=True).start()
        elected.wait()
        atexit._run_exitfuncs()  # As the interpreter's exit would; the keeper's is the last.
        say("keeper is gone")
        hear()
    """
    program = start(source, url)
    program.expect("keeper is gone")
    watch = Watch()
    with (
        pytest.raises(NotElected),
        Election("e", store=url, ttl_s=20, observer=watch).hold(timeout_s=1.0),
    ):
        pytest.fail("two hold")
    assert "evidence" not in [sighting.event for sighting in watch.seen]
    program.tell()
    program.wait()
    with Election("e", store=url, ttl_s=20).hold(timeout_s=10):
        pass


def test_work_in_a_daemon_thread_outlives_the_keeper_and_is_killed_in_time(
    start: Start, url: str
) -> None:
    source = """
        import atexit, ctypes
        elected = threading.Event()

        def work(term):
            elected.set()
            ctypes.CDLL(None).pause()

        election = Election("e", store=sys.argv[1], ttl_s=1.5)
        threading.Thread(target=election.lead, args=(work,), daemon=True).start()
        elected.wait()
        atexit._run_exitfuncs()
        say("ends")
        hear()
    """
    program = start(source, url)
    program.expect("ends")
    assert program.wait() == -9


def test_one_store_under_two_names_has_two_candidates_of_this_process() -> None:
    """Neither may take the other's record for a leftover of its own."""
    memory = testing.memory_store()
    one, two = election(memory), election(testing.memory_store(beside=memory))
    for _ in range(3):
        with two.hold(timeout_s=LIMIT_S):
            pass
    with one.hold(timeout_s=LIMIT_S) as term:
        with pytest.raises(NotElected), two.hold(timeout_s=0.3):
            pytest.fail("two hold")
        term.check()


def test_a_file_under_two_names_is_one_file(tmp_path: Any) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    names = [f"{tmp_path}/real/x.db", f"{tmp_path}/alias/x.db", f"{tmp_path}/real/../real/x.db"]
    with election(f"sqlite://{names[0]}").hold():
        for name in names:
            with (
                pytest.raises(NotElected, match="in this process already"),
                election(f"sqlite://{name}").hold(timeout_s=0),
            ):
                pytest.fail("two hold")
