"""The neighbours' locks, each used as its own documentation does, behind two verbs.

`OPENERS` has them by name. An opener connects, and returns what has `acquire` (waits until the lock
is held) and `release`. A command-line tool is started for each `acquire`, since that is its use.

These run in the neighbours' environment: nothing of ours may be imported here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

__all__ = ["OPENERS", "Lock"]

NAME = "neighbour"
TTL_S = 3600
"""For what nobody renews: it must outlast the benchmark."""


class Lock(Protocol):
    """What a neighbour does."""

    def acquire(self) -> None:
        """Wait until the lock is held."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Two:
    """A lock made of two functions."""

    def __init__(self, acquire: Callable[[], Any], release: Callable[[], Any]) -> None:
        self._acquire = acquire
        self._release = release

    def acquire(self) -> None:
        self._acquire()

    def release(self) -> None:
        self._release()


class Anew:
    """A lock object for each use."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock: Any = None

    def acquire(self) -> None:
        self._lock = self._make()
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class Tool:
    """A command that holds a lock for as long as it runs: its first line says that it does.

    `consul lock` holds it while a command of the user's runs, and that one ends with its input.
    `etcdctl lock`, which was given none, is told to end.
    """

    def __init__(self, *command: str, environment: dict[str, str], reads: bool) -> None:
        # Whatever becomes of us, it must not outlive the benchmark.
        self._command = ("setpriv", "--pdeathsig=KILL", *command)
        self._environment = {**os.environ, **environment}
        self._reads = reads
        self._process: subprocess.Popen[str] | None = None

    def acquire(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=pipe, stdout=pipe, text=True
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(f"{self._command} ended: {self._process.wait()}")

    def release(self) -> None:
        assert self._process is not None
        if not self._reads:
            self._process.terminate()
        self._process.communicate()  # This ends its input as well.


def kazoo(target: str) -> Lock:
    from kazoo.client import KazooClient

    client = KazooClient(target)
    client.start()
    return Anew(lambda: client.Lock(f"/{NAME}", "bench"))


def tooz(url: str) -> Lock:
    from tooz import coordination

    coordinator: Any = coordination.get_coordinator(url, f"bench-{os.getpid()}".encode())
    coordinator.start(start_heart=True)
    return Anew(lambda: coordinator.get_lock(b"tooz"))


def redis(target: str) -> Lock:
    from redis import Redis

    host, _, port = target.rpartition(":")
    client = Redis(host=host, port=int(port))
    return Anew(lambda: client.lock(NAME, timeout=TTL_S))


def portalocker_redis(target: str) -> Lock:
    import portalocker
    from redis import Redis

    host, _, port = target.rpartition(":")
    client = Redis(host=host, port=int(port))
    return Anew(lambda: portalocker.RedisLock(NAME, connection=client, timeout=1e6))


def portalocker(path: str) -> Lock:
    import portalocker as library

    return Anew(lambda: library.Lock(f"{path}.portalocker", "w", timeout=1e6))


def postgresql(url: str) -> Lock:
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    return Two(
        lambda: connection.execute("SELECT pg_advisory_lock(1)"),
        lambda: connection.execute("SELECT pg_advisory_unlock(1)"),
    )


def mysql(url: str) -> Lock:
    import pymysql

    at = urlsplit(url)
    connection = pymysql.connect(
        host=at.hostname or "",
        port=at.port or 3306,
        user=unquote(at.username or ""),
        password=unquote(at.password or ""),
        database=at.path.strip("/"),
        ssl_disabled=True,
    )

    def ask(function: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}")
            cursor.fetchall()

    return Two(lambda: ask(f"GET_LOCK('{NAME}', 1e6)"), lambda: ask(f"RELEASE_LOCK('{NAME}')"))


def etcdctl(target: str) -> Lock:
    program, _, endpoint = target.partition(" ")
    command = (program, f"--endpoints={endpoint}", "lock", NAME)
    return Tool(*command, environment={}, reads=False)


def consul(target: str) -> Lock:
    program, address, token = target.split(" ")
    environment = {"CONSUL_HTTP_ADDR": address, "CONSUL_HTTP_TOKEN": token}
    command = (program, "lock", "-pass-stdin", NAME, "echo held; exec cat")
    return Tool(*command, environment=environment, reads=True)


OPENERS: dict[str, Callable[[str], Lock]] = {
    "consul": consul,
    "etcdctl": etcdctl,
    "kazoo": kazoo,
    "mysql": mysql,
    "portalocker": portalocker,
    "portalocker_redis": portalocker_redis,
    "postgresql": postgresql,
    "redis": redis,
    "tooz": tooz,
}
