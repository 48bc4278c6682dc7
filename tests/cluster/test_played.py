"""All modes on a played cluster: one cut between a node and the API server, shorter than the real.

The control plane is real, the Pods are local processes. What only containers and a network can show
is played by `python -m tests.cluster --all`, on the real cluster.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.cluster import ledger, reader
from tests.cluster.causes import CAUSES
from tests.cluster.expected import judge
from tests.cluster.fakecluster import FakeCluster, played_cluster
from tests.cluster.rounds import Round, play
from tests.cluster.workloads import AT_LEAST, AT_MOST, MODES, STANDBY, application
from tests.servers.kubernetes import ApiError

pytestmark = pytest.mark.slow

HEAL_S = 12
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def played() -> Iterator[FakeCluster]:
    with played_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cut(played: FakeCluster) -> Round:
    cut, heal = CAUSES["api"].steps
    shorter = replace(CAUSES["api"], steps=(cut, replace(heal, at_s=HEAL_S)))
    return play(played, shorter, MODES, lambda _event: None)


def test_it_comes_as_it_is_expected(cut: Round) -> None:
    findings = judge(cut)
    assert not [finding for finding in findings if not finding.met]
    assert {finding.mode for finding in findings} == set(MODES)
    # The API server knew nothing of the first ones any more, and they worked on.
    for mode in (AT_LEAST, AT_MOST):
        first = cut.spans[mode][0]
        assert first.node == cut.node
        assert cut.since_s(first.last_ns) > HEAL_S


def test_only_the_fence_tells_the_deposed_from_the_active(played: FakeCluster, cut: Round) -> None:
    assert cut.late_status == 412
    tokens = [entry.token for entry in cut.entries[STANDBY]]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) >= 2
    # Those that nobody elected wrote both, in turns.
    writers = [entry.writer for entry in cut.entries[AT_LEAST]]
    assert sum(one != other for one, other in itertools.pairwise(writers)) >= 3
    refused = ledger.refusals(played.ledger_file, application(STANDBY))
    assert [entry.writer for entry in refused] == ["late"]


def test_a_pod_that_is_deaf_is_killed_after_its_grace(played: FakeCluster, cut: Round) -> None:
    path = played.site.marks_of("deaf")
    deaf = (
        "import signal, time; from tests.cluster.marks import *; f = open_file(%r)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True: mark(f, 'active', 0); time.sleep(0.02)"
    )
    main = {
        "name": "main",
        "image": "none",
        "command": [sys.executable, "-c", deaf % str(path)],
        "env": [{"name": "PYTHONPATH", "value": played.site.environment["PYTHONPATH"]}],
    }
    pod = {"metadata": {"name": "deaf"}, "spec": {"containers": [main]}}
    played.api.request("POST", PODS, pod)
    _await(lambda: reader.read(path))
    asked_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    played.api.request("DELETE", f"{PODS}/deaf?gracePeriodSeconds=1")
    _await(lambda: not _there(played, "deaf"))
    (span,) = reader.spans(reader.read(path))
    assert 0.9 < (span.last_ns - asked_ns) / 1e9 < 3
    with pytest.raises(ProcessLookupError):
        os.kill(span.pid, 0)


def _there(played: FakeCluster, name: str) -> bool:
    try:
        played.api.get(f"{PODS}/{name}")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def _await(happened: object, limit_s: float = 20) -> None:
    assert callable(happened)
    deadline_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)  # sleep: the API is asked, and does not call
