from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from incumbent.cli.step_down import End, Outcome
from incumbent.core.events import Evidence
from incumbent.core.records import Holding, Snapshot, absent
from tests.cli.conftest import Start
from tests.cli.processes import run
from tests.faces.programs import until
from tests.servers.kubernetes import ApiServer


def test_to_a_chosen_one(url: str, candidate: Start) -> None:
    before = candidate("a").event("elected")
    for other in "bc":
        candidate(other).event("standby")
    done = run("step-down", "bill", "--to", "c", "--store", url, "--json")
    assert done.code == 0, done.err
    found = done.json
    assert found["result"] == "handed over"
    assert (found["election"], found["asked_for"]) == ("bill", "c")
    assert (found["from"], found["from_token"]) == (before["identity"], before["token"])
    assert found["to"].startswith("c_")
    assert found["to_token"] > found["from_token"]
    assert 0 <= found["took_s"] < 5
    done = run("step-down", "bill", "--to", found["from"], "--store", url)
    assert done.code == 0
    assert done.out.startswith(f"bill: {found['from']} holds, token ")
    assert len(done.out.splitlines()) == 1


def test_to_anybody(url: str, candidate: Start) -> None:
    candidate("a").event("elected")
    candidate("b").event("standby")
    done = run("step-down", "bill", "--store", url, "--json")
    assert (done.code, done.json["to"].partition("_")[0], done.json["end"]) == (0, "b", "released")


def test_without_waiting(url: str, candidate: Start) -> None:
    a = candidate("a")
    a.event("elected")
    done = run("step-down", "bill", "--no-wait", "--store", url, "--json")
    assert (done.code, done.json["result"], done.json["to"]) == (0, "asked", None)
    a.event("stopping")


def test_nobody_else_wants_it(url: str, candidate: Start) -> None:
    identity = candidate("a", ttl_s=1).event("elected")["identity"]
    done = run("step-down", "bill", "--store", url)
    assert (done.code, done.out) == (1, "")
    assert f"{identity} holds again, token " in done.err
    done = run("step-down", "bill", "--store", url, "--json")
    assert (done.code, done.json["result"], done.json["to"]) == (1, "same again", identity)
    # It stepped down at once; what took a second is that it left the vacancy to others.
    assert done.json["let_go_s"] < done.json["took_s"] - 0.5


def test_a_holder_that_is_dead(url: str, candidate: Start) -> None:
    a = candidate("a", ttl_s=60)
    a.event("elected")
    a.process.kill()
    a.wait()
    for more in ([], ["--no-wait"]):
        done = run("step-down", "bill", "--store", url, *more)
        assert done.code == 1
        assert "nobody was asked: " in done.err
        assert "is dead: the kernel has dropped the lock" in done.err
        assert "is stopping" not in done.err
    assert run("status", "bill", "--store", url, "--json").json["request"] is None


def test_a_holder_that_dies_before_it_steps_down(url: str, candidate: Start, start: Start) -> None:
    a = candidate("a", ttl_s=60, how="deaf")
    before = a.event("elected")
    asking = start("step-down", "bill", "--timeout", "3", "--store", url)
    until(lambda: _asked(url), "it was asked")
    a.process.kill()
    assert asking.wait() == 1
    assert f"{before['identity']} died before it stepped down, and nobody" in asking.errors()


def test_another_follows_a_holder_that_dies(url: str, candidate: Start, start: Start) -> None:
    """Nobody takes over before the death was seen: the standby is stopped until then."""
    a = candidate("a", ttl_s=60, how="deaf")
    before = a.event("elected")
    b = candidate("b")
    b.event("standby")
    asking = start("step-down", "bill", "--store", url)
    until(lambda: _asked(url), "it was asked")
    b.process.send_signal(signal.SIGSTOP)
    a.process.kill()
    assert asking.process.stderr is not None
    until(
        lambda: asking.process.stderr is not None and "is dead" in asking.process.stderr.readline(),
        "its death was seen",
    )
    b.process.send_signal(signal.SIGCONT)
    assert asking.wait() == 0
    line = asking.line()
    assert line.startswith("bill: b_")
    assert line.endswith(f"; {before['identity']} died before it stepped down")


def test_who_looks_late_does_not_say_how_the_term_ended(
    url: str, candidate: Start, start: Start
) -> None:
    a = candidate("a", ttl_s=60, how="deaf")
    before = a.event("elected")
    b = candidate("b")
    b.event("standby")
    asking = start("step-down", "bill", "--store", url)
    until(lambda: _asked(url), "it was asked")
    asking.process.send_signal(signal.SIGSTOP)
    a.process.kill()
    b.event("elected")
    asking.process.send_signal(signal.SIGCONT)
    assert asking.wait() == 0
    assert asking.line().endswith(f"; how the term of {before['identity']} ended was not seen")


HELD = Snapshot("bill", Holding.HELD, 5, 5, "a", "a.1", 5, 2.0, "session-a", 1)
NEXT = replace(HELD, version=9, serial=9, holder="b", term="b.1", token=9, lease_key="session-b")
GIVEN_UP = replace(HELD, holding=Holding.VACANT, version=6, serial=6, lease_key="")
VOID = replace(HELD, holding=Holding.VACANT)
DEATH = Evidence("session-a", "the kernel says so")


