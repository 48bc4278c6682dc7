"""The stores that histories can be run against, by name."""

from __future__ import annotations

from incumbent.testing.simulator.bench import Bench, MemoryBench
from incumbent.testing.simulator.beside import BesideBench
from incumbent.testing.simulator.faults import FAULTS, TAMPERING
from incumbent.testing.simulator.history import History, Kind, Outcome, run
from incumbent.testing.simulator.joined import JoinedBench
from incumbent.testing.simulator.keyvalue import KeyValueBench
from incumbent.testing.simulator.kubernetes import KubernetesBench
from incumbent.testing.simulator.kubernetes_deaths import KubernetesDeathsBench
from incumbent.testing.simulator.kubernetes_session import (
    KubernetesSessionBench,
    unheard_deletion,
)
from incumbent.testing.simulator.members import THEIR_FAULTS, end_session
from incumbent.testing.simulator.queue import QueueBench
from incumbent.testing.simulator.queue_faults import QUEUE_FAULTS, QUEUE_TAMPERING
from incumbent.testing.simulator.sql import SqlBench
from incumbent.testing.simulator.sqlite import SqliteBench
from incumbent.testing.simulator.sqlite_faults import SQLITE_FAULTS, SQLITE_TAMPERING

__all__ = ["STORES", "simulate"]


def _memory(history: History, absent_is_vacant: bool) -> Bench:
    return MemoryBench(history.judge, absent_is_vacant=absent_is_vacant)


def _kubernetes(history: History, absent_is_vacant: bool) -> Bench:
    return KubernetesBench(history.judge, history.network)


def _kubernetes_session(history: History, absent_is_vacant: bool) -> Bench:
    return KubernetesSessionBench(history.judge, history.network)


def _key_value(history: History, absent_is_vacant: bool) -> Bench:
    return KeyValueBench(history.judge, history.network)


def _beside(history: History, absent_is_vacant: bool) -> Bench:
    return BesideBench(history, absent_is_vacant=absent_is_vacant)


def _sql(history: History, absent_is_vacant: bool) -> Bench:
    return SqlBench(history.judge, history.network)


STORES = {
    "beside": Kind(
        _beside,
        whole_seconds=False,
        hears_of_tampering=True,
        faults=(*FAULTS, *THEIR_FAULTS, (end_session, 1.0)),
    ),
    "joined": Kind(
        lambda history, _: JoinedBench(history),
        whole_seconds=False,
        hears_of_tampering=True,
        faults=(*FAULTS, *THEIR_FAULTS),
    ),
    "kv": Kind(_key_value, whole_seconds=False),
    "kubernetes": Kind(_kubernetes, whole_seconds=True),
    "kubernetes-evidence": Kind(
        lambda history, _: KubernetesDeathsBench(history.judge, history.network),
        whole_seconds=True,
    ),
    "kubernetes-session": Kind(
        _kubernetes_session,
        whole_seconds=True,
        hears_of_tampering=True,
        tampering=(*TAMPERING, (unheard_deletion, 2.0)),
    ),
    "queue": Kind(
        lambda history, _: QueueBench(history),
        whole_seconds=False,
        take_trips=3,
        hears_of_tampering=True,
        faults=QUEUE_FAULTS,
        tampering=QUEUE_TAMPERING,
    ),
    "sql": Kind(_sql, whole_seconds=False, hears_of_tampering=True),
    "sqlite": Kind(
        lambda history, _: SqliteBench(history),
        whole_seconds=False,
        proves_death=True,
        faults=SQLITE_FAULTS,
        tampering=SQLITE_TAMPERING,
    ),
    "memory": Kind(_memory, whole_seconds=False),
}


def simulate(
    seed: int, *, store: str = "memory", transcript: bool = False, patient: bool = False
) -> Outcome:
    """Run the history of one seed against a store; see `history.run`."""
    return run(seed, kind=STORES[store], transcript=transcript, patient=patient)
