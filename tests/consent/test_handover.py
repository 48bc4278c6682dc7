"""A candidate that looks at its own Pod on a real API server, and when it hands over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

import incumbent
from incumbent.consent import handover
from incumbent.consent.handover import Handover
from incumbent.errors import ConfigError
from incumbent.manifests import marks
from incumbent.stores.kubernetes.config import load
from tests.consent.kit import OWNER
from tests.consent.world import LIMIT_S, MERGE, NODES, World, wait_until
from tests.servers.kubernetes import CANDIDATES, NOBODY, ApiServer, Rule
from tests.servers.process import ChildProcess

ACTIVE = {"app": "reports", marks.MODE: "active-standby"}


class Candidate:
    """What a candidate is told, and whether it leads; it goes by what the test says."""

    def __init__(self) -> None:
        self.leading = True
        self.told: SimpleQueue[str] = SimpleQueue()

    def next(self) -> str:
        return self.told.get(timeout=LIMIT_S)

    def silent(self, looked: Callable[[], None]) -> bool:
        """Tell whether nothing has been said after it has looked once more."""
        looked()
        try:
            self.told.get_nowait()
        except Empty:
            return True
        return False


@pytest.fixture
def candidate() -> Candidate:
    return Candidate()


@pytest.fixture
def watching(
    api_server: ApiServer, world: World, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Handover]:
    monkeypatch.setattr(handover, "EVERY_S", 0.05)
    world.pod(labels=ACTIVE)
    user = CANDIDATES[1]
    pods = [Rule(("get", "list", "watch"), ("pods",), ("",))]
    nodes = api_server.grant(user, [Rule(("get",), ("nodes",), ("",))])
    api_server.grant(user, pods, world.namespace)
    kubeconfig = str(api_server.kubeconfig(user, namespace=world.namespace))
    with Handover(
        candidate.told.put,
        lambda: candidate.leading,
        connection=load(kubeconfig=kubeconfig),
        pod="reports-0",
    ) as made:
        yield made
    api_server.revoke(nodes)


def request(world: World, name: str = "reports-0", when: str = "") -> str:
    when = when or datetime.now(UTC).isoformat(timespec="seconds")
    notes = {marks.EVICTION_REQUESTED: when, marks.EVICTION_REQUESTED_BY: "ann"}
    world.patch(name, {"metadata": {"annotations": notes}})
    return when


def cordon(world: World, on: bool, node: str = "") -> None:
    path = f"{NODES}/{node or world.node}"
    world.server.request("PATCH", path, {"spec": {"unschedulable": on}}, content_type=MERGE)


def looks(watching: Handover) -> Callable[[], None]:
    """Return what waits until it has looked at everything once more, from now on."""

    def looked() -> None:
        before = watching.looks
        wait_until(lambda: watching.looks >= before + 2, "it has looked")

    return looked


def test_it_hands_over_once_when_its_eviction_is_wanted_and_another_is_there(
    world: World, candidate: Candidate, watching: Handover
) -> None:
    when = request(world)
    assert candidate.silent(looks(watching)), "there is nobody to hand over to"
    world.pod("reports-1", ACTIVE)
    assert candidate.next() == f"ann has asked for the eviction of Pod reports-0 since {when}"
    assert candidate.silent(looks(watching)), "elected again, it keeps what it has"
    request(world, when=datetime.now(UTC).isoformat())
    assert "ann has asked" in candidate.next()


def test_a_standby_hands_over_when_it_comes_to_lead(
    world: World, candidate: Candidate, watching: Handover
) -> None:
    candidate.leading = False
    world.pod("reports-1", ACTIVE)
    request(world)
    candidate.leading = True
    assert "ann has asked" in candidate.next()


def test_two_that_are_both_to_go_do_not_pass_it_to_and_fro(
    world: World, candidate: Candidate, watching: Handover
) -> None:
    world.pod("reports-1", ACTIVE)
    request(world, "reports-1")
    request(world)
    assert candidate.silent(looks(watching))


def test_it_hands_over_when_its_node_is_cordoned_to_one_whose_node_is_not(
    world: World, candidate: Candidate, watching: Handover
) -> None:
    world.pod("reports-1", ACTIVE)
    cordon(world, on=True)
    assert candidate.silent(looks(watching)), "the other one is on the same node"
    elsewhere = World(world.server, world.namespace)
    try:
        elsewhere.pod("reports-2", ACTIVE)
        assert candidate.next() == f"node {world.node} is cordoned"
        assert candidate.silent(looks(watching))
        cordon(world, on=False)
        looks(watching)()
        cordon(world, on=True)
        assert candidate.next() == f"node {world.node} is cordoned", "it was lifted in between"
    finally:
        elsewhere.close()


def test_without_the_right_to_nodes_it_hands_over_before_an_eviction(
    api_server: ApiServer,
    world: World,
    candidate: Candidate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(handover, "EVERY_S", 0.05)
    world.pod(labels=ACTIVE)
    world.pod("reports-1", ACTIVE)
    user = CANDIDATES[2]
    pods = [Rule(("get", "list", "watch"), ("pods",), ("",))]
    grant = api_server.grant(user, pods, world.namespace)
    kubeconfig = str(api_server.kubeconfig(user, namespace=world.namespace))
    connection = load(kubeconfig=kubeconfig)
    with Handover(candidate.told.put, lambda: True, connection=connection, pod="reports-0"):
        wait_until(lambda: "cannot look at node" in caplog.text, "it says so")
        request(world)
        assert "ann has asked" in candidate.next()
    api_server.revoke(grant)


def test_one_that_no_eviction_will_find_says_so_once(
    world: World,
    candidate: Candidate,
    watching: Handover,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wait_until(lambda: "so no eviction of it is held up" in caplog.text, "it says so")
    looks(watching)()
    assert caplog.text.count("role_label=1") == 1


def test_one_that_is_marked_says_nothing_of_it(
    world: World,
    candidate: Candidate,
    watching: Handover,
    caplog: pytest.LogCaptureFixture,
) -> None:
    candidate.leading = False
    world.patch("reports-0", {"metadata": {"labels": {marks.ROLE: "active"}}})
    seen = looks(watching)
    seen()
    candidate.leading = True
    for _ in range(handover._UNMARKED_LOOKS):
        seen()
    assert "role_label=1" not in caplog.text


def test_without_the_right_it_says_which_and_goes_on(
    api_server: ApiServer, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.pod(labels=ACTIVE)
    kubeconfig = str(api_server.kubeconfig(NOBODY, namespace=world.namespace))
    told: list[str] = []
    connection = load(kubeconfig=kubeconfig)
    with Handover(told.append, lambda: True, connection=connection, pod="reports-0"):
        wait_until(lambda: "cannot follow Pod reports-0" in caplog.text, "it says so")
    assert "resources: [pods], verbs: [get]" in caplog.text
    assert told == []


def test_what_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    election = incumbent.Election("reports", store=f"sqlite://{tmp_path}/x.db")
    with (
        pytest.raises(ConfigError, match="there are eviction and cordon"),
        handover.beside(election, on=["drain"]),
    ):
        raise AssertionError
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="no Kubernetes API server"), handover.beside(election):
        raise AssertionError


def test_run_hands_over_before_an_eviction(
    api_server: ApiServer, world: World, tmp_path: Path
) -> None:
    """Two Pods' processes; the one that leads is wanted away, and the other one is elected."""
    kubeconfig = api_server.kubeconfig(namespace=world.namespace)
    shown = "import os,time; print('leads', flush=True); time.sleep(600)"
    running = {}
    try:
        for name in ("reports-0", "reports-1"):
            world.pod(name, ACTIVE, {marks.OWNER: OWNER})
            running[name] = ChildProcess(
                name,
                [
                    *(sys.executable, "-m", "incumbent", "run", "reports", "--ttl", "20"),
                    *("--hand-over-on", "eviction", "--as", name),
                    *("--", sys.executable, "-c", shown),
                ],
                log_path=tmp_path / f"{name}.log",
                environment={
                    "KUBECONFIG": os.fspath(kubeconfig),
                    "INCUMBENT_STORE": f"kubernetes://{world.namespace}",
                    "POD_NAME": name,
                },
            )

        def leads(name: str) -> bool:
            return b"leads" in (tmp_path / f"{name}.log").read_bytes()

        path = api_server.lease_path(world.namespace)
        lease = {"metadata": {"name": "reports"}, "spec": {}}
        api_server.request("POST", path, lease)
        running["reports-0"].spawn()
        wait_until(lambda: leads("reports-0"), "the first leads")
        running["reports-1"].spawn()
        wait_until(
            lambda: b"standby" in (tmp_path / "reports-1.log").read_bytes(), "the other waits"
        )
        when = request(world)
        wait_until(lambda: leads("reports-1"), "the other leads")
        told = (tmp_path / "reports-0.log").read_text(encoding="utf-8")
        assert f"ann has asked for the eviction of Pod reports-0 since {when}" in told
        assert running["reports-0"].running, "it stays, as a standby"
    finally:
        for process in running.values():
            process.kill()
