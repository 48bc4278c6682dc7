"""One candidate of the Kubernetes Python client's own `LeaderElection` on a Lease.

It adds no behaviour, only stamps around the calls of its lock. Events: `looking` before each round
of it (a read, then perhaps a write), `standby` once when it has seen another holder, `renewing` and
`renewed` around each write, `started` when its `onstarted_leading` runs.

It has no way to release: TERM ends the process, which is what its users do.
"""

from __future__ import annotations

import argparse
import os
import signal
from types import FrameType
from typing import Any

# mypy: disable-error-code=no-untyped-call
from kubernetes import config
from kubernetes.leaderelection.electionconfig import Config
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from benchmarks.programs.load import LOADS, piece
from benchmarks.programs.stamps import now_ns, tell


class StampedLock(LeaseLock):
    """The client's lock, telling what it does."""

    _told = False

    def get(self, name: str, namespace: str) -> Any:
        tell("looking")
        answer = super().get(name, namespace)
        found, record = answer
        holder = record.holder_identity if found else None
        if holder and holder != self.identity and not self._told:
            self._told = True
            tell("standby", text=f"held by {holder!r}")
        return answer

    def create(self, name: str, namespace: str, election_record: Any) -> Any:
        return self._written(super().create, name, namespace, election_record)

    def update(self, name: str, namespace: str, updated_record: Any) -> Any:
        return self._written(super().update, name, namespace, updated_record)

    def _written(self, write: Any, name: str, namespace: str, record: Any) -> Any:
        sent_ns = now_ns()
        tell("renewing", sent_ns)
        done = write(name, namespace, record)
        if done is not False:
            tell("renewed", sent_ns=sent_ns)
        return done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--identity", required=True)
    parser.add_argument("--lease-duration", type=int, required=True)
    parser.add_argument("--renew-deadline", type=int, required=True)
    parser.add_argument("--retry-period", type=int, required=True)
    parser.add_argument("--load", choices=LOADS, default="none")
    options = parser.parse_args()

    def end(_: int, __: FrameType | None) -> None:
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    work = piece(options.load)

    def lead() -> None:
        tell("started")
        while options.load != "none":
            work()

    def stopped() -> None:
        tell("stopped")

    config.load_kube_config(options.kubeconfig)
    settings = Config(
        StampedLock(options.name, options.namespace, options.identity),
        lease_duration=options.lease_duration,
        renew_deadline=options.renew_deadline,
        retry_period=options.retry_period,
        onstarted_leading=lead,
        onstopped_leading=stopped,
    )
    LeaderElection(settings).run()


if __name__ == "__main__":
    main()
