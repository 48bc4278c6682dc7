"""A real API server asks the real webhook, and the real kubectl drains."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from incumbent.audit.objects import Object
from incumbent.cli.app import main
from incumbent.consent import certificates
from incumbent.consent.handover import Handover
from incumbent.consent.objects import Installation, webhook_objects
from incumbent.consent.server import ENDS, METRICS
from incumbent.manifests import marks
from incumbent.stores.kubernetes.config import load
from tests.consent.kit import OWNER
from tests.consent.world import HOOKS, LIMIT_S, Webhook, World, wait_until
from tests.servers.kubernetes import ApiServer
from tests.servers.process import ChildProcess


@dataclass
class Asked:
    """The webhook, and a world in which it is asked."""

    world: World
    webhook: Webhook
    folder: Path
    kubeconfig: Path
    kubectl: Path

    def drain(self, *words: str) -> ChildProcess:
        made = ChildProcess(
            "kubectl",
            [
                *(self.kubectl, "drain", self.world.node, "--kubeconfig", self.kubeconfig),
                *("--pod-selector", "app=reports", *words),
            ],
            log_path=self.folder / "drain.log",
        )
        made.spawn()
        return made

    def said(self) -> str:
        return (self.folder / "drain.log").read_text(encoding="utf-8")

    def incumbent(self, *words: str) -> str:
        """Run a command in this process, which takes a tenth of the time of one of its own."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main([*words, "--kubeconfig", str(self.kubeconfig)])
        return said.getvalue()

    def consent(self, *words: str) -> str:
        return self.incumbent("consent", "-n", self.world.namespace, *words)

    def decisions(self) -> list[Object]:
        """The audit trail of this world."""
        lines = self.webhook.decisions()
        return [line for line in lines if line["namespace"] == self.world.namespace]

    def verdicts(self) -> list[tuple[str, str]]:
        return [(line["verdict"], line["why"]) for line in self.decisions()]


def question(world: World, url: str, authority: bytes, policy: str = "Ignore") -> Object:
    """The configuration that is generated, but for where the webhook is."""
    made = Installation(
        image="x:1", guarded=(world.namespace,), namespace=world.namespace, failure_policy=policy
    )
    pair = certificates.Pair(authority, b"", b"", datetime.now(UTC))
    found = webhook_objects(made, pair)[-1]
    bundle = base64.b64encode(authority).decode()
    found["webhooks"][0]["clientConfig"] = {"url": url, "caBundle": bundle}
    return found


def write_pair(folder: Path) -> None:
    # A name in front, which is what is written as the common name.
    made = certificates.made(("localhost",), 2, datetime.now(UTC))
    for name, text in (("ca", made.authority), ("crt", made.certificate), ("key", made.key)):
        fresh = folder / f"new.{name}"
        fresh.write_bytes(text)
        os.replace(fresh, folder / f"tls.{name}")


@contextlib.contextmanager
def serving(server: ApiServer, folder: Path, *arguments: str) -> Iterator[Webhook]:
    """A webhook with a certificate in this folder."""
    write_pair(folder)
    kubeconfig = server.kubeconfig()
    with Webhook(folder, kubeconfig, folder / "tls.crt", folder / "tls.key", *arguments) as webhook:
        yield webhook


