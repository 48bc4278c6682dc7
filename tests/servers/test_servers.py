"""The servers do what other tests rely on: start, answer, stand still, come back, end."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.servers import build, cache, java
from tests.servers.clientgo import ClientGoCandidate
from tests.servers.kubernetes import NOBODY, RESTRICTED, ApiError, ApiServer, Rule
from tests.servers.ports import claim_port, release_port
from tests.servers.process import ChildProcess, ServerError, ServerProcess
from tests.servers.proxy import Mode, Proxy

WAIT_S = 20.0
SHORT_S = 0.2

# One whole second is the least that client-go accepts, and what it can see of a renewal.
FAST = {"lease_duration_s": 3.0, "renew_deadline_s": 2.0, "retry_period_s": 0.5}


def lease(name: str, holder: str = "someone") -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "metadata": {"name": name},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        },
    }


def eventually(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)  # sleep: another process changes what is polled
    return True


class TestBuild:
    def test_the_cache_folder_can_be_chosen(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "general"))
        monkeypatch.delenv("INCUMBENT_CACHE", raising=False)
        assert build.cache_dir() == tmp_path / "general" / "incumbent-servers"
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path / "own"))
        assert build.cache_dir() == tmp_path / "own"

    def test_a_second_builder_waits_and_uses_the_result_of_the_first(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        said: list[str] = []
        waiting = threading.Event()

        def say(message: str) -> None:
            said.append(message)
            waiting.set()

        monkeypatch.setattr(cache, "say", say)
        path = build.TARGETS["etcd"].path
        path.parent.mkdir(parents=True)
        results: list[Path] = []
        with (path.parent.parent / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            second = threading.Thread(target=lambda: results.append(build.ensure("etcd")))
            second.start()
            assert waiting.wait(WAIT_S)
            assert "another build of etcd" in said[0]
            path.write_bytes(b"")
        second.join(WAIT_S)
        assert results == [path]

    def test_a_missing_go_is_an_error_that_says_so(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        with pytest.raises(build.BuildError, match="no `go` on PATH"):
            build.ensure("etcd")

    def test_a_failed_build_is_an_error_and_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path / "cache"))
        sources = tmp_path / "sources"
        sources.mkdir()
        (sources / "go.mod").write_text("module broken.test\n\ngo 1.24\n", encoding="utf-8")
        (sources / "main.go").write_text("package main\n\nfunc main() { no }\n", encoding="utf-8")
        broken = build.Target(
            name="broken", module_dir=sources, package=".", version=None, typical_s=1
        )
        monkeypatch.setitem(build.TARGETS, "broken", broken)
        with pytest.raises(build.BuildError, match="undefined: no"):
            build.ensure("broken")
        assert [entry.name for entry in (tmp_path / "cache" / "broken").iterdir()] == ["lock"]

    def test_an_unknown_target_is_an_error_on_the_command_line(self) -> None:
        completed = subprocess.run(
            [sys.executable, "-m", "tests.servers.build", "nonsense"],
            cwd=Path(build.__file__).parents[2],
            check=False,
            capture_output=True,
            text=True,
        )
        assert completed.returncode == 1
        assert "no server named 'nonsense'" in completed.stderr

    def test_every_target_is_covered_by_its_module(self) -> None:
        for target in build.TARGETS.values():
            go_mod = (target.module_dir / "go.mod").read_text(encoding="utf-8")
            assert target.package == "." or f"tool {target.package}\n" in go_mod
            assert target.version is None or f" {target.version}" in go_mod

    def test_another_suite_is_asked_where_this_machine_has_its_packages_from(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "apt/sources.list.d").mkdir(parents=True)
        (tmp_path / "os-release").write_text("NAME=x\nVERSION_CODENAME=bookworm\n")
        with pytest.raises(build.BuildError, match="no source of Debian packages"):
            build._sources("bullseye", tmp_path)
        line = "deb [arch=amd64] http://mirror.test/debian bookworm main contrib\n"
        (tmp_path / "apt/sources.list").write_text("# of ours\n" + line)
        found = build._sources("bullseye", tmp_path)
        assert "URIs: http://mirror.test/debian\nSuites: bullseye\nComponents: main" in found
        stanzas = (
            "Types: deb\nURIs: http://a.test\nSuites: bookworm-security\nComponents: main\n\n"
            "Types: deb\nURIs: http://b.test\nSuites: bookworm bookworm-updates\nComponents: main\n"
        )
        (tmp_path / "apt/sources.list.d/debian.sources").write_text(stanzas)
        found = build._sources("bullseye", tmp_path)
        assert found == "Types: deb\nURIs: http://b.test\nSuites: bullseye\nComponents: main\n"

    def test_a_package_is_an_error_where_there_are_none(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(build, "_sources", lambda suite: "")
        with pytest.raises(build.BuildError, match="no `apt-get`"):
            build.ensure("consul")
        assert [entry.name for entry in (tmp_path / "consul").iterdir()] == ["lock"]


class TestJava:
    def test_every_program_is_found(self) -> None:
        assert "shedlock" in java.programs()
        assert "common" not in java.programs()

    def test_a_missing_maven_is_an_error_that_says_so(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        java.ensure.cache_clear()
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        with pytest.raises(build.BuildError, match=r"no `mvn` on PATH.*apt-get install maven"):
            java.ensure("shedlock")
        assert [entry.name for entry in (tmp_path / "java-shedlock").iterdir()] == ["lock"]

    def test_an_unknown_program_is_an_error(self) -> None:
        with pytest.raises(build.BuildError, match="no Java program 'nonsense'"):
            java.ensure("nonsense")

    def test_a_program_that_is_no_java_is_an_error_and_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("INCUMBENT_CACHE", str(tmp_path / "cache"))
        program = tmp_path / "java" / "broken"
        program.mkdir(parents=True)
        (program / "Main.java").write_text("class Main { no }", encoding="utf-8")
        (program / "pom.xml").write_text("<project/>", encoding="utf-8")
        fake = tmp_path / "bin"
        fake.mkdir()
        (fake / "mvn").symlink_to("/bin/true")
        monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
        monkeypatch.setattr(java, "JAVA_DIR", tmp_path / "java")
        with pytest.raises(build.BuildError, match="<identifier> expected"):
            java.ensure("broken")
        assert [e.name for e in (tmp_path / "cache" / "java-broken").iterdir()] == ["lock"]


class TestPorts:
    def test_a_port_is_claimed_once_per_machine(self) -> None:
        script = (
            "from tests.servers import ports\n"
            "import random, sys\n"
            "class Same:\n"
            "    def randint(self, low, high): return int(sys.argv[1])\n"
            "ports._random = Same()\n"
            "print(ports.claim_port())\n"
        )
        port = claim_port()
        command = [sys.executable, "-c", script, str(port)]
        root = Path(build.__file__).parents[2]
        refused = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True)
        assert "no free loopback port" in refused.stderr
        release_port(port)
        granted = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True)
        assert granted.stdout.strip() == str(port)


SLEEPER = (sys.executable, "-c", "import signal; signal.pause()")


class TestProcess:
    def test_pause_has_stopped_the_process_when_it_returns(self, tmp_path: Path) -> None:
        sleeper = ChildProcess("sleeper", SLEEPER, log_path=tmp_path / "log")
        sleeper.spawn()
        for _ in range(3):
            sleeper.pause()
            assert process_state(sleeper.pid) == "T"
            sleeper.resume()
            assert process_state(sleeper.pid) in {"R", "S", "D"}
        sleeper.pause()
        sleeper.kill()
        assert sleeper.exit_status == -signal.SIGKILL

    def test_it_runs_where_whoever_starts_it_may_run(self, tmp_path: Path) -> None:
        everywhere = os.sched_getaffinity(0)
        try:
            for number in (min(everywhere), max(everywhere)):
                os.sched_setaffinity(0, {number})
                sleeper = ChildProcess("sleeper", SLEEPER, log_path=tmp_path / "log")
                sleeper.spawn()
                assert os.sched_getaffinity(sleeper.pid) == {number}
                sleeper.stop()
        finally:
            os.sched_setaffinity(0, everywhere)

    def test_a_paused_process_can_be_stopped(self, tmp_path: Path) -> None:
        sleeper = ChildProcess("sleeper", SLEEPER, log_path=tmp_path / "log")
        sleeper.spawn()
        sleeper.pause()
        sleeper.stop()
        assert sleeper.exit_status == -signal.SIGTERM
        assert not sleeper.running

    def test_no_signal_is_sent_to_a_process_that_ended(self, tmp_path: Path) -> None:
        brief = ChildProcess("brief", [sys.executable, "-c", "exit(7)"], log_path=tmp_path / "log")
        brief.spawn()
        assert brief.wait(WAIT_S) == 7
        with pytest.raises(ServerError, match="ended with status 7"):
            brief.pause()
        brief.kill()
        brief.stop()

    def test_a_server_that_ends_at_once_is_reported_with_its_log(self, tmp_path: Path) -> None:
        server = ServerProcess(
            "broken",
            [sys.executable, "-c", "raise SystemExit('no disk')"],
            log_path=tmp_path / "log",
            ready=lambda: False,
        )
        with pytest.raises(ServerError, match="no disk"):
            server.start()

    def test_a_server_that_is_never_ready_is_reported(self, tmp_path: Path) -> None:
        server = ServerProcess(
            "late", SLEEPER, log_path=tmp_path / "log", ready=lambda: False, start_timeout_s=SHORT_S
        )
        with pytest.raises(ServerError, match="not ready after"):
            server.start()
        server.kill()

    def test_no_server_outlives_a_killed_test_process(self, tmp_path: Path) -> None:
        script = (
            "import pathlib, sys, threading\n"
            "from tests.servers.process import ChildProcess\n"
            f"child = ChildProcess('sleeper', {SLEEPER!r}, log_path=pathlib.Path(sys.argv[1]))\n"
            "thread = threading.Thread(target=child.spawn)\n"
            "thread.start()\n"
            "thread.join()\n"
            "print(child.pid, flush=True)\n"
            "sys.stdin.read()\n"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "log")],
            cwd=Path(build.__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            descriptor = os.pidfd_open(pid)
            try:
                assert process_state(pid) in {"R", "S", "D"}
                parent.kill()
                parent.wait(WAIT_S)
                assert eventually(lambda: process_state(pid) in {"Z", "X", ""})
            finally:
                os.close(descriptor)


def process_state(pid: int) -> str:
    """The kernel's letter for what a process is doing, or "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


