"""The least that a handover can be made of: a PUT of a Lease, and the same PUT seen by a watch.

By the HTTP layer of our own store, in two processes as in a handover: `write` creates the Lease and
replaces it, a batch for each USR1, `watch` says what it sees. Events: `put` with its version and
the instants of send and answer; `seen` with the version; `batch` after each batch.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import time
from contextlib import suppress

from benchmarks.programs.stamps import now_ns, tell
from incumbent.core.records import Claim
from incumbent.stores.kubernetes import config, wire
from incumbent.stores.kubernetes.api import Conflict, Kind
from incumbent.stores.kubernetes.client import Client


async def write(client: Client, name: str, batch: int, pause_s: float) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
    claim = Claim("raw_0/raw.1", "raw_0", 15.0, None)
    new = wire.LEASE.created(name, client.namespace, claim, time.time())
    with suppress(Conflict):
        await client.create(new)
    lease = await client.get(name)
    tell("ready")
    while True:
        await asked.wait()
        asked.clear()
        for _ in range(batch):
            await asyncio.sleep(random.uniform(0.2 * pause_s, pause_s))
            content = wire.LEASE.renewed(lease, None, time.time())
            sent_ns = now_ns()
            lease = await client.replace(content)
            answered_ns = now_ns()
            tell("put", answered_ns, sent_ns=sent_ns, version=wire.version(lease))
        tell("batch")


async def watch(client: Client, name: str) -> None:
    while True:
        async for change in client.watch(name, "", 3_600.0):
            at_ns = now_ns()
            if change.kind is Kind.OPENED:
                tell("ready")
            elif change.kind in (Kind.ADDED, Kind.MODIFIED):
                tell("seen", at_ns, version=wire.version(change.object))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("write", "watch"))
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True)
    options = parser.parse_args()
    client = Client(config.load(kubeconfig=options.kubeconfig, context=""), options.namespace)
    if options.role == "write":
        asyncio.run(write(client, options.name, options.batch, options.pause))
    else:
        asyncio.run(watch(client, options.name))


if __name__ == "__main__":
    main()