@pytest.mark.parametrize(
    ("reports", "end"),
    [
        ([NEXT], End.UNSEEN),
        ([GIVEN_UP, NEXT], End.RELEASED),
        ([VOID, NEXT], End.VOIDED),
        ([absent("bill", 6), NEXT], End.REMOVED),
        ([DEATH, NEXT], End.DIED),
        ([DEATH, VOID, NEXT], End.DIED),
        ([GIVEN_UP, DEATH, NEXT], End.RELEASED),
        ([NEXT, DEATH], End.UNSEEN),
        # Another has held in between, and given up.
        ([replace(GIVEN_UP, term="c.1", version=8, serial=8), NEXT], End.UNSEEN),
        # A Lease does not say whose the last term was.
        ([replace(GIVEN_UP, term=""), NEXT], End.VACANT),
    ],
)
def test_no_more_is_said_than_what_was_seen(reports: list[Snapshot | Evidence], end: End) -> None:
    outcome = Outcome(HELD, HELD)
    for report in reports:
        outcome.take_in(report, 0.5)
    outcome.conclude("")
    assert (outcome.end, outcome.result) == (end, "handed over")


def _asked(url: str) -> bool:
    return run("status", "bill", "--store", url, "--json").json["request"] is not None


def test_another_than_the_chosen_one_follows(url: str, candidate: Start) -> None:
    candidate("a").event("elected")
    candidate("b").event("standby")
    done = run("step-down", "bill", "--to", "nobody-here", "--store", url)
    assert done.code == 1
    assert "and not nobody-here" in done.err
    assert done.out == ""


def test_a_holder_that_does_not_stop(url: str, candidate: Start) -> None:
    candidate("a", ttl_s=20, how="deaf").event("elected")
    done = run("step-down", "bill", "--timeout", "1.6", "--store", url)
    assert done.code == 1
    # In between it may say that it renews, as it does where the machine was slow.
    assert "still holds after 1.6 s; " in done.err
    assert "; the request stays" in done.err
    assert "was asked; waiting until it lets go, 1 s" in done.err
    assert "asked to step down" in run("status", "bill", "--store", url).out
    done = run("step-down", "bill", "--timeout", "0.1", "--store", url, "--json")
    assert (done.code, done.json["result"], done.json["to"]) == (1, "still held", None)


def test_a_holder_that_renews_and_one_that_does_not(url: str, candidate: Start) -> None:
    holder = candidate("a", ttl_s=4, how="deaf")
    holder.event("elected")
    done = run("step-down", "bill", "--timeout", "1.5", "--store", url)
    assert (done.code, "it renews, so its work goes on" in done.err) == (1, True), done.err
    holder.process.send_signal(signal.SIGSTOP)
    done = run("step-down", "bill", "--timeout", "5", "--store", url)
    assert (done.code, "it gave no sign of life in that time" in done.err) == (1, True), done.err


def test_the_holder_itself_is_no_successor(url: str, candidate: Start) -> None:
    identity = candidate("a").event("elected")["identity"]
    for to in ("a", identity):
        done = run("step-down", "bill", "--to", to, "--store", url)
        assert done.code == 2
        assert "is the holder already" in done.err
    assert run("status", "bill", "--store", url, "--json").json["request"] is None


def test_nobody_holds(url: str, candidate: Start) -> None:
    done = run("step-down", "bill", "--store", url)
    assert done.code == 1
    assert done.err == "incumbent: error: nobody was asked: 'bill' has no record\n"
    a = candidate("a")
    a.event("elected")
    a.process.terminate()
    a.wait()
    assert "is vacant" in run("step-down", "bill", "--store", url).err


def test_bad_input(url: str) -> None:
    for arguments in (
        ["Bill"],
        ["bill", "--to", "a b"],
        ["bill", "--no-wait", "--timeout", "3"],
        ["bill", "--timeout", "soon"],
        [],
    ):
        done = run("step-down", *arguments, "--store", url)
        assert done.code == 2, arguments
        assert done.err.startswith("incumbent: error: ")
        assert len(done.err.splitlines()) == 1


def test_a_token_that_is_not_told_yet_is_not_named(
    api_server: ApiServer, namespace: str, start: Start
) -> None:
    """A Lease has its token from the first renewal on."""
    store = f"kubernetes://{namespace}?kubeconfig={api_server.kubeconfig()}"
    watch = start("watch", "bill", "--json", "--store", store)
    watch.event("now")
    common = ["--store", store, "--ttl", "3", "--", "sleep", "60"]
    start("run", "bill", "--as", "a", *common)
    watch.event("elected")
    start("run", "bill", "--as", "b", *common)
    until(lambda: run("step-down", "bill", "--to", "b", "--store", store).code == 0, "b is there")
    done = run("step-down", "bill", "--to", "a", "--store", store)
    assert (done.code, "None" in done.out) == (0, False), done.out
