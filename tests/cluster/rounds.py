"""One round: applications are deployed, their node is hurt, and healed.

The node is that on which the elected application is active; the others are put there as well. An
elected application with its active elsewhere is asked, by `incumbent step-down`, to move. A round
ends when every application is whole again, and has one active.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.cluster import ledger, reader
from tests.cluster.api import path_of
from tests.cluster.causes import Cause
from tests.cluster.marks import SERVING
from tests.cluster.observer import Event, Observer, now_ns
from tests.cluster.reader import Span
from tests.cluster.site import ROOT
from tests.cluster.stage import Stage, await_, ready_nodes
from tests.cluster.workloads import ELECTED, STANDBY, application, objects
from tests.servers.kubernetes import ApiError
from tests.servers.process import ServerError

__all__ = ["Round", "active", "play"]

_SETTLE_LIMIT_S = 90.0
_STEADY_S = 2.0
_POLL_S = 0.2
_FRESH_NS = 1_000_000_000
_S = 1_000_000_000


@dataclass(slots=True)
class Round:
    """What came of it. Instants are on the boot clock, of which the machine has one."""

    cause: Cause
    node: str
    modes: tuple[str, ...]
    began_ns: int
    ttl_s: int
    healed_ns: int = 0
    ended_ns: int = 0
    spans: dict[str, list[Span]] = field(default_factory=dict)
    serving: dict[str, list[Span]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    entries: dict[str, list[ledger.Entry]] = field(default_factory=dict)
    late_status: int = 0
    """What the ledger answered to a write under the token of the deposed; 0 without such a one."""

    def since_s(self, at_ns: int) -> float:
        """Return how long after the cause an instant was."""
        return (at_ns - self.began_ns) / _S


def active(stage: Stage, mode: str) -> list[Span]:
    """Return who has been active in the last second."""
    return _fresh(reader.spans(reader.read(stage.site.marks_of(application(mode)))))


def play(
    stage: Stage,
    cause: Cause,
    modes: Sequence[str],
    say: Callable[[Event], None],
    look: Callable[[Round], None] = lambda _round: None,
) -> Round:
    """Play a round. `say` is told of each event, `look` shown the round now and then."""
    observer = Observer(stage, say)
    observer.start()
    try:
        node = _deploy(stage, modes)
        observer.tell("done", f"all are active on {node}: {', '.join(modes)}")
        _pause(stage, _STEADY_S)
        began_ns = now_ns()
        played = Round(cause, node, tuple(modes), began_ns, stage.site.ttl_s)
        played.events = observer.events
        for step in cause.steps:
            _until(stage, played, began_ns + int(step.at_s * _S), look)
            if step is cause.steps[-1]:
                played.healed_ns = now_ns()
            step.act(stage, node)
            observer.tell("done", step.says)
            if step is cause.steps[0]:
                _try_late(stage, played, look)
        _settle(stage, played, look)
        _gather(stage, played)
        played.ended_ns = now_ns()
        observer.tell("done", "every application is whole, and has one active")
        look(played)
    finally:
        observer.stop()
    _remove(stage, modes)
    return played


def _deploy(stage: Stage, modes: Sequence[str]) -> str:
    elected = [mode for mode in modes if mode in ELECTED]
    await_(stage, lambda: len(ready_nodes(stage.api)) == 2, "two nodes to be Ready")
    for mode in elected:
        _make(stage, objects(mode, stage.site))
    for mode in elected:
        await_(stage, partial(_has_one, stage, mode), f"{mode} to be active")
        await_(stage, partial(_whole, stage, mode), f"{mode} to be whole")
    node = active(stage, elected[0])[0].node if elected else "node1"
    for mode in elected[1:]:
        if active(stage, mode)[0].node != node:
            _step_down(stage, application(mode))
            await_(
                stage,
                partial(_is_on, stage, mode, node),
                f"{mode} to be active on {node}",
            )
    others = [mode for mode in modes if mode not in ELECTED]
    for mode in others:
        _make(stage, objects(mode, stage.site, node=node))
    for mode in others:
        await_(stage, partial(_has_one, stage, mode), f"{mode} to be active")
        await_(stage, partial(_whole, stage, mode), f"{mode} to be whole")
        if active(stage, mode)[0].node != node:
            raise ServerError(f"{mode} was put on the other node")
    return node


def _make(stage: Stage, things: Iterable[dict[str, Any]]) -> None:
    for thing in things:
        stage.api.create(thing)


def _step_down(stage: Stage, election: str) -> None:
    environment = {
        **os.environ,
        "KUBECONFIG": str(stage.kubeconfig),
        "PYTHONPATH": str(ROOT / "src"),
        "INCUMBENT_STORE": "kubernetes://default",
    }
    words = [sys.executable, "-m", "incumbent", "step-down", election]
    done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerError(f"{election} was not handed over: {done.stderr}{done.stdout}")


def _try_late(stage: Stage, played: Round, look: Callable[[Round], None]) -> None:
    """When another has taken over, send what the deposed one may have had on its way."""
    if STANDBY not in played.modes or not stage.site.ledger_url:
        return
    limit_ns = played.began_ns + int((played.ttl_s + 3) * _S)
    while now_ns() < min(limit_ns, played.began_ns + int(played.cause.heal_s * _S)):
        _gather(stage, played)
        tokens = sorted({span.token for span in played.spans[STANDBY]})
        writers = {entry.token for entry in played.entries.get(STANDBY, ())}
        if len(tokens) > 1 and tokens[-1] in writers:
            played.late_status = stage.write_late(application(STANDBY), tokens[-2])
            return
        look(played)
        _pause(stage, _POLL_S)


def _until(stage: Stage, played: Round, at_ns: int, look: Callable[[Round], None]) -> None:
    while now_ns() < at_ns:
        _gather(stage, played)
        look(played)
        _pause(stage, min(0.5, max(0.0, (at_ns - now_ns()) / _S)))


def _settle(stage: Stage, played: Round, look: Callable[[Round], None]) -> None:
    def settled() -> bool:
        _gather(stage, played)
        look(played)
        return len(ready_nodes(stage.api)) == 2 and all(
            _whole(stage, mode) and len(active(stage, mode)) == 1 for mode in played.modes
        )

    await_(stage, settled, "all to be whole again", _SETTLE_LIMIT_S)


def _gather(stage: Stage, played: Round) -> None:
    for mode in played.modes:
        marks = reader.read(stage.site.marks_of(application(mode)))
        played.spans[mode] = reader.spans(marks)
        played.serving[mode] = reader.spans(marks, SERVING)
        if stage.site.ledger_url:
            # Entries of earlier rounds are another application's, as far as this one goes.
            since_ns = min((span.first_ns for span in played.spans[mode]), default=now_ns())
            found = ledger.entries(stage.ledger_file, application(mode), since_ns)
            played.entries[mode] = found


def _whole(stage: Stage, mode: str) -> bool:
    """Whether all Pods are there and ready, and none on its way out."""
    pods = _pods(stage, mode)
    wanted = 2 if mode in ELECTED else 1
    return len(pods) == wanted and all(
        "deletionTimestamp" not in pod["metadata"]
        and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod["status"].get("conditions", ())
        )
        for pod in pods
    )


def _has_one(stage: Stage, mode: str) -> bool:
    return len(active(stage, mode)) == 1


def _is_on(stage: Stage, mode: str, node: str) -> bool:
    return [one.node for one in active(stage, mode)] == [node]


def _is_gone(stage: Stage, mode: str) -> bool:
    return not _pods(stage, mode)


def _pods(stage: Stage, mode: str) -> list[dict[str, Any]]:
    name = application(mode)
    path = path_of({"apiVersion": "v1", "kind": "Pod"})
    return stage.api.items(f"{path}?labelSelector=app.kubernetes.io%2Fname%3D{name}")


def _remove(stage: Stage, modes: Sequence[str]) -> None:
    """Delete what was deployed, and wait until its processes are gone."""
    for mode in modes:
        for thing in reversed(objects(mode, stage.site)):
            path = path_of(thing, name=thing["metadata"]["name"])
            try:
                stage.api.request("DELETE", f"{path}?propagationPolicy=Background")
            except ApiError as error:
                if error.status != 404:
                    raise
    for mode in modes:
        await_(stage, partial(_is_gone, stage, mode), f"{mode} to be gone")
        stage.site.marks_of(application(mode)).unlink(missing_ok=True)


def _fresh(spans: Iterable[Span]) -> list[Span]:
    oldest_ns = now_ns() - _FRESH_NS
    return [span for span in spans if span.last_ns >= oldest_ns]


def _pause(stage: Stage, seconds: float) -> None:
    stage.check()
    time.sleep(seconds)  # sleep: time has to pass, and nothing says that it has
