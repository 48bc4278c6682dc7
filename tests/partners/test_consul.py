"""Beside `consul lock`, on one prefix: who holds, who waits, who is next, and what breaks it.

A crash of a holder costs the time that its session lives on at the server, up to twice its TTL of
ten or fifteen seconds, which is Consul's least and what `consul lock` asks for. The tests end the
session of whoever crashed by hand, which is what the server does when that time is over, with the
same consequences: the lock-delay is waited for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
from pathlib import Path

import pytest

from incumbent.errors import StaleToken
from incumbent.fencing import Fence
from tests.partners.member import Member
from tests.partners.passing import all_pass_on, ended
from tests.servers import build
from tests.servers.consul import Consul
from tests.servers.process import ServerError
from tests.servers.speaker import Event

TTL_S = 3.0
BEATS = 65
LIMIT_S = 90.0
NO_TOKEN = 0
CHILD = f"{sys.executable} -m tests.partners.python.child"


class Whole(Member):
    """A member that is several processes: a crash is the end of all of them, and of its session."""

    def __init__(
        self, name: str, words: list[str], folder: Path, server: Consul, prefix: str
    ) -> None:
        self._server, self._prefix = server, prefix
        environment = {"CONSUL_HTTP_ADDR": server.address, "CONSUL_HTTP_TOKEN": server.token}
        super().__init__(name, words, folder, environment)

    def kill(self) -> None:
        """Kill the whole group."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        super().kill()

    def crash(self, timeout_s: float) -> list[Event]:
        said = super().crash(timeout_s)
        end_session(self._server, self._prefix)
        return said


def end_session(server: Consul, prefix: str) -> None:
    """End whatever session has the lock, as the server does when its time to live is over."""
    found = server.get(f"{prefix}/.lock")
    if not found or not found.get("Session"):
        raise ServerError(f"nobody holds {prefix}")
    server.request("PUT", f"/v1/session/destroy/{found['Session']}")


def ours(server: Consul, prefix: str, folder: Path, name: str = "incumbent") -> Whole:
    url = f"consul://?recipe=lock&lock={prefix}"
    words = [sys.executable, "-m", "tests.partners.ours", url, "jobs", name, str(TTL_S)]
    return Whole(name, words, folder, server, prefix)


def theirs(server: Consul, prefix: str, folder: Path) -> Whole:
    line = f"{CHILD} waiting; exec {build.ensure('consul')} lock -shell=false {prefix} {CHILD}"
    return Whole("consul lock", ["/bin/sh", "-c", line], folder, server, prefix)


def fresh() -> str:
    return f"lock-{secrets.token_hex(4)}"


@pytest.mark.slow  # Lock-delays are waited out.
def test_each_takes_over_from_the_other(consul: Consul, tmp_path: Path) -> None:
    def makes(name: str) -> tuple[Member, Member]:
        prefix = fresh()
        folder = tmp_path / name
        return ours(consul, prefix, folder), theirs(consul, prefix, folder)

    all_pass_on(makes, beats=BEATS, limit_s=LIMIT_S)


def outlived(server: Consul, folder: Path) -> int:
    """Kill `consul lock` alone, and return our token once its command works on beside us."""
    prefix = fresh()
    stale, next_one = theirs(server, prefix, folder), ours(server, prefix, folder)
    with ended(stale, next_one):
        stale.start()
        group, left = stale.pid, stale.wait_for("holding", LIMIT_S)["pid"]
        try:
            next_one.start()
            next_one.wait_for("waiting", LIMIT_S)
            os.kill(group, signal.SIGKILL)
            end_session(server, prefix)
            token = next_one.wait_for("holding", LIMIT_S)["token"]
            worked = len(stale.all("beat"))
            stale.wait_for("beat", LIMIT_S, count=worked + 3)
            assert not stale.all("stopped"), "two work at once: that is what it can break"
            return int(token)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)


@pytest.mark.slow  # The same.
def test_its_command_outlives_it_and_the_fence_refuses_it(consul: Consul, tmp_path: Path) -> None:
    token = outlived(consul, tmp_path)
    write(tmp_path / "resource", token)
    with pytest.raises(StaleToken):
        write(tmp_path / "resource", NO_TOKEN)


def test_whoever_deletes_the_key_lets_it_in_and_the_fence_refuses_our_old_term(
    consul: Consul, tmp_path: Path
) -> None:
    prefix = fresh()
    holder, intruder = ours(consul, prefix, tmp_path), theirs(consul, prefix, tmp_path)
    with ended(holder, intruder):
        holder.start()
        holder.wait_for("holding", LIMIT_S)
        intruder.start()
        intruder.wait_for("waiting", LIMIT_S)
        for _ in range(100):  # A holder that lost it takes it again, if it is the first to come.
            found = consul.get(f"{prefix}/.lock")
            if found and found["Value"]:  # Theirs is empty.
                consul.request("DELETE", f"/v1/kv/{prefix}/.lock?cas={found['ModifyIndex']}")
            with contextlib.suppress(ServerError):
                intruder.wait_for("holding", 0.5)
                break
        held = holder.all("holding")
        holder.wait_for("stopped", LIMIT_S, count=len(held))
        old = held[-1]["token"]
        intruder.wait_for("beat", LIMIT_S, count=10)
        assert len(holder.all("holding")) == len(held), "it does not take it from them"
        intruder.leave(LIMIT_S)
        new = holder.wait_for("holding", LIMIT_S, count=len(held) + 1)["token"]
        assert new > old
        write(tmp_path / "resource", new)
        with pytest.raises(StaleToken):
            write(tmp_path / "resource", old)


def write(path: Path, token: int) -> None:
    """Write to a file whose writers compare tokens, as a holder of this one would."""
    with Fence("resource", token, lambda: None).file(path):
        path.write_text(f"{token}\n")
