"""Operators that die behind their first write, one after the other, each a process of its own.

`python -m tests.operator.mortal KUBECONFIG NAMESPACE NAME`: for each line on the standard input one
of them looks after the Singleton; what came of it is a line on the output, `killed` or `done`. The
API server has carried out the write when the process dies, and the process never hears of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from incumbent.manifests import Object
from incumbent.operator.cluster import Cluster
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.reconciling import Reconciler
from incumbent.stores.kubernetes import config
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import Resource


class Mortal(Cluster):
    """Dies behind a write."""

    async def _write(
        self,
        of: Resource,
        verb: str,
        name: str,
        method: str,
        path: str,
        body: Object,
        content_type: str = "application/json",
    ) -> Object:
        await super()._write(of, verb, name, method, path, body, content_type)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nothing runs on")


async def _look_after(kubeconfig: str, namespace: str, name: str) -> None:
    client = Client(config.load(kubeconfig=kubeconfig), namespace, SINGLETONS)
    try:
        await Reconciler(Mortal(client, lambda: None), None, "mortal").reconcile((namespace, name))
    finally:
        await client.close()


def main(kubeconfig: str, namespace: str, name: str) -> None:
    """A child for each line. This process has no thread and no event loop, so it can be forked."""
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            try:
                asyncio.run(_look_after(kubeconfig, namespace, name))
                os._exit(0)
            finally:
                os._exit(1)
        _, outcome = os.waitpid(child, 0)
        ended = os.waitstatus_to_exitcode(outcome)
        words = {0: "done", -signal.SIGKILL: "killed"}.get(ended, f"failed with {ended}")
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
