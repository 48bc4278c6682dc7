from __future__ import annotations

import json
import signal

from tests.cli.conftest import Start
from tests.cli.processes import run


def test_changes_are_told_as_they_happen(url: str, candidate: Start, start: Start) -> None:
    watch = start("watch", "bill", "--store", url, "--json")
    first = watch.event("now")
    assert (first["election"], first["state"]) == ("bill", "absent")
    a = candidate("a")
    identity = a.event("elected")["identity"]
    seen = watch.event("elected")
    assert (seen["holder"], seen["state"]) == (identity, "held")
    b = candidate("b")
    b.event("standby")
    assert run("step-down", "bill", "--to", "b", "--no-wait", "--store", url).code == 0
    follower = watch.event("elected")
    assert follower["holder"].startswith("b_")
    assert follower["token"] > seen["token"]
    assert follower["elapsed_s"] > seen["elapsed_s"]
    b.process.kill()
    assert watch.event("elected")["holder"] == identity
    a.process.terminate()
    assert watch.event("vacant")["last_holder"] == identity
    watch.process.send_signal(signal.SIGINT)
    assert watch.wait() == 0
    assert "Traceback" not in watch.errors()


def test_proof_of_death_is_told(url: str, candidate: Start, start: Start) -> None:
    a = candidate("a", ttl_s=20)
    a.event("elected")
    watch = start("watch", "--store", url, "--json")
    watch.event("now")
    a.process.kill()
    assert watch.event("dead")["state"] == "held"


def test_renewals_are_told_only_to_who_wants_them(url: str, candidate: Start) -> None:
    candidate("a", ttl_s=1).event("elected")
    done = run("watch", "bill", "-v", "--count", "3", "--json", "--store", url)
    assert done.code == 0
    events = [json.loads(line)["event"] for line in done.out.splitlines()]
    assert events == ["now", "renewed", "renewed"]
    done = run("watch", "bill", "--for", "1.5", "--json", "--store", url)
    assert (done.code, len(done.out.splitlines())) == (0, 1)


def test_rows_for_people(url: str, candidate: Start) -> None:
    elected = candidate("a").event("elected")
    done = run("watch", "bill", "new", "--count", "2", "--store", url)
    assert done.code == 0
    head, first, second = done.out.splitlines()
    assert head.split() == ["time", "election", "event", "token", "holder"]
    assert first.split()[1:] == ["bill", "(held)", str(elected["token"]), elected["identity"]]
    assert second.split()[1:3] == ["new", "(absent)"]
    assert head.index("holder") == first.index(elected["identity"])


def test_nothing_to_watch(url: str) -> None:
    done = run("watch", "--store", url)
    assert (done.code, done.out) == (1, "")
    assert "name the one" in done.err
    assert run("watch", "bill", "--for", "0", "--store", url).code == 0
    assert run("watch", "Bill", "--store", url).code == 2
