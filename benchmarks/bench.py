"""What every benchmark is given: servers, a folder, how much to do, and where to show progress."""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from benchmarks.processes import ROOT, EventProcess, python
from tests.servers import build
from tests.servers.clientgo import ClientGoCandidate
from tests.servers.kubernetes import ApiServer

__all__ = ["Bench"]

_LINE_EVERY_S = 10.0

build.TARGETS.setdefault(
    "clientgo-raw",
    build.Target(
        name="clientgo-raw",
        module_dir=ROOT / "benchmarks" / "clientgo",
        package=".",
        version=None,
        typical_s=60,
    ),
)


class Bench:
    """One run. What it starts ends with it, in the opposite order.

    `stores` are those that `benchmarks.stores` measures; none for all.
    """

    def __init__(self, *, quick: bool, stores: Sequence[str] = ()) -> None:
        self.quick = quick
        self.stores = frozenset(stores)
        self.dir = Path()
        self._server: ApiServer | None = None
        self._stack = ExitStack()
        self._console = Console(stderr=True)
        self._status: Status | None = None
        self._said_at_s = 0.0

    def __enter__(self) -> Self:
        folder = tempfile.TemporaryDirectory(prefix="incumbent-bench-", ignore_cleanup_errors=True)
        self.dir = Path(self._stack.enter_context(folder))
        if self._console.is_terminal:
            self._status = self._stack.enter_context(self._console.status("starting"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def many(self, full: int, quick: int) -> int:
        """Return how often to do something."""
        return quick if self.quick else full

    def progress(self, text: str, *, at_once: bool = True) -> None:
        """Say what is being done; with `at_once` false, only if nothing was said for a while."""
        if self._status is not None:
            self._status.update(text)
        elif at_once or time.monotonic() - self._said_at_s > _LINE_EVERY_S:
            self._said_at_s = time.monotonic()
            print(f"[bench] {text}", file=sys.stderr, flush=True)

    # -- servers ----------------------------------------------------------------------------------

    @property
    def server(self) -> ApiServer:
        """The API server of the run, without an audit log, which would cost each request."""
        if self._server is None:
            self.progress("starting the API server")
            self._server = self.start_server("server", self._stack)
        return self._server

    def start_server(self, name: str, stack: ExitStack, *, audit: bool = False) -> ApiServer:
        """Start an API server that ends with `stack`."""
        server = ApiServer(self.dir / name, audit=audit)
        stack.callback(server.etcd.remove_data)
        stack.enter_context(server)
        return server

    def namespace(self, server: ApiServer | None = None) -> str:
        """Make a namespace."""
        name = f"bench-{secrets.token_hex(4)}"
        (server or self.server).create_namespace(name)
        return name

    # -- candidates -------------------------------------------------------------------------------

    def ours(
        self,
        stack: ExitStack,
        identity: str,
        store: str,
        *options: str,
        name: str = "bench",
        kubeconfig: Path | None = None,
    ) -> EventProcess:
        """Start a candidate of ours."""
        arguments = ["--name", name, "--store", store, "--identity", identity, *options]
        environment = {} if kubeconfig is None else {"KUBECONFIG": str(kubeconfig)}
        return self.program(stack, identity, python("candidate", *arguments), environment)

    def python_client(
        self,
        stack: ExitStack,
        identity: str,
        namespace: str,
        timing: tuple[int, int, int],
        *options: str,
        kubeconfig: Path | None = None,
    ) -> EventProcess:
        """Start a candidate of the Kubernetes Python client."""
        ttl_s, deadline_s, retry_s = timing
        command = python(
            "python_client",
            f"--kubeconfig={kubeconfig or self.server.kubeconfig()}",
            f"--namespace={namespace}",
            "--name=python-client",
            f"--identity={identity}",
            f"--lease-duration={ttl_s}",
            f"--renew-deadline={deadline_s}",
            f"--retry-period={retry_s}",
            *options,
        )
        return self.program(stack, identity, command)

    def clientgo(
        self,
        stack: ExitStack,
        identity: str,
        namespace: str,
        timing: tuple[int, int, int],
        kubeconfig: Path | None = None,
    ) -> ClientGoCandidate:
        """Start a candidate of client-go."""
        ttl_s, deadline_s, retry_s = timing
        candidate = ClientGoCandidate(
            self.dir,
            kubeconfig=kubeconfig or self.server.kubeconfig(),
            namespace=namespace,
            name="client-go",
            identity=identity,
            lease_duration_s=ttl_s,
            renew_deadline_s=deadline_s,
            retry_period_s=retry_s,
            release_on_cancel=True,
        )
        candidate.start()
        stack.callback(candidate.kill)
        return candidate

    def program(
        self,
        stack: ExitStack,
        name: str,
        command: list[str],
        environment: dict[str, str] | None = None,
    ) -> EventProcess:
        """Start a program that ends with `stack`."""
        process = EventProcess(name, command, self.dir / "logs" / f"{name}.log", environment)
        process.start()
        stack.callback(process.kill)
        return process
