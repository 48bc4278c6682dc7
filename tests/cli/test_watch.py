from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from incumbent.cli.options import Options
from incumbent.cli.watch import Lines, View, _Look
from incumbent.clock import boottime
from incumbent.core.records import Holding, Snapshot, absent
from incumbent.errors import StoreUnavailable
from tests.cli.conftest import Start
from tests.cli.processes import run
from tests.servers.kubernetes import ApiServer
from tests.servers.proxy import Proxy


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


def test_a_store_that_goes_away_and_comes_back(url: str, candidate: Start, start: Start) -> None:
    path = Path(url.removeprefix("sqlite://"))
    watch = start("watch", "bill", "--store", url, "--json")
    watch.event("now")
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)
    lost = watch.event("unreachable")
    assert (lost["election"], lost["state"]) == (None, None)
    assert f"there is no database at {path}" in lost["why"]
    assert not path.parent.exists()
    aside.rename(path.parent)
    assert "answers again" in watch.event("reachable")["why"]
    identity = candidate("a").event("elected")["identity"]
    assert watch.event("elected")["holder"] == identity


def test_a_store_that_goes_away_is_told_to_people(url: str, start: Start) -> None:
    folder = Path(url.removeprefix("sqlite://")).parent
    watch = start("watch", "bill", "--store", url, "-q", "--count", "3")
    assert watch.line().split()[1:3] == ["bill", "(absent)"]
    folder.rename(folder.with_name("aside"))
    assert watch.line().split()[1:6] == ["unreachable", "there", "is", "no", "database"]
    folder.with_name("aside").rename(folder)
    assert watch.line().split()[1:6] == ["reachable", "the", "store", "answers", "again,"]
    assert watch.wait() == 0


def test_an_api_server_that_goes_silent(
    api_server: ApiServer, namespace: str, api_proxy: Proxy, start: Start
) -> None:
    """No connection breaks: the watch of the server says nothing, as it does when all is well."""
    config = api_server.kubeconfig(url=f"https://{api_proxy.address}")
    store = f"kubernetes://{namespace}?kubeconfig={config}"
    watch = start("watch", "bill", "--json", "--store", store)
    watch.event("now")
    api_proxy.cut()
    assert "no answer" in watch.event("unreachable")["why"]
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "bill"},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 5},
    }
    api_server.request("POST", api_server.lease_path(namespace), lease)
    api_proxy.heal()
    watch.event("reachable")
    assert watch.event("elected")["holder"] == "somebody"


def test_a_read_that_was_overtaken_is_not_believed(capsys: pytest.CaptureFixture[str]) -> None:
    before, vacant = absent("bill", 1), Snapshot("bill", Holding.VACANT, 3, 3, holder="a")
    held = Snapshot("bill", Holding.HELD, 2, 2, holder="a", term="a/1", lease_key="k")
    out = Lines(Options(json=True), 8, None)
    view = View(out, [before], verbose=True)
    asked_s = boottime()
    view.take_in(("bill", vacant))
    view.take_in(_Look(asked_s, [held]))
    assert told(capsys) == ["now", "vacant"]
    view.take_in(_Look(boottime(), [held, absent("new")]))
    assert told(capsys) == ["elected"]


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]


def test_the_store_is_lost_once_and_found_once(capsys: pytest.CaptureFixture[str]) -> None:
    held = Snapshot("bill", Holding.HELD, 2, 2, holder="a", term="a/1", lease_key="k")
    out = Lines(Options(json=True), 8, None)
    view = View(out, [held], verbose=False)
    for cause in ("it is down", "it is still down"):
        view.take_in(_Look(boottime(), StoreUnavailable(cause)))
    view.take_in(("bill", absent("bill", 3)))
    view.take_in(("bill", held))
    view.take_in(_Look(boottime(), [held]))
    assert told(capsys) == ["now", "unreachable", "absent", "reachable", "elected"]
