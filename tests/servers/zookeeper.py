"""ZooKeeper: one server, or several that form an ensemble, from Debian's package.

The ticks are short, so that a test needs not wait for what ZooKeeper counts in ticks: a session
that ends, a server that notices the loss of its peers. Data is not synced to disk: the tests kill
processes, not machines.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from kazoo.client import KazooClient

from tests.servers.ports import claim_port
from tests.servers.process import ServerError, ServerProcess
from tests.servers.proxy import Proxy

HOST = "127.0.0.1"
PASSWORD = "keystore"

_JARS = Path("/usr/share/java")
_CLASS_PATH = ("zookeeper.jar", "netty-codec.jar", "netty-resolver.jar", "slf4j-simple.jar")
_FLAGS = (
    "-Xms32m",
    "-Xmx128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dzookeeper.jmx.log4j.disable=true",
    "-Dzookeeper.forceSync=no",
    # Servers that look for a leader say so again and again, up to a minute apart as shipped.
    "-Dzookeeper.fastleader.maxNotificationInterval=1000",
)
_ANSWER_S = 1.0
_START_S = 100.0


class ZooKeeperServer(ServerProcess):
    """One server with data below `base_dir`; `number` and `peers` if it is one of several.

    `tls` has a server's certificate to show, and an authority to judge clients by: see `Keys`.
    """

    def __init__(
        self,
        base_dir: Path,
        *,
        number: int = 0,
        peers: Mapping[int, str] | None = None,
        tick_ms: int = 200,
        patience_ticks: int = 10,
        tls: Keys | None = None,
    ) -> None:
        java = shutil.which("java")
        missing = [name for name in _CLASS_PATH if not (_JARS / name).exists()]
        if java is None or missing:
            raise ServerError(
                f"ZooKeeper needs java and {', '.join(missing) or 'its jars'} in {_JARS}: "
                "apt-get install default-jre-headless libzookeeper-java"
            )
        self.port = claim_port()
        self.secure_port = claim_port() if tls is not None else 0
        data_dir = base_dir / "data"
        data_dir.mkdir(parents=True)
        lines = {
            "dataDir": data_dir,
            "clientPort": self.port,
            "clientPortAddress": HOST,
            "tickTime": tick_ms,
            "initLimit": patience_ticks,
            "syncLimit": patience_ticks,
            "admin.enableServer": "false",
            "maxClientCnxns": 0,
            **{f"server.{peer}": address for peer, address in (peers or {}).items()},
            **({} if tls is None else tls.server_lines(self.secure_port)),
        }
        if peers:
            (data_dir / "myid").write_text(f"{number}\n", encoding="ascii")
        config = base_dir / "zoo.cfg"
        config.write_text("".join(f"{k}={v}\n" for k, v in lines.items()), encoding="ascii")
        super().__init__(
            f"zookeeper {number}",
            [
                java,
                *_FLAGS,
                "-cp",
                ":".join(str(_JARS / name) for name in _CLASS_PATH),
                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                config,
            ],
            log_path=base_dir / "zookeeper.log",
            ready=lambda: bool(self.mode()),
            start_timeout_s=_START_S,
        )

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def secure_address(self) -> str:
        """Host and port for clients that speak TLS."""
        return f"{HOST}:{self.secure_port}"

    def mode(self) -> str:
        """Return "standalone", "leader" or "follower"; "" if it serves nobody."""
        with socket.create_connection((HOST, self.port), _ANSWER_S) as connection:
            connection.settimeout(_ANSWER_S)
            connection.sendall(b"srvr")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
        found = re.search(rb"^Mode: (\w+)$", answer, re.MULTILINE)
        return found[1].decode() if found else ""

    @contextmanager
    def by_hand(self, user: str = "") -> Iterator[Any]:
        """Yield a client of kazoo's own, for what people do to the nodes; `user` is NAME:SECRET."""
        client = KazooClient(hosts=self.address, auth_data=[("digest", user)] if user else None)
        client.start(20)
        try:
            yield client
        finally:
            client.stop()
            client.close()

    def stop(self, timeout_s: float = 0.0) -> None:
        """End the process at once: its data is temporary, and in order it would take seconds."""
        self.kill()


