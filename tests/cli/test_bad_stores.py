"""A store that cannot be used is one line and an exit code, whatever is the matter with it."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from incumbent.cli import codes
from incumbent.errors import StoreError
from incumbent.stores.local import filesystem
from incumbent.stores.sqlite.tables import Tables
from tests.cli.conftest import Start
from tests.cli.processes import Result, run

ALONE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def mounted(*lines: str) -> list[str]:
    """What runs a command in a mount namespace of its own, after mounting there."""
    script = " && ".join([*lines, 'exec "$@"'])
    return [*ALONE, "sh", "-c", script, "sh"]


@pytest.fixture(scope="module", autouse=True)
def mounts_are_permitted() -> None:
    tried = subprocess.run([*ALONE, "true"], check=False, capture_output=True)
    assert tried.returncode == 0, "these tests need root, or user namespaces"


def refused(done: Result, code: int, text: str) -> None:
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("incumbent: error: ")
    assert text in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", [["status"], ["watch", "bill"], ["step-down", "bill"]])
def test_no_database(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "a.db").write_bytes(os.urandom(5000))
    refused(run(*command, "--store", f"sqlite://{tmp_path}/a.db"), 69, "is not a database")


def test_a_folder_in_the_place_of_a_database(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for before, after in ((["status"], []), (["run", "bill"], ["--", "true"])):
        done = run(*before, "--store", f"sqlite://{tmp_path}", *after)
        refused(done, 2, f"{tmp_path} is a folder")
        assert f"as in sqlite://{tmp_path}/incumbent.db" in done.err
        assert [path.name for path in tmp_path.rglob("*")] == ["sub"]


@pytest.mark.parametrize(
    "command", [["status"], ["status", "bill"], ["watch"], ["watch", "bill"], ["step-down", "bill"]]
)
def test_who_only_looks_creates_no_database(
    tmp_path: Path, new_url: str, command: list[str]
) -> None:
    path = new_url.removeprefix("sqlite://")
    refused(run(*command, "--store", new_url), 69, f"there is no database at {path} yet")
    assert list(tmp_path.iterdir()) == []
    # The first candidate has made the file, and has not come further yet.
    Path(path).parent.mkdir()
    Path(path).touch()
    refused(run(*command, "--store", new_url), 69, f"there is no database at {path} yet")
    assert list(tmp_path.rglob("*")) == [Path(path).parent, Path(path)]
    assert Path(path).stat().st_size == 0


def test_a_damaged_database(tmp_path: Path, url: str, candidate: Start) -> None:
    path = Path(url.removeprefix("sqlite://"))
    holder = candidate("a")
    holder.event("elected")
    holder.process.terminate()
    holder.wait()
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    for rest in path.parent.glob("*-wal"):
        rest.unlink()
    refused(run("status", "--store", url), 69, "damaged")


def test_another_programs_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    refused(
        run("status", "--store", f"sqlite://{tmp_path}/a.db"), 69, "a database of another program"
    )


def test_another_format(url: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite://")) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    refused(run("status", "--store", url), 69, "has format 99")


def test_a_folder_that_cannot_be_written(tmp_path: Path, url: str) -> None:
    read_only = mounted(
        f"mount --bind {tmp_path} {tmp_path}", f"mount -o remount,bind,ro {tmp_path}"
    )
    refused(run("status", "--store", url, under=read_only), 77, "no right to write")
    new = f"sqlite://{tmp_path}/new/a.db"
    candidate = run("run", "bill", "-q", "--store", new, "--", "true", under=read_only)
    refused(candidate, 77, "no right to write")


def test_a_full_disk(tmp_path: Path) -> None:
    full = mounted(f"mount -t tmpfs -o size=64k tmpfs {tmp_path}")
    store = f"sqlite://{tmp_path}/a.db"
    done = run("run", "bill", "-q", "--store", store, "--", "true", under=full)
    refused(done, 69, "free space on its disk")


def test_a_network_file_system() -> None:
    """It cannot be mounted here; the store refuses it by its type before it opens anything."""
    assert "network file system" in filesystem.refusal(Path("/data/a.db"), "nfs4")
    assert filesystem.refusal(Path("/data/a.db"), "ext4") == ""


def test_several_that_create_the_store_at_once(tmp_path: Path) -> None:
    """The first start of a deployment: none of them takes another's file for a foreign one."""
    rounds, at_once = 60, 5
    problems: list[Exception] = []

    def create(path: Path, barrier: threading.Barrier) -> None:
        barrier.wait()
        try:
            Tables(path, "opener").close()
        except StoreError as error:
            problems.append(error)

    for number in range(rounds):
        barrier = threading.Barrier(at_once, timeout=10)
        threads = [
            threading.Thread(target=create, args=(tmp_path / f"{number}.db", barrier))
            for _ in range(at_once)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def kubeconfig(folder: Path, server: str) -> Path:
    (folder / "kubeconfig").write_text(
        f"""{{apiVersion: v1, kind: Config, current-context: c,
        contexts: [{{name: c, context: {{cluster: c, user: u}}}}],
        clusters: [{{name: c, cluster: {{server: "http://{server}"}}}}],
        users: [{{name: u, user: {{}}}}]}}"""
    )
    return folder / "kubeconfig"


@pytest.mark.parametrize(
    "url",
    [
        "consul://top-secret@{where}",
        "etcd://u:top-secret@{where}?tls=0",
        "kubernetes://default?kubeconfig={kubeconfig}",
        "mysql://u:top-secret@{where}/d",
        "postgresql://u:top-secret@{where}/d",
        "redis://u:top-secret@{where}",
        "zookeeper://u:top-secret@{where}",
    ],
)
def test_a_server_that_does_not_answer_is_named(url: str, tmp_path: Path) -> None:
    """By host and port, and never with what must stay secret; also one that hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        where = f"127.0.0.1:{port}"
        store = url.format(where=where, kubeconfig=kubeconfig(tmp_path, where))
        hanging_up = threading.Thread(target=_hang_up, args=(server,), daemon=True)
        hanging_up.start()
        done = run("status", "bill", "--store", store)
        assert (done.code, port in done.err, "top-secret" in done.err) == (69, True, False), done
        server.shutdown(socket.SHUT_RDWR)
    hanging_up.join()
    done = run("status", "bill", "--store", store)
    assert (done.code, port in done.err, "top-secret" in done.err) == (69, True, False), done


def _hang_up(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


@pytest.mark.parametrize("url", ["sqlite://{}/x.db", "sqlite://{}/below/x.db", "file://{}/x"])
def test_a_file_where_a_folder_would_have_to_be(tmp_path: Path, url: str) -> None:
    path = tmp_path / "taken"
    path.touch()
    done = run("run", "bill", "--store", url.format(path), "--", "true")
    refused(done, codes.UNAVAILABLE, f"{path} is a file, and would have to be a folder")
