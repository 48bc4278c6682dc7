"""Seal and check in an object of the Kubernetes API, and beside a file."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from incumbent.errors import ConfigError, LeadershipLost, StaleToken
from incumbent.fencing import Fence
from tests.servers.kubernetes import ApiServer

KEY = "fencing.incumbent.dev/settings"


def fence(token: int, resource: str = "settings") -> Fence:
    return Fence(resource, token, lambda: None)


def over() -> None:
    raise LeadershipLost("the term is over")


# -- Kubernetes -----------------------------------------------------------------------------------


def test_an_object_is_written_under_the_token(api_server: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    api_server.request("POST", path, made)
    path += "/settings"
    old_read: Any = api_server.request("GET", path)
    new_read: Any = api_server.request("GET", path)
    written: Any = api_server.request("PUT", path, fence(8).kubernetes(new_read))
    assert written["metadata"]["annotations"][KEY] == "8"
    with pytest.raises(Exception, match="409"):
        api_server.request("PUT", path, fence(7).kubernetes(old_read))
    with pytest.raises(StaleToken, match="has seen token 8, and this term has 7"):
        fence(7).kubernetes(written)
    assert api_server.request("GET", path) == written
    api_server.request("PUT", path, fence(8).kubernetes(written))


def test_what_was_read_is_not_changed() -> None:
    obj = {"metadata": {"resourceVersion": "1", "annotations": {"a": "b"}}, "data": {"c": "d"}}
    changed = fence(3).kubernetes(obj)
    assert changed["metadata"]["annotations"] == {"a": "b", KEY: "3"}
    assert obj["metadata"] == {"resourceVersion": "1", "annotations": {"a": "b"}}


@pytest.mark.parametrize(
    ("obj", "resource", "said"),
    [
        ({"metadata": {"name": "x"}}, "settings", "read it from the API server first"),
        ({}, "settings", "read it from the API server first"),
        ({"metadata": {"resourceVersion": "1"}}, "x" * 64, "at most 63 characters"),
        (
            {"metadata": {"resourceVersion": "1", "annotations": {KEY: "soon"}}},
            "settings",
            "is 'soon', and no token",
        ),
    ],
)
def test_an_object_that_cannot_be_fenced(obj: dict[str, Any], resource: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fence(1, resource).kubernetes(obj)


# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_written_under_the_token(tmp_path: Path) -> None:
    path = tmp_path / "report"
    for token in (3, 3, 11):
        with fence(token).file(path):
            path.write_text(str(token))
    with pytest.raises(StaleToken), fence(10).file(path):
        path.write_text("10")
    assert path.read_text() == "11"
    assert (tmp_path / "report.fence").read_text() == "00000000000000000011\n"


def test_the_new_leader_waits_for_a_write_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report"
    seen: list[str] = []
    begun = threading.Event()

    def lead() -> None:
        begun.set()
        with fence(2).file(path):
            seen.append(path.read_text())

    with fence(1).file(path):
        thread = threading.Thread(target=lead)
        thread.start()
        begun.wait()
        path.write_text("of the old one")
    thread.join()
    assert seen == ["of the old one"]


def test_a_fence_file_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "report.fence").write_text("moo\n")
    with (
        pytest.raises(ConfigError, match="'moo', and no token"),
        fence(1).file(tmp_path / "report"),
    ):
        pass
    assert (tmp_path / "report.fence").read_text() == "moo\n"


def test_a_term_that_is_over_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(LeadershipLost), Fence("x", 1, over).file(tmp_path / "report"):
        pass
    assert list(tmp_path.iterdir()) == []
