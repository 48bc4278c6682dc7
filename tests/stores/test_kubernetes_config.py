"""Where the API server is and who we are to it; credentials that change while a process runs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from incumbent.errors import ConfigError, PermissionDenied
from incumbent.stores.api import StoreURL
from incumbent.stores.kubernetes import KubernetesStore, config
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.kubernetes.client import Client
from tests.faces.programs import until
from tests.servers.kubernetes import ApiServer, Rule, certify
from tests.stores.candidate import candidate, plan


def kubeconfig(path: Path, **parts: Any) -> Path:
    """Write a file with a context `here` of cluster `c` and user `u`, changed by `parts`."""
    body: dict[str, Any] = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "https://c.example:6443/base/"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "apps"}},
            {"name": "there", "context": {"cluster": "c", "user": "u"}},
        ],
    }
    path.write_text(yaml.safe_dump({**body, **parts}))
    return path


def header(connection: config.Connection, *, refused: bool = False) -> str | None:
    async def main() -> str | None:
        return await connection.credentials.header(refused=refused)

    return asyncio.run(main())


def account(folder: Path, token: str) -> Path:
    for name, text in (("token", token), ("namespace", "apps\n"), ("ca.crt", "")):
        (folder / name).write_text(text)
    return folder


def jwt(claims: dict[str, Any]) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.x"


def test_a_context_is_chosen(tmp_path: Path) -> None:
    path = str(kubeconfig(tmp_path / "config"))
    here = config.load(kubeconfig=path, environ={})
    assert (here.server, here.namespace) == ("https://c.example:6443/base", "apps")
    assert header(here) == "Bearer t"
    assert header(here, refused=True) is None
    assert config.load(kubeconfig=path, context="there", environ={}).namespace == "default"
    with pytest.raises(ConfigError, match="here, there"):
        config.load(kubeconfig=path, context="nowhere", environ={})


def test_several_files_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    users = [{"name": "u", "user": {"token": "first"}}]
    (tmp_path / "one").write_text(yaml.safe_dump({"users": users}))
    kubeconfig(tmp_path / "two")
    named = os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two"), "/not/there"])
    found = config.load(environ={"KUBECONFIG": named})
    assert (found.namespace, header(found)) == ("apps", "Bearer first")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"current-context": ""}, "use-context NAME`; it has: here, there"),
        ({"clusters": []}, "has no cluster 'c'"),
        ({"clusters": [{"name": "c", "cluster": {"server": "c.example"}}]}, "no server URL"),
        (
            {"clusters": [{"name": "c", "cluster": {"server": "https://c", "proxy-url": "x"}}]},
            "proxy-url",
        ),
        (
            {
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {
                            "server": "https://c",
                            "certificate-authority-data": "bm9uZQ==",
                        },
                    }
                ]
            },
            "certificates",
        ),
        ({"users": [{"name": "u", "user": {"exec": {"apiVersion": "v0"}}}]}, "exec speaks v0"),
        ({"users": [{"name": "u", "user": {"auth-provider": {"name": "x"}}}]}, "auth-provider"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    path = str(kubeconfig(tmp_path / "config", **parts))
    with pytest.raises(ConfigError, match=message):
        config.load(kubeconfig=path, environ={})


@pytest.mark.parametrize(
    "url", ["kubernetes://apps/more", "kubernetes://a_b", "kubernetes://x:1", "kubernetes://?a=b"]
)
def test_a_url_with_more_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_kubernetes(StoreURL.parse(url))


def test_nothing_is_known_outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DEFAULT_KUBECONFIG", Path("/not/there"))
    with pytest.raises(ConfigError, match="KUBECONFIG"):
        config.load(environ={})


def test_a_pod_has_its_server_and_namespace(tmp_path: Path, api_server: ApiServer) -> None:
    folder = account(tmp_path, "one\n")
    (folder / "ca.crt").write_bytes(api_server.ca_file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = config.load(environ=environ, account=folder)
    assert (found.server, found.namespace) == ("https://[::1]:443", "apps")
    assert header(found) == "Bearer one"
    (folder / "token").write_text("two\n")
    assert header(found) == "Bearer one", "a minute may pass"
    assert header(found, refused=True) == "Bearer two"


@pytest.mark.parametrize(
    ("environ", "token", "name"),
    [
        ({}, jwt({"kubernetes.io": {"pod": {"name": "p", "uid": "u"}}}), None),
        ({"IN": "1"}, jwt({"kubernetes.io": {"pod": {"name": "p-0", "uid": "1f-2"}}}), "p-0_1f-2"),
        ({"IN": "1", "POD_NAME": "q", "POD_UID": "9"}, "garbage", "q_9"),
        ({"IN": "1", "HOSTNAME": "q-1"}, jwt({}), "q-1"),
        ({"IN": "1", "POD_NAME": "a/b$" + "x" * 300, "POD_UID": "9"}, "", f"a-b-{'x' * 156}_9"),
    ],
)
def test_a_pod_is_named_with_its_uid(
    tmp_path: Path, environ: dict[str, str], token: str, name: str | None
) -> None:
    if environ.pop("IN", ""):
        environ = {**environ, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert config.candidate_name(environ, account(tmp_path, token)) == name


def as_client(server: ApiServer, path: Path, user: dict[str, Any]) -> str:
    """Return the URL of a store that is used as this entry of a kubeconfig says."""
    body = yaml.safe_load(server.kubeconfig().read_text())
    body["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(body))
    return f"kubernetes://default?kubeconfig={path}"


async def read_once(url: str) -> None:
    store = open_kubernetes(StoreURL.parse(url))
    try:
        await store.read("jobs")
    finally:
        await store.close()


def test_a_client_certificate_says_who_we_are(
    certified_api_server: ApiServer, certificates: Path
) -> None:
    def read(user: dict[str, str]) -> None:
        asyncio.run(read_once(as_client(certified_api_server, certificates / "config", user)))

    def data(name: str) -> str:
        return base64.b64encode((certificates / name).read_bytes()).decode()

    read({"client-certificate-data": data("chief.crt"), "client-key-data": data("chief.key")})
    read({"client-certificate": "chief.crt", "client-key": "chief.key"})
    with pytest.raises(PermissionDenied, match="stranger"):
        read({"client-certificate": "stranger.crt", "client-key": "stranger.key"})
    with pytest.raises(PermissionDenied, match="system:anonymous"):
        read({})
    certify(certificates / "others", "chief:system:masters")
    with pytest.raises(PermissionDenied, match="does not know us"):
        read({"client-certificate": "others/chief.crt", "client-key": "others/chief.key"})
    with pytest.raises(ConfigError, match="certificates"):
        read({"client-certificate": "chief.crt", "client-key": "stranger.key"})
    with pytest.raises(ConfigError, match="certificates"):
        read({"client-certificate": "chief.crt"})


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_pass_phrase(
    tmp_path: Path,
) -> None:
    for name, kind in (("a.crt", "CERTIFICATE"), ("a.key", "ENCRYPTED PRIVATE KEY")):
        (tmp_path / name).write_text(f"-----BEGIN {kind}-----\nMIHs\n-----END {kind}-----\n")
    user = {"client-certificate": "a.crt", "client-key": "a.key"}
    path = kubeconfig(tmp_path / "config", users=[{"name": "u", "user": user}])
    with pytest.raises(ConfigError, match="encrypted"):
        config.load(kubeconfig=str(path), environ={})


class Projected:
    """The folder of a service account in a Pod, as the kubelet keeps it: replaced by one rename."""

    def __init__(self, folder: Path, server: ApiServer, namespace: str) -> None:
        self.folder = folder
        self._server = server
        self._namespace = namespace
        self.user = f"system:serviceaccount:{namespace}:app"
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        server.request("POST", accounts, {"metadata": {"name": "app"}})
        verbs = ("get", "list", "watch", "create", "update")
        server.grant(self.user, [Rule(verbs)], namespace)

    def replace(self, name: str) -> None:
        """Put another token there, that is void once the secret of this name is deleted."""
        data = self.folder / f"..{name}"
        data.mkdir()
        token = self._server.service_account_token(self._namespace, "app", name)
        account(data, token)
        (data / "namespace").write_text(self._namespace)
        (data / "ca.crt").write_bytes(self._server.ca_file.read_bytes())
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(data.name)
        fresh.rename(self.folder / "..data")
        for path in data.iterdir():
            if not (self.folder / path.name).is_symlink():
                (self.folder / path.name).symlink_to(Path("..data", path.name))
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        self.credential = f"JTI={claims['jti']}"

    async def used(self) -> None:
        """Wait until the API server has seen the token that is there now."""
        await asyncio.to_thread(until, self._seen, f"{self.credential} is used")

    def _seen(self) -> bool:
        key = "authentication.kubernetes.io/credential-id"
        events = self._server.audit_events(self.user)
        return any(
            self.credential in event["user"].get("extra", {}).get(key, ()) for event in events
        )


def test_a_leader_outlives_the_tokens_of_its_pod(
    api_server: ApiServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is void before we look for another; the next is found in time, by its age."""
    pod = Projected(tmp_path, api_server, namespace)
    pod.replace("one")
    environ = {
        "KUBERNETES_SERVICE_HOST": api_server.host,
        "KUBERNETES_SERVICE_PORT": str(api_server.port),
    }

    async def main() -> None:
        connection = config.load(environ=environ, account=tmp_path)
        store = KubernetesStore(Client(connection, connection.namespace), "kubernetes://", None)
        await store.open()
        try:
            leader = candidate(store, "jobs", "a_1", plan(5))
            await leader.until("begun", 20)
            await pod.used()
            pod.replace("two")
            secrets = f"/api/v1/namespaces/{namespace}/secrets"
            await asyncio.to_thread(api_server.request, "DELETE", f"{secrets}/one")
            await pod.used()
            monkeypatch.setattr(config, "_TOKEN_AGE_S", 1.0)
            pod.replace("three")
            await pod.used()
            assert not leader.all("stopped")
        finally:
            await store.close()

    asyncio.run(main())


def test_a_token_that_was_replaced_is_read_again(api_server: ApiServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of-yesterday")
    url = as_client(api_server, tmp_path / "config", {"tokenFile": "token"})

    async def main() -> None:
        store = open_kubernetes(StoreURL.parse(url))
        try:
            with pytest.raises(PermissionDenied, match="does not know us"):
                await store.read("jobs")
            token.write_text(api_server.token())
            await store.read("jobs")
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_command_gives_the_token(api_server: ApiServer, tmp_path: Path, version: str) -> None:
    program = (
        "import json, os; info = json.loads(os.environ['KUBERNETES_EXEC_INFO']);"
        "print(json.dumps({'status': {'token': os.environ['TOKEN']}, **info}))"
    )
    plugin = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": sys.executable,
        "args": ["-c", program],
        "env": [{"name": "TOKEN", "value": api_server.token()}],
    }
    url = as_client(api_server, tmp_path / "config", {"exec": plugin})

    async def main() -> None:
        store = open_kubernetes(StoreURL.parse(url))
        await asyncio.gather(*(store.read(f"jobs-{number}") for number in range(10)))
        await store.close()

    asyncio.run(main())
