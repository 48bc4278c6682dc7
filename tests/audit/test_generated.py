"""What `incumbent manifests` writes has no finding, alone and with the guard; nor has the guard."""

from __future__ import annotations

from typing import Any

import pytest

from incumbent.audit.case import Case
from incumbent.audit.inventory import Inventory
from incumbent.audit.objects import Manifest, Object
from incumbent.audit.rules import judge
from incumbent.manifests.guard import policies, quota
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.parts import Autoscaling, Companion, Port, Storage

STORAGE = Storage(size="1Gi")
COMPANION = Companion(image="web:1", storage=STORAGE, autoscaling=Autoscaling(2, 5))
PORTS = (Port(8080),)


def application(mode: Mode, **more: Any) -> Application:
    return Application(name="a", image="a:1", mode=mode, **more)


APPLICATIONS = [
    application(Mode.AT_LEAST_ONE, ports=PORTS, owner="x@y"),
    application(Mode.AT_LEAST_ONE, owner="x@y", companion=COMPANION),
    application(Mode.AT_MOST_ONE, ports=PORTS, owner="x@y", storage=STORAGE),
    application(Mode.AT_MOST_ONE, owner="x@y", companion=COMPANION),
    application(Mode.AT_MOST_ONE, owner="x@y", guard=True),
    application(Mode.ACTIVE_STANDBY, command=("a",)),
    application(Mode.ACTIVE_STANDBY, command=("a",), replicas=3, companion=COMPANION),
    application(Mode.ACTIVE_STANDBY, command=("a",), handover=True),
    application(Mode.ACTIVE_STANDBY, command=("a",), handover=True, handover_cordon=True),
    application(Mode.PARTLY_SINGLETON, ports=PORTS, handover=True, handover_cordon=True),
    application(Mode.PARTLY_SINGLETON, ports=PORTS),
    application(Mode.PARTLY_SINGLETON, ports=PORTS, autoscaling=Autoscaling(2, 5)),
]


def findings(objects: list[Object]) -> list[str]:
    case = Case(Inventory([Manifest(each) for each in objects]))
    return [f"{each.rule.id}: {each.sighting.text}" for each in judge(case)]


@pytest.mark.parametrize("app", APPLICATIONS, ids=lambda each: str(each.mode))
def test_what_is_generated_has_no_finding(app: Application) -> None:
    objects = objects_of(app)
    assert objects
    assert findings(objects) == []
    assert findings([*objects, *policies()]) == []


def test_the_guard_has_none() -> None:
    assert findings(policies()) == []
    assert findings([quota("books")]) == []
