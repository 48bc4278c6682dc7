"""Servers that forget what they confirmed, for `losses`.

- emptied: the server is killed and started again without its data;
- outdated: with a copy of its data from before the holder's term;
- promoted: a replica that lags is made a primary, while the old one lives and serves the holder.

In the last two what is forgotten begins at `remember`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tests.faults.fleet import Watch
from tests.servers.postgresql import Postgres, Standby
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

__all__ = ["LOSSES", "SERVERS", "Address", "Forgetful"]

LOSSES = ("emptied", "outdated", "promoted")
IN_STEP_S = 60.0

Address = tuple[str, int]


class Forgetful(Protocol):
    """The servers of one round after another."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        """Prepare; files are to be below `folder`."""
        ...

    def begin(self, loss: str) -> Address:
        """Start without any data; return where everybody finds the server at first."""
        ...

    def url(self, address: Address) -> str:
        """Return the URL of a store."""
        ...

    def remember(self) -> None:
        """Forget whatever is written from now on."""
        ...

    def forget(self) -> Address:
        """Do it; return where whoever is not cut off finds the server now."""
        ...

    def end(self) -> None:
        """End the round, in whatever state it is."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class ForgetfulRedis:
    """A new server for each round. One with a replica has to be told to accept that."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        self._folder = folder
        self._watch = watch
        self._loss = ""
        self._rounds = 0
        self._servers: list[Redis] = []
        self._link: Proxy | None = None

    def begin(self, loss: str) -> Address:
        self._loss = loss
        self._rounds += 1
        folder = self._folder / f"round-{self._rounds}"
        primary = Redis(folder / "primary")
        self._servers = [primary]
        primary.start()
        if loss == "promoted":
            self._link = Proxy(primary.host, primary.port)
            settings = [f"replicaof {self._link.host} {self._link.port}"]
            self._servers.append(Redis(folder / "replica", settings=settings))
            self._servers[1].start()
            # The first replica begins another history, in which the earlier term is to stand.
            self._await_in_step()
        return primary.host, primary.port

    def url(self, address: Address) -> str:
        options = "replicas=accept" if self._loss == "promoted" else ""
        return self._servers[0].url(options, address="{}:{}".format(*address))

    def remember(self) -> None:
        if self._link is not None:
            self._await_in_step()
            self._link.cut()
        elif self._loss == "outdated":
            self._servers[0].save_data()

    def forget(self) -> Address:
        server = self._servers[-1]
        if self._loss == "promoted":
            with server.client() as client:
                client.replicaof("NO", "ONE")
        else:
            server.kill()
            (server.remove_data if self._loss == "emptied" else server.restore_data)()
            server.start()
        return server.host, server.port

    def end(self) -> None:
        for server in self._servers:
            server.kill()
        if self._link is not None:
            self._link.close()
            self._link = None

    def close(self) -> None:
        self.end()

    def _await_in_step(self) -> None:
        primary, replica = self._servers

        def in_step() -> bool | None:
            with primary.client() as one, replica.client() as other:
                here, there = other.info("replication"), one.info("replication")
            assert isinstance(here, dict)
            assert isinstance(there, dict)
            linked = here["master_link_status"] == "up" and there["connected_slaves"] == 1
            return (linked and here["slave_repl_offset"] == there["master_repl_offset"]) or None

        self._watch.until("the replica is in step", IN_STEP_S, in_step)


class ForgetfulPostgres:
    """One server, whose first data are put back before each round; a new standby for each."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        self._watch = watch
        self._loss = ""
        self._primary = Postgres()
        self._standby: Standby | None = None
        self._link: Proxy | None = None
        self._primary.start()
        self._primary.stop()
        self._primary.save_data("empty")

    def begin(self, loss: str) -> Address:
        self._loss = loss
        self._primary.restore_data("empty")
        self._primary.start()
        if loss == "promoted":
            self._link = Proxy(self._primary.host, self._primary.port)
            self._standby = Standby(self._primary, self._link.address)
            self._standby.start()
        return self._primary.host, self._primary.port

    def url(self, address: Address) -> str:
        return self._primary.url(address="{}:{}".format(*address))

    def remember(self) -> None:
        if self._standby is not None and self._link is not None:
            standby = self._standby
            self._watch.until(
                "the standby is in step", IN_STEP_S, lambda: standby.in_step() or None
            )
            self._link.cut()
        elif self._loss == "outdated":
            self._primary.stop()
            self._primary.save_data("old")
            self._primary.start()

    def forget(self) -> Address:
        if self._standby is not None:
            self._standby.promote()
            return self._standby.host, self._standby.port
        self._primary.kill()
        self._primary.restore_data("empty" if self._loss == "emptied" else "old")
        self._primary.start()
        return self._primary.host, self._primary.port

    def end(self) -> None:
        self._primary.kill()
        if self._standby is not None:
            self._standby.kill()
            self._standby.remove_data()
            self._standby = None
        if self._link is not None:
            self._link.close()
            self._link = None

    def close(self) -> None:
        self.end()
        self._primary.remove_data()


SERVERS: dict[str, type[Forgetful]] = {"redis": ForgetfulRedis, "postgresql": ForgetfulPostgres}