class TestApiServer:
    def test_it_keeps_a_lease(self, api_server: ApiServer, namespace: str) -> None:
        created = api_server.request("POST", api_server.lease_path(namespace), lease("one"))
        read = api_server.get_lease(namespace, "one")
        assert read["spec"]["holderIdentity"] == "someone"
        assert read["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]

    def test_a_write_of_an_old_version_is_a_conflict(
        self, api_server: ApiServer, namespace: str
    ) -> None:
        first = api_server.request("POST", api_server.lease_path(namespace), lease("one"))
        path = api_server.lease_path(namespace, "one")
        api_server.request("PUT", path, {**first, "spec": lease("one", "second")["spec"]})
        with pytest.raises(ApiError) as caught:
            api_server.request("PUT", path, first)
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")

    def test_it_says_its_version(self, api_server: ApiServer) -> None:
        version = api_server.request("GET", "/version")
        assert version["gitVersion"] == build.TARGETS["kube-apiserver"].version
        assert (version["major"], version["minor"]) == ("1", "36")

    def test_its_certificate_is_verified(self, api_server: ApiServer) -> None:
        connection = http.client.HTTPSConnection(
            api_server.host, api_server.port, context=ssl.create_default_context(), timeout=WAIT_S
        )
        with contextlib.closing(connection), pytest.raises(ssl.SSLCertVerificationError):
            connection.request("GET", "/version")

    def test_rights_are_given_and_taken(self, api_server: ApiServer, namespace: str) -> None:
        path = api_server.lease_path(namespace)
        api_server.request("POST", path, lease("mine"))
        with pytest.raises(ApiError) as refused:
            api_server.request("GET", f"{path}/mine", user=RESTRICTED)
        assert refused.value.status == 403
        rule = Rule(("get", "update"), resource_names=("mine",))
        grant = api_server.grant(RESTRICTED, [rule], namespace)
        assert api_server.request("GET", f"{path}/mine", user=RESTRICTED)
        with pytest.raises(ApiError, match="Forbidden"):
            api_server.request("GET", f"{path}/other", user=RESTRICTED)
        with pytest.raises(ApiError, match="Forbidden"):
            api_server.request("GET", f"{path}/mine", user=NOBODY)
        api_server.revoke(grant)
        with pytest.raises(ApiError, match="Forbidden"):
            api_server.request("GET", f"{path}/mine", user=RESTRICTED)

    def test_rights_can_hold_in_every_namespace(
        self, api_server: ApiServer, namespace: str
    ) -> None:
        grant = api_server.grant(RESTRICTED, [Rule(("list",))])
        listed = api_server.request("GET", api_server.lease_path(namespace), user=RESTRICTED)
        assert listed["items"] == []
        api_server.revoke(grant)

    def test_requests_are_counted_by_the_audit_log(
        self, api_server: ApiServer, namespace: str
    ) -> None:
        path = api_server.lease_path(namespace, "missing")

        def seen() -> list[dict[str, Any]]:
            return [
                event for event in api_server.audit_events(NOBODY) if event["requestURI"] == path
            ]

        for _ in range(3):
            with pytest.raises(ApiError):
                api_server.request("GET", path, user=NOBODY)
        assert eventually(lambda: len(seen()) >= 3)
        assert [event["responseStatus"]["code"] for event in seen()] == [403] * 3

    def test_it_can_be_paused(self, own_api_server: ApiServer) -> None:
        own_api_server.apiserver.pause()
        with pytest.raises(TimeoutError):
            own_api_server.request("GET", "/version", timeout_s=SHORT_S)
        own_api_server.apiserver.resume()
        assert own_api_server.request("GET", "/version")

    def test_its_etcd_can_be_paused(self, own_api_server: ApiServer) -> None:
        done = threading.Event()

        def write() -> None:
            own_api_server.request("POST", own_api_server.lease_path("default"), lease("late"))
            done.set()

        writer = threading.Thread(target=write)
        own_api_server.etcd.pause()
        writer.start()
        assert not done.wait(SHORT_S)
        own_api_server.etcd.resume()
        assert done.wait(WAIT_S)
        writer.join()
        assert has_lease(own_api_server, "late")

    def test_data_certificate_and_tokens_survive_a_restart(self, own_api_server: ApiServer) -> None:
        own_api_server.request("POST", own_api_server.lease_path("default"), lease("kept"))
        own_api_server.apiserver.kill()
        own_api_server.etcd.kill()
        with pytest.raises(OSError, match="refused"):
            own_api_server.request("GET", "/version")
        own_api_server.start()
        assert has_lease(own_api_server, "kept")
        own_api_server.apiserver.restart()
        assert has_lease(own_api_server, "kept")


def has_lease(server: ApiServer, name: str) -> bool:
    try:
        return bool(server.get_lease("default", name))
    except ApiError as error:
        if error.status != 404:
            raise
        return False


class _Echo(socketserver.ThreadingTCPServer):
    """Answers every chunk with itself and remembers what it got, by the caller's port."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _EchoHandler)
        self.received: defaultdict[int, bytes] = defaultdict(bytes)
        self.changed = threading.Condition()

    def has_received(self, text: bytes) -> bool:
        with self.changed:
            return self.changed.wait_for(
                lambda: any(text in got for got in self.received.values()), WAIT_S
            )


class _EchoHandler(socketserver.BaseRequestHandler):
    server: _Echo

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := self.request.recv(65536):
                with self.server.changed:
                    self.server.received[self.client_address[1]] += chunk
                    self.server.changed.notify_all()
                self.request.sendall(chunk)


@pytest.fixture
def echo() -> Iterator[_Echo]:
    with _Echo() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: _Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.server_address[1]) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
    with contextlib.ExitStack() as stack:

        def make() -> socket.socket:
            return stack.enter_context(socket.create_connection((proxy.host, proxy.port), WAIT_S))

        yield make


def received(connection: socket.socket, length: int, timeout_s: float = WAIT_S) -> bytes:
    connection.settimeout(timeout_s)
    got = b""
    while len(got) < length:
        chunk = connection.recv(length - len(got))
        if not chunk:
            break
        got += chunk
    return got


def assert_silent(connection: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        received(connection, 1, SHORT_S)


Connect = Callable[[], socket.socket]


def used(connect: Connect) -> socket.socket:
    """A connection through which something has passed already."""
    connection = connect()
    connection.sendall(b"x")
    assert received(connection, 1) == b"x"
    return connection


class TestProxy:
    def test_it_passes_bytes_both_ways_and_the_end(self, connect: Connect) -> None:
        text = os.urandom(3_000_000)
        connection = connect()
        sender = threading.Thread(target=connection.sendall, args=(text,))
        sender.start()
        assert received(connection, len(text)) == text
        sender.join()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""

    def test_cut_holds_old_and_new_connections_until_healed(
        self, proxy: Proxy, connect: Connect, echo: _Echo
    ) -> None:
        old = connect()
        old.sendall(b"before")
        assert received(old, 6) == b"before"
        proxy.cut()
        new = connect()
        old.sendall(b"old")
        new.sendall(b"new")
        assert_silent(old)
        assert_silent(new)
        assert b"".join(echo.received.values()) == b"before"
        proxy.heal()
        assert received(old, 3) == b"old"
        assert received(new, 3) == b"new"

    def test_reset_aborts_what_there_is_and_lets_in_what_comes(
        self, proxy: Proxy, connect: Connect
    ) -> None:
        old = used(connect)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            received(old, 1)
        new = connect()
        new.sendall(b"y")
        assert received(new, 1) == b"y"

    def test_reset_concerns_connections_held_by_a_cut(self, proxy: Proxy, connect: Connect) -> None:
        old = used(connect)
        proxy.cut()
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            received(old, 1)
        assert proxy.mode is Mode.CUT

    def test_refuse_aborts_and_refuses_until_healed(self, proxy: Proxy, connect: Connect) -> None:
        old = used(connect)
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            received(old, 1)
        with pytest.raises(ConnectionRefusedError):
            connect()
        proxy.heal()
        new = connect()
        new.sendall(b"y")
        assert received(new, 1) == b"y"

    def test_a_server_that_refuses_is_a_reset(self, connect: Connect, echo: _Echo) -> None:
        echo.shutdown()
        echo.server_close()
        with pytest.raises(ConnectionResetError):
            received(connect(), 1)

    def test_delay_concerns_each_direction(self, proxy: Proxy, connect: Connect) -> None:
        connection = connect()
        proxy.delay(SHORT_S)
        started_s = time.monotonic()
        connection.sendall(b"slow")
        assert received(connection, 4) == b"slow"
        assert time.monotonic() - started_s >= 2 * SHORT_S
        proxy.delay(60)
        connection.sendall(b"late")
        assert_silent(connection)

    def test_dropped_replies_leave_the_outcome_unknown(
        self, proxy: Proxy, connect: Connect, echo: _Echo
    ) -> None:
        connection = connect()
        connection.sendall(b"a")
        received(connection, 1)
        proxy.drop_replies()
        connection.sendall(b"done?")
        assert echo.has_received(b"done?")
        assert_silent(connection)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            received(connection, 1)

    def test_what_clients_say_can_be_rewritten(self, proxy: Proxy, connect: Connect) -> None:
        proxy.rewrite = (b"here", b"there")
        connection = connect()
        connection.sendall(b"I am here")
        assert received(connection, 10) == b"I am there"

    def test_it_tells_by_which_ports_the_server_knows_its_clients(
        self, proxy: Proxy, connect: Connect, echo: _Echo
    ) -> None:
        used(connect)
        used(connect)
        assert sorted(proxy.server_side_ports()) == sorted(echo.received)
        proxy.reset()
        assert proxy.server_side_ports() == []

    def test_retarget_leads_elsewhere(self, proxy: Proxy, connect: Connect) -> None:
        old = used(connect)
        with socket.create_server(("127.0.0.1", 0)) as other:
            proxy.retarget(*other.getsockname())
            with pytest.raises(ConnectionResetError):
                received(old, 1)
            new = connect()
            other.settimeout(WAIT_S)
            end, _ = other.accept()
            with end:
                new.sendall(b"y")
                assert received(end, 1) == b"y"

    def test_held_requests_wait_and_answers_pass(
        self, proxy: Proxy, connect: Connect, echo: _Echo
    ) -> None:
        connection = connect()
        proxy.record()
        connection.sendall(b"a")
        assert received(connection, 1) == b"a"
        assert proxy.recorded() == (b"a", b"a")
        proxy.hold_requests()
        proxy.record()
        connection.sendall(b"c")
        assert eventually(lambda: proxy.recorded() == (b"c", b""))
        assert_silent(connection)
        proxy.heal()
        assert received(connection, 1) == b"c"

    def test_it_counts_connections(self, proxy: Proxy, connect: Connect) -> None:
        for _ in range(3):
            connection = connect()
            connection.sendall(b"x")
            received(connection, 1)
        assert proxy.accepted == 3

    def test_a_lease_write_with_an_unknown_outcome_was_done(
        self, api_server: ApiServer, api_proxy: Proxy, namespace: str
    ) -> None:
        connection = http.client.HTTPSConnection(
            api_proxy.host,
            api_proxy.port,
            context=ssl.create_default_context(cafile=str(api_server.ca_file)),
            timeout=WAIT_S,
        )
        headers = {
            "Authorization": f"Bearer {api_server.token()}",
            "Content-Type": "application/json",
        }
        with contextlib.closing(connection):
            connection.request("GET", "/version", headers=headers)
            connection.getresponse().read()
            api_proxy.drop_replies()
            assert connection.sock is not None
            connection.sock.settimeout(SHORT_S)
            body = json.dumps(lease("unknown"))
            connection.request("POST", api_server.lease_path(namespace), body, headers)
            with pytest.raises(TimeoutError):
                connection.getresponse()
        assert eventually(
            lambda: len(api_server.request("GET", api_server.lease_path(namespace))["items"]) == 1
        )


MakeCandidate = Callable[..., ClientGoCandidate]


class TestClientGo:
    def test_it_acquires_renews_and_releases(
        self,
        api_server: ApiServer,
        namespace: str,
        clientgo_candidate: MakeCandidate,
        tmp_path: Path,
    ) -> None:
        marks_path = tmp_path / "marks"
        candidate = clientgo_candidate(
            "job", "one", release_on_cancel=True, marks_path=marks_path, **FAST
        )
        acquired = candidate.wait_for("acquired", WAIT_S)
        started = candidate.wait_for("started", WAIT_S)
        assert started["resource_version"] == acquired["resource_version"]
        assert started["transitions"] == 0
        assert candidate.wait_for("new_leader", WAIT_S)["leader"] == "one"
        candidate.wait_for("renewed", WAIT_S)
        spec = api_server.get_lease(namespace, "job")["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("one", 3)

        terminated_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        candidate.terminate()
        assert candidate.wait(WAIT_S) == 0
        released = candidate.wait_for("released", WAIT_S)
        assert candidate.wait_for("stopped", WAIT_S)["led"] is True
        spec = api_server.get_lease(namespace, "job")["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("", 1)

        marks = [line.split() for line in marks_path.read_text(encoding="ascii").splitlines()]
        assert {(mark[0], mark[2]) for mark in marks} == {("0", str(started["pid"]))}
        times_ns = [int(mark[1]) for mark in marks]
        assert times_ns == sorted(times_ns)
        assert times_ns[0] >= acquired["boottime_ns"]
        assert times_ns[-1] < released["boottime_ns"]
        # A quiet machine writes about one per millisecond, a busy one fewer.
        assert len(marks) > (terminated_ns - times_ns[0]) / 10_000_000

    def test_a_second_one_follows_at_once_after_a_release(
        self, clientgo_candidate: MakeCandidate
    ) -> None:
        first = clientgo_candidate("job", "one", release_on_cancel=True, **FAST)
        acquired = first.wait_for("acquired", WAIT_S)
        second = clientgo_candidate("job", "two", release_on_cancel=True, **FAST)
        assert second.wait_for("new_leader", WAIT_S)["leader"] == "one"
        first.terminate()
        followed = second.wait_for("started", WAIT_S)
        released = first.wait_for("released", WAIT_S)
        assert followed["transitions"] == 1
        assert int(followed["resource_version"]) > int(acquired["resource_version"])
        assert followed["boottime_ns"] > released["boottime_ns"]

    def test_a_paused_one_is_followed_and_ends(self, clientgo_candidate: MakeCandidate) -> None:
        first = clientgo_candidate("job", "one", **FAST)
        first.wait_for("renewed", WAIT_S)
        first.pause()
        second = clientgo_candidate("job", "two", **FAST)
        second.wait_for("started", WAIT_S)
        first.resume()
        assert first.wait(WAIT_S) == 3
        assert first.wait_for("stopped", WAIT_S)["led"] is True
        second.terminate()
        assert second.wait(WAIT_S) == 0

    def test_one_behind_a_cut_network_loses_the_lease(
        self, api_server: ApiServer, api_proxy: Proxy, clientgo_candidate: MakeCandidate
    ) -> None:
        kubeconfig = api_server.kubeconfig(url=f"https://{api_proxy.address}")
        first = clientgo_candidate("job", "one", kubeconfig=kubeconfig, **FAST)
        first.wait_for("renewed", WAIT_S)
        api_proxy.cut()
        assert first.wait(WAIT_S) == 3
        stopped = first.wait_for("stopped", WAIT_S)
        second = clientgo_candidate("job", "two", **FAST)
        assert second.wait_for("started", WAIT_S)["boottime_ns"] > stopped["boottime_ns"]

    def test_one_without_rights_never_leads(
        self, api_server: ApiServer, clientgo_candidate: MakeCandidate
    ) -> None:
        candidate = clientgo_candidate(
            "job", "one", kubeconfig=api_server.kubeconfig(NOBODY), **FAST
        )
        candidate.wait_for("ready", WAIT_S)
        assert eventually(lambda: "forbidden" in candidate.log_tail())
        candidate.terminate()
        assert candidate.wait(WAIT_S) == 0
        assert [event["event"] for event in candidate.events] == ["ready", "stopped"]
        assert candidate.wait_for("stopped", WAIT_S)["led"] is False

    def test_waiting_for_what_cannot_come_ends_with_the_process(
        self, clientgo_candidate: MakeCandidate
    ) -> None:
        candidate = clientgo_candidate("job", "one", kubeconfig=Path("/missing"))
        with pytest.raises(ServerError, match="it ended"):
            candidate.wait_for("started", WAIT_S)
        assert candidate.wait(WAIT_S) == 1
