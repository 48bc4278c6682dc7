"""A member of the Kubernetes client's own election, by its lock on a ConfigMap.

`python -m tests.partners.python.kubernetes_configmap KUBECONFIG NAMESPACE LOCK IDENTITY DURATION_S`

The library has no word for waiting and none for a release: who is told to leave stops renewing,
and the others wait for their own duration. SIGUSR1 sets its wall clock forward by an hour.
"""

# The library has no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from kubernetes import config
from kubernetes.leaderelection.electionconfig import Config
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

BEAT_S = 0.1


def say(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **more}), flush=True)


class Lock(ConfigMapLock):
    """The library's own, which tells what it has read."""

    told = False

    def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        found, record = super().get(name, namespace)
        holder = getattr(record, "holder_identity", None) if found else None
        if holder not in (None, self.identity) and not self.told:
            self.told = True
            say("waiting", holder=holder)
        return found, record


def main(kubeconfig: str, namespace: str, name: str, identity: str, duration_s: str) -> None:
    config.load_kube_config(kubeconfig)
    over = threading.Event()

    def work() -> None:
        say("holding")
        while not over.wait(BEAT_S):
            say("beat")

    def stopped() -> None:
        over.set()
        say("stopped")

    def leave(_: int, __: FrameType | None) -> None:
        stopped()
        os._exit(0)  # It has no other end: its loop hears of nothing.

    def set_forward(_: int, __: FrameType | None) -> None:
        was = time.time
        time.time = lambda: was() + 3600  # wall clock: it is what the library counts on

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGUSR1, set_forward)
    duration = int(duration_s)
    election = Config(
        Lock(name, namespace, identity),
        lease_duration=duration,
        renew_deadline=duration - 1,
        retry_period=1,
        onstarted_leading=work,
        onstopped_leading=stopped,
    )
    LeaderElection(election).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
