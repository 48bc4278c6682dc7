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
from incumbent.stores.kubernetes import config
from incumbent.stores.kubernetes import open as open_kubernetes
from tests.servers.kubernetes import ApiServer


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
        ({"current-context": ""}, "context="),
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


def test_a_token_that_was_replaced_is_read_again(api_server: ApiServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of-yesterday")
    body = yaml.safe_load(api_server.kubeconfig().read_text())
    body["users"][0]["user"] = {"tokenFile": "token"}
    (tmp_path / "config").write_text(yaml.safe_dump(body))

    async def main() -> None:
        store = open_kubernetes(StoreURL.parse(f"kubernetes://?kubeconfig={tmp_path / 'config'}"))
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
    body = yaml.safe_load(api_server.kubeconfig().read_text())
    body["users"][0]["user"] = {
        "exec": {
            "apiVersion": f"client.authentication.k8s.io/{version}",
            "command": sys.executable,
            "args": ["-c", program],
            "env": [{"name": "TOKEN", "value": api_server.token()}],
        }
    }
    (tmp_path / "config").write_text(yaml.safe_dump(body))

    async def main() -> None:
        store = open_kubernetes(StoreURL.parse(f"kubernetes://?kubeconfig={tmp_path / 'config'}"))
        await asyncio.gather(*(store.read(f"jobs-{number}") for number in range(10)))
        await store.close()

    asyncio.run(main())
