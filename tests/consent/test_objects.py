"""What runs the webhook in a cluster: it is taken, and its rights are those that are used."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from incumbent.audit.objects import Object
from incumbent.cli.app import main
from incumbent.consent import certificates
from incumbent.consent.decision import Rules
from incumbent.consent.desk import Desk
from incumbent.consent.objects import Installation, service_name, webhook_objects
from incumbent.consent.pods import shown
from incumbent.consent.trail import Trail
from incumbent.errors import ConfigError
from incumbent.manifests import marks
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.config import load
from tests.consent.kit import OWNER, body, review
from tests.consent.world import MERGE, World, wait_until
from tests.manifests.scene import Client as Impersonating
from tests.servers.kubernetes import ApiError, ApiServer, Rule

IMAGE = "registry.example/incumbent:1.0"
_CLUSTERED = {
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
}
NOW = datetime(2026, 5, 4, tzinfo=UTC)
_PRINTED = ("--manifests", "--image", IMAGE)


def installation(namespace: str, **more: Any) -> Installation:
    given: dict[str, Any] = {"image": IMAGE, "guarded": (namespace,), "namespace": namespace}
    return Installation(**given | more)


def objects(namespace: str, **more: Any) -> list[Object]:
    made = installation(namespace, **more)
    return webhook_objects(made, certificates.made(service_name(made), 2, datetime.now(UTC)))


def path_of(made: Object) -> str:
    version, kind = made["apiVersion"], made["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = "" if kind in _CLUSTERED else f"/namespaces/{made['metadata']['namespace']}"
    plural = kind.lower().removesuffix("y") + "ies" if kind.endswith("y") else f"{kind.lower()}s"
    return f"{root}{place}/{plural}"


def test_the_api_server_takes_each_object(api_server: ApiServer, namespace: str) -> None:
    for made in objects(namespace, arguments=("--expire-after", "7200")):
        if made["kind"] != "Namespace":
            query = "?dryRun=All&fieldValidation=Strict"
            taken = api_server.request("POST", path_of(made) + query, made)
            assert taken["metadata"]["name"] == made["metadata"]["name"]


def test_the_role_is_what_it_uses(api_server: ApiServer, world: World) -> None:
    """A question about each kind of Pod, under the service account of the manifests."""
    made = {one["kind"]: one for one in objects(world.namespace)}
    for kind in ("ServiceAccount", "Role", "RoleBinding"):
        api_server.request("POST", path_of(made[kind]), made[kind])
    name = made["ServiceAccount"]["metadata"]["name"]
    kubeconfig = api_server.kubeconfig("nobody", namespace=world.namespace)
    token = api_server.service_account_token(world.namespace, name, "token")
    kubeconfig.write_text(re.sub(r"token: \w+", f"token: {token}", kubeconfig.read_text()))
    world.pod(owner=world.workload())
    active = {"app": "inbox", marks.MODE: "active-standby", marks.ROLE: "active"}
    world.pod("inbox-0", active, {marks.OWNER: OWNER})
    path = f"/apis/apps/v1/namespaces/{world.namespace}"
    template = {
        "metadata": {"labels": {"app": "wiki"}},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    spec = {"selector": {"matchLabels": {"app": "wiki"}}, "template": template}
    deployment = {"metadata": {"name": "wiki", "annotations": {marks.OWNER: OWNER}}, "spec": spec}
    above = api_server.request("POST", f"{path}/deployments", deployment)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "controller": True, "name": "wiki"}
    owners = [{**reference, "uid": above["metadata"]["uid"]}]
    replicas = {"metadata": {"name": "wiki-1", "ownerReferences": owners}, "spec": spec}
    api_server.request("POST", f"{path}/replicasets", replicas)
    world.pod("wiki-1-a", {"app": "wiki", marks.SINGLETON: "true"}, replica_set="wiki-1")

    def question(pod: str, number: int) -> bytes:
        asked = review()
        asked["request"] |= {"namespace": world.namespace, "name": pod, "uid": f"q-{number}"}
        return body(asked)

    lines: list[str] = []

    async def answers() -> list[Object]:
        found: list[Object] = []
        for again in range(2):  # The second replica counts the first one's Event up.
            client = Client(load(kubeconfig=str(kubeconfig)), world.namespace)
            trail = Trail(client, lines.append, lambda: datetime.now(UTC))
            desk = Desk(
                client,
                Rules(),
                refuse_unseen=True,
                now=lambda: datetime.now(UTC),
                heard=trail.heard,
            )
            for number, pod in enumerate(("reports-0", "inbox-0", "wiki-1-a")):
                asked = question(pod, 10 * again + number)
                found.append((await desk.answer(asked, 10.0))["response"])
            await trail.close()
            await client.close()
        return found

    for found in asyncio.run(answers()):
        assert f"owner: {OWNER}" in str(found), found
    assert len(lines) == 6
    user = f"system:serviceaccount:{world.namespace}:{name}"
    granted = {
        (group, resource, verb)
        for rule in made["Role"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    wait_until(lambda: used(api_server, user) == granted, "what it uses is what it may")
    assert {event["count"] for event in world.events()} == {2}


def test_its_account_changes_annotations_of_a_pod_and_one_label(
    api_server: ApiServer, world: World
) -> None:
    made = [one for one in objects(world.namespace) if "Policy" in one["kind"]]
    name = installation(world.namespace).name
    user = f"system:serviceaccount:{world.namespace}:{name}"
    api_server.grant(user, [Rule(("patch",), ("pods",), ("",))], world.namespace)
    world.pod(notes={marks.OWNER: OWNER})
    path = world.path("reports-0")

    def refusal(change: Object, *who: str, query: str = "") -> str:
        try:
            client.send("PATCH", path + query, change, MERGE, who or (user,))
        except ApiError as error:
            return str(error)
        return ""

    def labelled(**labels: str | None) -> Object:
        return {"metadata": {"labels": labels}}

    image = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
    with contextlib.closing(Impersonating(api_server)) as client:
        for one in made:
            api_server.request("POST", path_of(one), one)
        try:
            dry = "?dryRun=All"
            wait_until(lambda: refusal(labelled(app="x"), query=dry), "the policy is in force")
            for change in (image, labelled(app=None), labelled(app="x"), labelled(more="x")):
                assert "changes annotations of a Pod and one label" in refusal(change), change
            notes = {"metadata": {"annotations": {marks.CONSENT: "once"}}}
            for change in (
                notes,
                labelled(**{marks.LET_GO: "true"}),
                labelled(**{marks.LET_GO: None}),
            ):
                assert refusal(change) == "", change
            assert refusal(image, "chief", "system:masters") == "", "nobody else is concerned"
        finally:
            for one in reversed(made):
                api_server.request("DELETE", f"{path_of(one)}/{one['metadata']['name']}")


def used(server: ApiServer, user: str) -> set[tuple[str, str, str]]:
    return {
        (event["objectRef"].get("apiGroup", ""), event["objectRef"]["resource"], event["verb"])
        for event in server.audit_events(user)
    }


def test_a_certificate_is_for_the_service_and_for_so_many_days(tmp_path: Path) -> None:
    made = installation("payments")
    pair = certificates.made(service_name(made), 3, NOW)
    assert pair.ends == NOW + timedelta(days=3)
    for name, text in (("crt", pair.certificate), ("key", pair.key)):
        (tmp_path / name).write_bytes(text)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "crt", tmp_path / "key")
    ssl.create_default_context(cadata=pair.authority.decode())


def test_cert_manager_makes_it_if_so_told() -> None:
    made = installation("payments", issuer="ClusterIssuer/internal")
    found = {one["kind"]: one for one in webhook_objects(made, None)}
    assert "Secret" not in found
    assert found["Certificate"]["spec"]["issuerRef"] == {
        "kind": "ClusterIssuer",
        "name": "internal",
    }
    hook = found["ValidatingWebhookConfiguration"]
    inject = {"cert-manager.io/inject-ca-from": "payments/incumbent-consent"}
    assert hook["metadata"]["annotations"] == inject
    assert "caBundle" not in hook["webhooks"][0]["clientConfig"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image": "incumbent"}, "--image"),
        ({"guarded": ()}, "--guard"),
        ({"guarded": ("Payments",)}, "--guard"),
        ({"failure_policy": "Maybe"}, "--failure-policy"),
        ({"issuer": "internal"}, "--cert-manager"),
        ({"issuer": "Issuer/"}, "--cert-manager"),
    ],
)
def test_what_cannot_work_is_refused_by_its_option(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        replace(installation("payments"), **wrong)


def test_what_is_typed_is_what_is_applied(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["consent-webhook", *_PRINTED, "--guard", "payments", "--days", "30"]
    assert main([*typed, "--expire-after", "7200", "--failure-policy", "Fail"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = {one["kind"]: one for one in yaml.safe_load_all(said.out)}
    command = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:2] == ["incumbent", "consent-webhook"]
    assert " --failure-policy Fail --expire-after 7200 " in f" {' '.join(command)} "
    hook = found["ValidatingWebhookConfiguration"]["webhooks"][0]
    assert (hook["failurePolicy"], hook["sideEffects"]) == ("Fail", "NoneOnDryRun")
    trusted = base64.b64decode(hook["clientConfig"]["caBundle"])
    assert trusted.startswith(b"-----BEGIN CERTIFICATE-----")
    chain = base64.b64decode(found["Secret"]["data"]["tls.crt"])
    ends = shown(certificates.validity_of(chain).ends)
    for kind in ("Secret", "ValidatingWebhookConfiguration"):
        assert found[kind]["metadata"]["annotations"] == {marks.CERTIFICATE_ENDS: ends}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--manifests",), "--image: say what runs"),
        (("--guard", "x", "--days", "3"), "add --manifests"),
        ((), "give --tls-cert and --tls-key"),
        (("--manifests", "--image", IMAGE, "--tls-cert", "x"), "leave --tls-cert"),
        (
            (*_PRINTED, "--guard", "x", "--days", "3", "--cert-manager", "Issuer/x"),
            "--days is for",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(
    typed: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["consent-webhook", *typed]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
