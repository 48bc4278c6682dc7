"""An operator that dies behind each of its writes, and two at once: in the end all is as meant."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from incumbent.manifests.modes import Mode
from incumbent.operator.cluster import Cluster
from incumbent.operator.reconciling import Reconciler
from tests.manifests.kit import PLAIN
from tests.operator.cluster import Stage
from tests.servers.kubernetes import ApiServer

_ROOT = Path(__file__).parents[2]
_FIRST, _SECOND = PLAIN[Mode.AT_MOST_ONE], PLAIN[Mode.AT_LEAST_ONE]
_MOST_WRITES = 60


@pytest.fixture
def stages(defined: ApiServer, namespace: str) -> Iterator[tuple[Stage, Stage]]:
    """One that is disturbed, and one that is not."""
    undisturbed = f"{namespace}-undisturbed"
    defined.create_namespace(undisturbed)
    found = Stage(defined, namespace), Stage(defined, undisturbed)
    yield found
    for stage in found:
        stage.server.close()


@pytest.fixture
def dies(stages: tuple[Stage, Stage]) -> Iterator[Callable[[], bool]]:
    """Have an operator look after the first one; tell whether it died."""
    stage, _ = stages
    command = [sys.executable, "-m", "tests.operator.mortal"]
    program = subprocess.Popen(
        [*command, stage.kubeconfig, stage.namespace, stage.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{_ROOT / 'src'}:{_ROOT}"},
    )

    def once() -> bool:
        if program.stdin is None or program.stdout is None:
            raise AssertionError("no pipes")
        program.stdin.write("go on\n")
        program.stdin.flush()
        words = program.stdout.readline().strip()
        if words not in ("done", "killed"):
            raise AssertionError(f"it {words}")
        return words == "killed"

    yield once
    program.communicate()


def _at_work(stage: Stage) -> list[str]:
    return [obj["kind"] for obj in stage.workloads() if obj["spec"]["replicas"] > 0]


def test_dead_behind_every_write(stages: tuple[Stage, Stage], dies: Callable[[], bool]) -> None:
    stage, undisturbed = stages

    def deaths() -> int:
        for count in range(_MOST_WRITES):
            if not dies():
                return count
            assert len(_at_work(stage)) <= 1
        raise AssertionError("it has no end")

    for one in stages:
        one.apply(_FIRST)
    undisturbed.operate()
    assert deaths() > 8
    assert stage.whole() == undisturbed.whole()
    pods = [one.start() for one in stages]
    for one in stages:
        one.apply(_SECOND)
    undisturbed.operate()
    deaths()
    assert _at_work(stage) == ["StatefulSet"], "it is deleted, and at work until it is gone"
    for one, pod in zip(stages, pods, strict=True):
        one.end(pod)
        one.collect()
    undisturbed.operate()
    assert deaths() > 3
    assert _at_work(stage) == ["Deployment"]
    assert stage.whole() == undisturbed.whole()
    told = [sorted((kind, reason) for kind, reason, _ in one.events()) for one in stages]
    assert told[0] == told[1], "each event is told, and once"


def test_two_at_once(stages: tuple[Stage, Stage]) -> None:
    """Nobody has elected one of them, and neither knows of the other."""
    stage, undisturbed = stages

    async def together(cluster: Cluster) -> None:
        name = stage.namespace, stage.name
        pair = [Reconciler(cluster, None, f"operator-{number}") for number in range(2)]
        for _ in range(2):
            await asyncio.gather(*(one.reconcile(name) for one in pair))

    scaled = replace(PLAIN[Mode.ACTIVE_STANDBY], replicas=3)
    for app in (_FIRST, scaled):
        for one in stages:
            one.apply(app)
        stage.run(together)
        undisturbed.operate()
        for one in stages:
            one.collect()
        stage.run(together)
        undisturbed.operate()
        assert len(_at_work(stage)) == 1
        assert stage.whole() == undisturbed.whole()
    told = [sorted((kind, reason) for kind, reason, _ in one.events()) for one in stages]
    assert told[0] == told[1], "each event is told, and once"
