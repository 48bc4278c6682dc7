"""Forks of a holder: in the child the term is void, and the child is in nobody's way."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from incumbent import Election, NotElected
from tests.faces.programs import LIMIT_S, Start
from tests.servers.etcd import Etcd

FORK = """
    def in_child(act):
        pid = os.fork()
        if pid == 0:
            try:
                act()
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(repr(error))
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

"""


def test_in_the_child_the_term_is_void_and_in_the_parent_it_is_not(start: Start, url: str) -> None:
    source = (
        FORK
        + """
    with Election("e", store=sys.argv[1], ttl_s=3).hold() as term:
        called = []
        term.on_lost(lambda _: called.append(1))

        def child():
            try:
                term.check()
            except LeadershipLost as error:
                assert "was forked" in str(error), error
            else:
                raise AssertionError("a child believes that it holds")
            assert term.remaining() == 0 and term.ended
            assert term.lost.wait(5), "nobody will ever tell the child"
            late = []
            term.on_lost(late.append)
            assert late == [term] and not called

        say("child", in_child(child))
        term.check()
        assert not term.lost.is_set() and not called
        say("parent")
    """
    )
    program = start(source, url)
    program.expect("child 0")
    program.expect("parent")
    assert program.wait() == 0


def test_a_child_has_the_file_locks_of_the_database_that_it_opens(start: Start, url: str) -> None:
    """With the parent's connection in its memory, SQLite believes that it has them already.

    Then the next who opens and closes the database takes it for unused: he removes log and index
    under the child, and what it writes from then on, nobody else sees.
    """
    source = """
        with Election("e", store=sys.argv[1], ttl_s=60).hold():
            pass
        if os.fork():  # The store is kept open for the next one.
            os._exit(0)
        with Election("e", store=sys.argv[1], ttl_s=60).hold(timeout_s=30) as term:
            say("child")
            hear()
            term.check()
            say("holds", term.lost.is_set())
    """
    program = start(source, url)
    program.expect("child")
    assert program.wait() == 0
    path = url.removeprefix("sqlite://")
    files = [os.stat(path + end).st_ino for end in ("", "-wal", "-shm")]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT session <> '' FROM election").fetchone() == (1,)
    assert [os.stat(path + end).st_ino for end in ("", "-wal", "-shm")] == files
    program.tell()
    program.expect("holds False")


def test_a_child_that_leaves_the_body_neither_waits_nor_releases(start: Start, url: str) -> None:
    source = """
        with Election("e", store=sys.argv[1], ttl_s=20).hold() as term:
            pid = os.fork()
        if pid == 0:
            say("child")
            sys.exit(0)  # all of the interpreter's exit, in the child
        os.waitpid(pid, 0)
        say("end")
    """
    program = start(source, url)
    # Whichever comes first: the parent leaves at once, too.
    assert {program.line(), program.line()} == {"child", "end"}
    assert program.wait() == 0

    source = """
        with Election("e", store=sys.argv[1], ttl_s=20).hold() as term:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                say("child has left")
                hear()
                term.check()
        if pid == 0:
            sys.exit(0)
    """
    program = start(source, url)
    program.expect("child has left")
    with pytest.raises(NotElected), Election("e", store=url, ttl_s=20).hold(timeout_s=1):
        pytest.fail("two hold")
    program.tell()
    assert program.wait() == 0
    with Election("e", store=url, ttl_s=20).hold(timeout_s=10):
        pass


def test_lead_in_a_forked_child_ends_when_its_work_does(start: Start, url: str) -> None:
    source = """
        pids = []

        def work(term):
            pids.append(os.fork())
            if pids[0] == 0:
                try:
                    term.check()
                except LeadershipLost:
                    say("void")
                    raise
            os.waitpid(pids[0], 0)
            term.check()
            return "parent"

        try:
            say(Election("e", store=sys.argv[1], ttl_s=3).lead(work))
        except LeadershipLost:
            os._exit(3 if pids[0] == 0 else 4)
    """
    program = start(source, url)
    program.expect("void")
    program.expect("parent")
    assert program.wait() == 0


def test_a_child_is_a_candidate_of_its_own_and_waits_for_its_parent(start: Start, url: str) -> None:
    source = (
        FORK
        + """
    url = sys.argv[1]
    with Election("e", store=url, ttl_s=3).hold() as term:
        def try_at_once():
            try:
                with Election("e", store=url, ttl_s=3).hold(timeout_s=0):
                    raise AssertionError("two hold")
            except NotElected as error:
                assert "is held by" in str(error), error

        say("tried", in_child(try_at_once))
        waiting = os.fork()
        if waiting == 0:
            def observe(sighting):
                if sighting.event == "standby":
                    say("standby")
            with Election("e", store=url, ttl_s=3, observer=observe).hold() as own:
                own.check()
                say("elected", own.token > term.token)
            os._exit(0)
        assert hear() == "go"
        term.check()
        say("leaves")
    assert os.waitpid(waiting, 0)[1] == 0
    say("end")
    """
    )
    program = start(source, url)
    program.expect("tried 0")
    program.expect("standby")
    program.tell("go")
    program.expect("leaves")
    program.expect("elected True")
    program.expect("end")
    assert program.wait() == 0


def test_a_store_that_was_opened_by_the_parent_is_opened_anew(start: Start, url: str) -> None:
    """SQLite forbids to use a connection on the other side of a fork."""
    source = (
        FORK
        + """
    from pathlib import Path
    from incumbent.stores.sqlite import SqliteStore

    store = SqliteStore(Path(sys.argv[1].removeprefix("sqlite://")))
    with Election("e", store=store, ttl_s=3).hold() as term:
        tables = store._records

        def child():
            with Election("mine", store=store, ttl_s=3).hold(timeout_s=20) as own:
                own.check()
                assert store._records is not tables
            try:
                with Election("e", store=store, ttl_s=3).hold(timeout_s=0):
                    raise AssertionError("two hold")
            except NotElected as error:
                assert "is held by" in str(error), error

        say("child", in_child(child))
        term.check()
        assert store._records is tables
    with Election("mine", store=store, ttl_s=3).hold(timeout_s=20):
        say("end")
    """
    )
    program = start(source, url)
    program.expect("child 0")
    program.expect("end")
    assert program.wait() == 0


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, start: Start, url: str, tmp_path: Path) -> None:
    script = f"""
