"""Work that notes how far it has come has the right to that, and to nothing else.

By the audit log of a real API server with RBAC, as in `test_rights`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from incumbent.cli.codes import NOPERM
from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.stores.kubernetes.checkpoints import lease_name
from tests.cli.processes import Process, run
from tests.faces.programs import until
from tests.manifests.kit import PLAIN, by_name, path_of
from tests.manifests.test_rights import Installed, Uses
from tests.servers.kubernetes import ApiServer

ROLE = "reports-checkpoints"


class Working(Installed):
    """Work that elects by itself, with the variables and words of its container."""

    @property
    def command(self) -> list[str]:
        container = self._container()
        program, *words = container["command"]
        ours = [sys.executable, "-m", "incumbent.cli"]
        return [*ours, *words] if program == "incumbent" else [program, *words]

    def start(self, extra: dict[str, str] | None = None) -> Process:
        told = {one["name"]: one["value"] for one in self._container()["env"] if "value" in one}
        return super().start({**told, **(extra or {})})

    def _container(self) -> Object:
        pod: Object = self.found["Deployment", self.app.name]["spec"]["template"]["spec"]
        container: Object = pod["containers"][0]
        return container

    def granted(self) -> Uses:
        """Return what the Roles allow; a right without names is one to everything."""
        return {
            (verb, resource, name)
            for kind, called in self.found
            if kind == "Role"
            for rule in self.found[kind, called]["rules"]
            for verb in rule["verbs"]
            for resource in rule["resources"]
            for name in rule.get("resourceNames", ["*"])
        }

    def used(self) -> Uses:
        return {
            (verb, resource, "*" if verb == "create" else name)
            for verb, resource, name in super().used()
        }


def _every(namespace: str, ticks: Path) -> Application:
    mark = f"import time; open({str(ticks)!r}, 'a').write('tick\\n')"
    return replace(
        PLAIN[Mode.PARTLY_SINGLETON],
        namespace=namespace,
        ports=(),
        command=("incumbent", "every", "500ms", "reports", "--", sys.executable, "-c", mark),
    )


@pytest.fixture
def ticks(tmp_path: Path) -> Path:
    return tmp_path / "ticks"


@pytest.fixture
def working(api_server: ApiServer, namespace: str, ticks: Path) -> Iterator[Working]:
    made = Working(api_server, _every(namespace, ticks))
    yield made
    made.close()


def _count(ticks: Path) -> int:
    return ticks.read_text().count("\n") if ticks.exists() else 0


def test_a_line_of_cron_needs_the_rights_that_are_known_of_it(
    working: Working, ticks: Path
) -> None:
    first = working.start()
    until(lambda: _count(ticks) >= 2, "ticks")
    first.process.terminate()
    first.wait()
    before = _count(ticks)
    second = working.start()
    until(lambda: _count(ticks) > before, "ticks of another term")
    second.process.terminate()
    second.wait()
    assert working.used() == working.granted()
    events = working.server.audit_events(working.user)
    assert {event["responseStatus"]["code"] for event in events} <= {200, 201, 404, 409}


def test_no_other_checkpoint_and_no_other_verb(working: Working) -> None:
    election, namespace = working.app.election, working.app.namespace

    def may(verb: str, name: str) -> bool:
        access = {"verb": verb, "name": name, "resource": "leases", "namespace": namespace}
        return working.server.allowed(working.user, {**access, "group": "coordination.k8s.io"})

    ours, orders = lease_name(election, "job.main"), lease_name(election, "orders")
    until(lambda: may("update", ours), "the binding counts")
    granted = (("get", ours), ("get", orders), ("create", ""))
    assert [one for one in granted if not may(*one)] == []
    for other in (lease_name(election, "job.other"), lease_name("other", "job.main"), "other"):
        assert [verb for verb in ("get", "update", "watch", "patch") if may(verb, other)] == []
    assert [verb for verb in ("list", "watch", "delete", "patch") if may(verb, ours)] == []
    assert not may("update", orders)


def test_without_the_rights_the_error_names_the_rule(
    api_server: ApiServer, namespace: str, ticks: Path
) -> None:
    app = _every(namespace, ticks)
    bare = Working(api_server, app)
    role = bare.found["Role", ROLE]
    role["rules"] = [rule for rule in role["rules"] if "update" not in rule["verbs"]]
    api_server.request("PUT", path_of(role, namespace), role)
    try:
        process = bare.start()
        assert process.wait() == NOPERM
        told = process.errors()
        assert f"resourceNames: [{lease_name('reports', 'job.main')}]" in told, told
        assert "the rule that is missing" in told
        assert _count(ticks) == 0
    finally:
        bare.close()


def test_what_is_typed_gives_the_rights_to_the_parts_that_are_named() -> None:
    words = ("reports", "--mode", "partly-singleton", "--image", "a:1", "--port", "80", "--json")
    done = run("manifests", *words, "--checkpoints", "poll", "--checkpoints", "consumer")
    rules = by_name(done.json["items"])["Role", ROLE]["rules"]
    assert [rule["verbs"] for rule in rules] == [["get", "update"], ["create"]]
    assert rules[0]["resourceNames"] == [
        lease_name("reports", part) for part in ("consumer", "poll")
    ]


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("incumbent", "poll", "/in", "reports", "--", "x"), []),
        (("incumbent", "consume", "redis://r/0?stream=s", "reports", "--", "x"), []),
        (("incumbent", "work", "reports.toml"), []),
        (("incumbent", "every", "1m", "reports", "--", "x"), ["Role", "RoleBinding"]),
    ],
)
def test_what_keeps_no_checkpoint_gets_no_right(words: tuple[str, ...], kinds: list[str]) -> None:
    app = replace(PLAIN[Mode.PARTLY_SINGLETON], ports=(), command=words)
    assert [kind for kind, name in by_name(objects_of(app)) if name == ROLE] == kinds


def test_the_checkpoints_of_another_store_need_no_right_here() -> None:
    app = replace(
        PLAIN[Mode.PARTLY_SINGLETON],
        ports=(),
        command=("incumbent", "every", "1m", "reports", "--", "x"),
        store_secret="stores/redis",
    )
    assert ROLE not in [name for _, name in by_name(objects_of(app))]
