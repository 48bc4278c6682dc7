from __future__ import annotations

import re
import signal

import pytest

from tests.cli.conftest import Start
from tests.cli.processes import run, run_in_terminal
from tests.faces.programs import until
from tests.servers.kubernetes import ApiServer
from tests.servers.proxy import Proxy


def test_nobody_holds_what_was_never_elected(url: str) -> None:
    done = run("status", "bill", "--store", url)
    assert done.code == 1
    assert "absent" in done.out
    found = run("status", "bill", "--store", url, "--json")
    assert found.code == 1
    assert found.json == {
        "election": "bill",
        "state": "absent",
        "holder": None,
        "last_holder": None,
        "token": None,
        "ttl_s": None,
        "term": None,
        "successor": None,
        "request": None,
        "why": None,
        "sign": None,
    }


def test_an_empty_store_is_no_failure(url: str) -> None:
    done = run("status", "--store", url)
    assert (done.code, done.out) == (0, "")
    assert "no elections" in done.err
    assert run("status", "--store", url, "--json").json == {"elections": []}


def test_the_holder_is_shown_to_people_and_programs(url: str, candidate: Start) -> None:
    elected = candidate("a").event("elected")
    done = run("status", "--store", url)
    assert done.code == 0
    head, row = done.out.splitlines()
    assert head.split() == ["election", "state", "holder", "token", "TTL"]
    assert row.split() == ["bill", "held", elected["identity"], str(elected["token"]), "2", "s"]
    assert "--confirm" in done.err
    assert run("status", "--store", url, "-q").err == ""

    found = run("status", "bill", "--store", url, "--json")
    assert found.code == 0
    assert found.json["state"] == "held"
    assert found.json["holder"] == elected["identity"]
    assert found.json["token"] == elected["token"]
    assert found.json["ttl_s"] == 2.0
    assert found.json["sign"] is None
    (only,) = run("--json", "--store", url, "status").json["elections"]
    assert only == found.json


def test_the_store_may_be_named_by_the_environment(url: str, candidate: Start) -> None:
    candidate("a").event("elected")
    assert run("status", "bill", extra={"INCUMBENT_STORE": url}).code == 0


def test_a_release_leaves_a_vacancy(url: str, candidate: Start) -> None:
    holder = candidate("a")
    identity = holder.event("elected")["identity"]
    holder.process.terminate()
    assert holder.wait() == 0
    done = run("status", "bill", "--store", url, "--json")
    assert done.code == 1
    assert (done.json["state"], done.json["holder"]) == ("vacant", None)
    assert done.json["last_holder"] == identity
    assert identity in run("status", "bill", "--store", url).out


def test_confirm_sees_a_renewal(url: str, candidate: Start) -> None:
    candidate("a").event("elected")
    done = run("status", "bill", "--confirm", "--store", url, "--json")
    assert (done.code, done.json["sign"]) == (0, "renewed")
    assert "renews" in run("status", "--confirm", "--store", url).out


def test_confirm_sees_death(url: str, candidate: Start) -> None:
    holder = candidate("a", ttl_s=20)
    holder.event("elected")
    assert run("status", "bill", "--store", url).code == 0
    holder.process.kill()
    holder.wait()
    done = run("status", "bill", "--confirm", "--store", url, "--json")
    assert (done.code, done.json["sign"]) == (1, "dead")
    assert done.json["state"] == "held"


def test_confirm_hears_silence(url: str, candidate: Start) -> None:
    holder = candidate("a", ttl_s=4, how="deaf")
    holder.event("elected")
    holder.process.send_signal(signal.SIGSTOP)
    done = run("status", "bill", "--confirm", "--store", url, "--json")
    assert (done.code, done.json["sign"]) == (1, "silent")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_a_terminal(url: str, candidate: Start, columns: int) -> None:
    identity = candidate("a" * 60).event("elected")["identity"]
    code, screen = run_in_terminal("status", "--store", url, columns=columns)
    assert code == 0
    assert "\x1b[" in screen
    rows = [row for row in screen.splitlines() if row.strip()]
    assert len(rows) == (4 if columns == 80 else 3)
    assert identity[:20] in screen


def test_no_colour_where_none_is_wanted(
    url: str, candidate: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate("a").event("elected")
    assert "\x1b" not in run("status", "--store", url).out
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-7]")
    assert coloured.search(run_in_terminal("status", "--store", url)[1])
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured.search(run_in_terminal("status", "--store", url)[1])


def test_a_terminal_that_knows_no_arrows(url: str) -> None:
    done = run("doctor", "bill", "--store", url, extra={"PYTHONIOENCODING": "ascii"})
    assert done.code == 0
    assert "? start a candidate" in done.out


def test_a_store_that_does_not_answer_is_no_silent_holder(
    api_server: ApiServer, namespace: str, api_proxy: Proxy, start: Start
) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "bill"},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3},
    }
    api_server.request("POST", api_server.lease_path(namespace), lease)
    config = api_server.kubeconfig(url=f"https://{api_proxy.address}")
    store = f"kubernetes://{namespace}?kubeconfig={config}"
    status = start("status", "bill", "--confirm", "--json", "--store", store)
    until(lambda: api_proxy.accepted >= 2, "it reads and watches")
    api_proxy.cut()
    assert status.wait() == 69
    assert "gave no answer" in status.errors()


def test_how_many_are_watched_is_said_in_words(url: str, candidate: Start, start: Start) -> None:
    holder = candidate("a", ttl_s=30, how="deaf")
    holder.event("elected")
    holder.process.send_signal(signal.SIGSTOP)
    looking = start("status", "--confirm", "--store", url)
    assert looking.process.stderr is not None
    line = looking.process.stderr.readline()
    assert line.startswith("incumbent: watching 1 holder for up to 30 s"), line
