"""A candidate that runs client-go's own leader election, for tests of interoperability.

The program is in `tests/clientgo`; its head describes the events.
"""

from __future__ import annotations

from pathlib import Path

from tests.servers import build
from tests.servers.speaker import Speaker


class ClientGoCandidate(Speaker):
    """One candidate process; `start` starts it, `terminate` asks it to end, `kill` ends it."""

    def __init__(
        self,
        base_dir: Path,
        *,
        kubeconfig: Path,
        namespace: str,
        name: str,
        identity: str,
        lease_duration_s: float = 15.0,
        renew_deadline_s: float = 10.0,
        retry_period_s: float = 2.0,
        release_on_cancel: bool = False,
        marks_path: Path | None = None,
    ) -> None:
        command = [
            str(build.ensure("clientgo-candidate")),
            f"--kubeconfig={kubeconfig}",
            f"--namespace={namespace}",
            f"--name={name}",
            f"--id={identity}",
            f"--lease-duration={lease_duration_s}s",
            f"--renew-deadline={renew_deadline_s}s",
            f"--retry-period={retry_period_s}s",
            f"--release-on-cancel={str(release_on_cancel).lower()}",
        ]
        if marks_path is not None:
            command.append(f"--marks={marks_path}")
        self.identity = identity
        super().__init__(
            f"client-go candidate {identity}",
            command,
            log_path=base_dir / f"clientgo-{identity}.log",
            capture_output=True,
        )