import multiprocessing, sys
from incumbent import Election, NotElected
from tests.faces.works import try_to_lead

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with Election("e", store=sys.argv[1], ttl_s=3).hold() as term:
        with context.Pool(2) as pool:
            print(sorted(pool.map(try_to_lead, [sys.argv[1]] * 2)), flush=True)
        term.check()
    with context.Pool(2) as pool:
        print(sorted(pool.map(try_to_lead, [sys.argv[1]])), flush=True)
"""
    path = tmp_path / "script.py"
    path.write_text(script)
    program = start("os.execv(sys.executable, [sys.executable, *sys.argv[1:]])", str(path), url)
    program.expect("['not elected', 'not elected']")
    program.expect("['elected']")
    assert program.wait() == 0


def test_a_fork_does_not_end_the_term_of_isolated_work(start: Start, url: str) -> None:
    """The work reads its trust from a page that a forked child could still write to."""
    source = (
        FORK
        + """
    def fork_now_and_then(path):
        while not os.path.exists(path):
            time.sleep(0.002)
        say("forked", in_child(lambda: None))
        os.unlink(path)
        say("removed")

    path = sys.argv[2]
    thread = threading.Thread(target=fork_now_and_then, args=(path,))
    thread.start()
    say(Election("e", store=sys.argv[1], ttl_s=3).lead(works.UntilGone(path), isolate=True))
    """
    )
    program = start(source, url, url.removeprefix("sqlite://") + "-go")
    program.expect("forked 0")
    program.expect("removed")
    program.expect("still trusted")
    assert program.wait(LIMIT_S) == 0


def test_a_store_of_a_server_that_the_parent_opened_is_refused_in_the_child(
    start: Start, etcd: Etcd
) -> None:
    """Its connections are the parent's, whose term would be lost, or worse: told what is not so."""
    source = (
        FORK
        + """
    from incumbent import ConfigError
    from incumbent.stores import open_store

    election = Election("e", store=open_store(sys.argv[1]), ttl_s=3)

    def child():
        try:
            with election.hold(timeout_s=5):
                pass
        except ConfigError as error:
            assert "before this process was forked" in str(error), error
        else:
            raise AssertionError("it was opened twice")

    with election.hold() as term:
        say("child", in_child(child))
        term.check()
        say("parent")
    with election.hold() as term:
        say("again")
    """
    )
    program = start(source, f"etcd://{etcd.address}/forked?tls=0")
    program.expect("child 0")
    program.expect("parent")
    program.expect("again")
    assert program.wait() == 0
