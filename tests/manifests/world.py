"""Several guards in force at once on one API server, and an administrator with a shell."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from incumbent.manifests import Object
from incumbent.manifests.guard import Settings, policies
from tests.manifests.scene import (
    FENCER,
    GROUP,
    KUBELET,
    Client,
    Installed,
    Scene,
    define_things,
)
from tests.servers import build
from tests.servers.kubernetes import ApiServer, Rule

HOW = "guard.test/how"
"""A label of namespaces: by which of the guards that are tried side by side they are guarded."""

PODS = Rule(("create", "get", "delete", "patch"), ("pods", "pods/status"), ("",))


@dataclass
class World:
    """A server with several guards in force, and a namespace for each, and one for none."""

    client: Client
    namespaces: dict[str, str]
    labels: dict[str, dict[str, str]]

    def scene(self, how: str, *, marked: bool = True) -> Scene:
        return Scene(self.client, self.namespaces[how], marked)


def a_namespace(client: Client, how: str, **labels: str) -> str:
    """Make a namespace, and return its name."""
    name = f"guard-{how}-{secrets.token_hex(3)}"
    client.send("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    return name


@contextmanager
def guarded(server: ApiServer, client: Client) -> Iterator[World]:
    """Have the guards in force."""
    define_things(client)
    for user in (*KUBELET[:1], *FENCER):
        server.grant(user, [PODS])
    token = secrets.token_hex(3)
    settings = {
        "strict": Settings(exempt=FENCER, custom=(f"{GROUP}/things",)),
        "no-gc": Settings(pod_gc=False),
        "warned": Settings(warn=True),
    }
    labels = {how: {HOW: f"{how}-{token}"} for how in settings}
    made: list[Object] = []
    for how, of in settings.items():
        made += policies(replace(of, prefix=f"{how}-{token}", namespaces=labels[how]))
    installed = Installed(client, made)
    installed.install()
    labels["nobody"] = {}
    names = {how: a_namespace(client, how, **its) for how, its in labels.items()}
    yield World(client, names, labels)
    installed.remove()


@dataclass
class Shell:
    """An administrator's `kubectl`: the real one, as people have it."""

    server: ApiServer
    folder: Path

    def run(self, scene: Scene, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = self.server.kubeconfig(namespace=scene.namespace)
        return subprocess.run(
            [build.ensure("kubectl"), f"--kubeconfig={config}", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "HOME": str(self.folder), "KUBECACHEDIR": str(self.folder)},
        )
