"""Custom resources on an API server: defined as a user defines them, from the manifest we ship."""

from __future__ import annotations

import time

import yaml

from incumbent.stores.kubernetes.resource import Resource
from tests.servers.kubernetes import ApiError, ApiServer
from tests.servers.process import ServerError

_LIMIT_S = 30.0
_PAUSE_S = 0.05


def define(server: ApiServer, resource: Resource) -> None:
    """Define the resource, unless the server knows it; return once objects of it can be made."""
    if not resource.definition:
        return
    try:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        server.request("POST", path, yaml.safe_load(resource.definition))
    except ApiError as error:
        if error.status != 409:
            raise
    deadline_s = time.monotonic() + _LIMIT_S
    while not _known(server, resource):
        if time.monotonic() > deadline_s:
            raise ServerError(f"{resource.full_name} is still unknown")
        time.sleep(_PAUSE_S)  # sleep: that the server has taken it in can only be polled


def _known(server: ApiServer, resource: Resource) -> bool:
    try:
        found = server.request("GET", resource.root)["resources"]
        server.request("GET", resource.path("default"))
    except ApiError:
        return False
    return any(known["name"] == resource.plural for known in found)