@pytest.fixture(scope="module")
def shared(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """The webhook of all tests that want nothing else of it."""
    with serving(api_server, tmp_path_factory.mktemp("webhook")) as webhook:
        yield webhook


@pytest.fixture
def asked(
    api_server: ApiServer, world: World, shared: Webhook, kubectl: Path, tmp_path: Path
) -> Iterator[Asked]:
    with asking(api_server, world, shared, kubectl, tmp_path) as made:
        yield made


@contextlib.contextmanager
def asking(
    server: ApiServer, world: World, webhook: Webhook, kubectl: Path, folder: Path
) -> Iterator[Asked]:
    """Have the API server ask it about one world."""
    url = f"https://localhost:{webhook.port}/evict"
    hook = question(world, url, (webhook.log_path.parent / "tls.ca").read_bytes())
    server.request("POST", HOOKS, hook)
    made = Asked(world, webhook, folder, server.kubeconfig(), kubectl)
    try:
        world.pod("probe", labels={}, notes={})
        wait_until(lambda: _reaches(made), "the API server asks the webhook")
        yield made
    finally:
        server.request("DELETE", f"{HOOKS}/{hook['metadata']['name']}")


def _reaches(asked: Asked) -> bool:
    asked.world.evict("probe", query="?dryRun=All")
    return bool(asked.decisions())


def test_a_drain_waits_until_the_owner_has_consented(asked: Asked) -> None:
    asked.world.pod(owner=asked.world.workload())
    asked.world.budget()
    drain = asked.drain()
    wait_until(lambda: "will retry after 5s" in asked.said(), "kubectl says that it waits")
    assert f"its owner, {OWNER}, is asked before it is moved" in asked.said()
    command = f"kubectl incumbent consent reports-0 -n {asked.world.namespace}"
    assert command in asked.said()
    assert drain.running

    shown = json.loads(asked.consent("--json"))["pods"]
    assert [(one["pod"], one["requested_by"], one["consent"]) for one in shown] == [
        ("reports-0", "admin", None)
    ]
    given = asked.consent("reports")
    assert "reports-0: may be evicted once; admin has asked for it since" in given
    assert drain.wait(LIMIT_S) == 0
    assert asked.world.gone()
    assert "pod/reports-0 evicted" in asked.said()
    wanted = [each for each in asked.verdicts() if each[1] in ("ask-owner", "consent-once")]
    assert wanted[0] == ("not yet", "ask-owner")
    assert wanted[-1] == ("allowed", "consent-once")
    assert wanted.count(("allowed", "consent-once")) == 1
    (yes,) = (line for line in asked.decisions() if line["why"] == "consent-once")
    assert yes["text"] == f"admin, for {OWNER}, has consented, once"
    wait_until(
        lambda: (
            {event["reason"] for event in asked.world.events()}
            >= {"EvictionWaitsAskOwner", "EvictionConsentOnce"}
        ),
        "both are told by Events",
    )


def test_a_drain_goes_through_as_soon_as_the_active_one_has_handed_over(
    asked: Asked, api_server: ApiServer
) -> None:
    """Nobody is asked: the refused eviction is the request, and the next one finds a standby."""
    labels = {"app": "reports", marks.MODE: "active-standby"}
    elsewhere = World(api_server, asked.world.namespace)
    asked.world.pod(labels={**labels, marks.ROLE: "active"}, notes={marks.OWNER: OWNER})
    elsewhere.pod("reports-1", labels, {marks.OWNER: OWNER})
    causes: list[str] = []

    def step_down(cause: str) -> None:
        causes.append(cause)
        asked.world.patch("reports-0", {"metadata": {"labels": {marks.ROLE: None}}})
        asked.world.patch("reports-1", {"metadata": {"labels": {marks.ROLE: "active"}}})

    connection = load(kubeconfig=str(api_server.kubeconfig(namespace=asked.world.namespace)))
    candidate = Handover(
        step_down, lambda: not causes, on=["eviction"], connection=connection, pod="reports-0"
    )
    try:
        with candidate:
            assert asked.drain().wait(LIMIT_S) == 0
    finally:
        elsewhere.close()
    assert "will retry" not in asked.said()
    assert asked.world.gone()
    assert not asked.world.gone("reports-1")
    assert len(causes) == 1
    told = [line["why"] for line in asked.decisions() if line["pod"] == "reports-0"]
    assert (told[0], told[-1]) == ("hand-over", "unconcerned")


def test_both_versions_and_a_dry_run_get_429_with_everything_in_it(asked: Asked) -> None:
    asked.world.pod(notes={marks.OWNER: OWNER})
    for version in ("v1", "v1beta1"):
        told = asked.world.evict(version=version, dryRun=["All"])
        assert marks.EVICTION_REQUESTED not in asked.world.notes()
        assert (told["code"], told["reason"]) == (429, "TooManyRequests")
    told = asked.world.evict()
    assert told["code"] == 429
    assert told["details"]["retryAfterSeconds"] == 1
    causes = {cause["reason"]: cause["message"] for cause in told["details"]["causes"]}
    assert causes["OwnerConsentRequired"] == f"owner: {OWNER}"
    assert causes["ConsentCommand"].startswith("kubectl incumbent consent reports-0 -n ")
    assert marks.EVICTION_REQUESTED in asked.world.notes()


def test_the_budget_gives_way_to_consent_and_to_nothing_else(asked: Asked) -> None:
    asked.world.pod(notes={marks.OWNER: OWNER})
    asked.world.budget()
    asked.webhook.kill()
    away = asked.world.evict()
    assert (away["code"], away["details"]["causes"][0]["reason"]) == (429, "DisruptionBudget")
    asked.webhook.start()
    told = asked.world.evict()
    assert (told["code"], told["details"]["causes"][0]["reason"]) == (429, "OwnerConsentRequired")
    assert "may be evicted once" in asked.consent("reports-0")
    told = asked.world.evict()
    assert told["status"] == "Success", told
    assert asked.world.gone()


def test_a_budget_that_leaves_nobody_out_is_named_and_consent_is_kept(asked: Asked) -> None:
    asked.world.pod(notes={marks.OWNER: OWNER, marks.CONSENT: "once"})
    asked.world.budget(let_go=False)
    told = asked.world.evict()
    assert told["code"] == 429
    assert "the budget reports allows no disruption" in told["message"]
    assert asked.world.notes()[marks.CONSENT] == "once"


def test_consent_that_is_taken_back_or_over_is_none(asked: Asked) -> None:
    asked.world.pod(notes={marks.OWNER: OWNER})
    assert "may be evicted until" in asked.consent("reports-0", "--until", "2h")
    (shown,) = json.loads(asked.consent("--json"))["pods"]
    assert shown["consent_by"] == "admin"
    assert "consent was taken back" in asked.consent("reports-0", "--revoke")
    assert asked.world.evict()["code"] == 429
    assert "that is over" in asked.consent("reports-0", "--until", "2020-01-01T00:00:00Z")
    assert "nobody has to be asked about 'probe'" in asked.consent("probe")
    assert "neither a Pod nor a workload" in asked.consent("nothing")
    assert marks.CONSENT_BY not in asked.world.notes()
    assert marks.CONSENT not in asked.world.notes()


def test_an_expiry_is_stated_and_a_new_certificate_is_taken_without_a_restart(
    api_server: ApiServer, world: World, kubectl: Path, tmp_path: Path
) -> None:
    with serving(api_server, tmp_path, "--expire-after", "1") as webhook:
        with asking(api_server, world, webhook, kubectl, tmp_path) as asked:
            after_a_stated_time_without_an_answer_it_goes(asked)
            a_new_certificate_is_taken(asked, api_server)
        webhook.terminate()
        assert webhook.wait(LIMIT_S) == 0


def after_a_stated_time_without_an_answer_it_goes(asked: Asked) -> None:
    asked.world.pod(notes={marks.OWNER: OWNER})
    first = asked.world.evict()
    assert first["code"] == 429
    assert "Expires" in {cause["reason"] for cause in first["details"]["causes"]}
    wait_until(lambda: asked.world.evict()["status"] == "Success", "it may go")
    assert ("allowed", "expired") in asked.verdicts()


def a_new_certificate_is_taken(asked: Asked, api_server: ApiServer) -> None:
    write_pair(asked.folder)
    wait_until(
        lambda: "took a new certificate" in asked.webhook.log_path.read_text(encoding="utf-8"),
        "the new certificate is taken",
    )
    url = f"https://localhost:{asked.webhook.port}/evict"
    hook = question(asked.world, url, (asked.folder / "tls.ca").read_bytes())
    api_server.request(
        "PATCH",
        f"{HOOKS}/{hook['metadata']['name']}",
        {"webhooks": hook["webhooks"]},
        content_type="application/merge-patch+json",
    )
    before = len(asked.decisions())

    def is_asked() -> bool:
        asked.world.evict("probe", query="?dryRun=All")
        return len(asked.decisions()) > before

    wait_until(is_asked, "it is asked under the new one")


def test_the_metric_tells_when_the_certificate_ends(shared: Webhook) -> None:
    folder = shared.log_path.parent
    context = ssl.create_default_context(cafile=str(folder / "tls.ca"))
    url = f"https://localhost:{shared.port}{METRICS}"
    with urllib.request.urlopen(url, timeout=LIMIT_S, context=context) as answer:
        lines = answer.read().decode().splitlines()
    ends = certificates.validity_of((folder / "tls.crt").read_bytes()).ends
    assert lines[-1] == f"{ENDS} {ends.timestamp():.0f}"
    log = shared.log_path.read_text(encoding="utf-8")
    assert "the certificate ends on" not in log, "it is good for two days, and has just begun"


def test_its_own_pods_are_not_asked_about(asked: Asked) -> None:
    """Also if they were marked: the API server does not ask."""
    name = "incumbent-consent-7d4b9-x2x4z"
    asked.world.pod(name, notes={marks.OWNER: OWNER})
    assert asked.world.evict(name)["status"] == "Success"
    assert name not in [line["pod"] for line in asked.decisions()]