class ZooKeeperEnsemble:
    """Servers that elect a leader among themselves. `tick_ms`: see `ZooKeeperServer`.

    `patience_ticks` is how long a server that hears nothing of its peers goes on serving.

    All that one server tells another goes through a relay of that pair, so that `cut_off` can part
    one server from all others, while clients reach it and it reaches them. To elect a leader,
    servers tell one another where to be called back; the relays put themselves into that place.
    """

    def __init__(
        self, base_dir: Path, *, size: int = 3, tick_ms: int = 200, patience_ticks: int = 10
    ) -> None:
        numbers = range(1, size + 1)
        pairs = [(one, other) for one in numbers for other in numbers if one != other]
        data_ports = {number: claim_port() for number in numbers}
        election_ports = {number: claim_port() for number in numbers}
        data = {(one, other): Proxy(HOST, data_ports[other]) for one, other in pairs}
        elections = {(one, other): Proxy(HOST, election_ports[other]) for one, other in pairs}
        for one, other in pairs:
            # All ports have five digits, so that no length changes.
            own, back = f"{HOST}:{election_ports[one]}", elections[other, one].address
            elections[one, other].rewrite = (own.encode(), back.encode())
        self._relays = [*data.items(), *elections.items()]

        def peers_of(one: int) -> dict[int, str]:
            peers = {
                other: f"{data[one, other].address}:{elections[one, other].port}"
                for other in numbers
                if other != one
            }
            return {**peers, one: f"{HOST}:{data_ports[one]}:{election_ports[one]}"}

        self.servers = [
            ZooKeeperServer(
                base_dir / str(one),
                number=one,
                peers=peers_of(one),
                tick_ms=tick_ms,
                patience_ticks=patience_ticks,
            )
            for one in numbers
        ]

    def leader(self) -> ZooKeeperServer:
        """Return the server that leads the others."""
        return next(server for server in self.servers if server.mode() == "leader")

    def followers(self) -> list[ZooKeeperServer]:
        """Return all others."""
        return [server for server in self.servers if server.mode() == "follower"]

    def cut_off(self, server: ZooKeeperServer) -> None:
        """Let no byte pass between this server and the others; no connection ends."""
        number = self.servers.index(server) + 1
        for pair, relay in self._relays:
            if number in pair:
                relay.cut()

    def heal(self) -> None:
        """End that."""
        for _, relay in self._relays:
            relay.heal()

    def start(self) -> None:
        """Start all, and wait until each serves clients."""
        try:
            for server in self.servers:
                server.spawn()
            for server in self.servers:
                server.wait_ready()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End all at once."""
        for server in self.servers:
            server.kill()

    def close(self) -> None:
        """End all, and the network between them."""
        self.kill()
        for _, relay in self._relays:
            relay.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Keys:
    """A server's key and certificate for 127.0.0.1, and who signs the clients' (a PEM file).

    `certificate` is what clients are to trust.
    """

    def __init__(self, folder: Path, authority: Path) -> None:
        folder.mkdir(parents=True)
        self._store = folder / "server.p12"
        self._authority = authority
        self.certificate = folder / "server.crt"
        self._keytool(
            "-genkeypair", "-keyalg", "EC", "-dname", "CN=zookeeper-of-tests", "-validity", "2",
            "-ext", f"san=ip:{HOST}", "-storetype", "PKCS12",
        )  # fmt: skip
        self._keytool("-exportcert", "-rfc", "-file", str(self.certificate))

    def server_lines(self, port: int) -> dict[str, object]:
        """Return what is to stand in the configuration of a server."""
        return {
            "secureClientPort": port,
            "secureClientPortAddress": HOST,
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "ssl.keyStore.location": self._store,
            "ssl.keyStore.type": "PKCS12",
            "ssl.keyStore.password": PASSWORD,
            "ssl.trustStore.location": self._authority,
            "ssl.trustStore.type": "PEM",
            "ssl.clientAuth": "want",
        }

    def _keytool(self, *words: str) -> None:
        keytool = shutil.which("keytool")
        if keytool is None:
            raise ServerError("there is no keytool: apt-get install default-jre-headless")
        options: Sequence[str] = ("-alias", "server", "-keystore", str(self._store))
        subprocess.run(
            [keytool, *words, *options, "-storepass", PASSWORD], check=True, capture_output=True
        )
