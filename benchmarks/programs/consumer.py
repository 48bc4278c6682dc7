"""A consumer with one small effect an item, to be stopped and started again, or killed.

Events: `standby` (somebody else holds), `began` (the first item of a term is handled; `token`).
USR2 stops the consumer in order, which hands over; another USR2 starts it again.
"""

from __future__ import annotations

import argparse
import os
import signal
from types import FrameType
from typing import Any

import incumbent
from benchmarks.programs.stamps import now_ns, tell
from incumbent.runtime.candidacy import Sighting

_EFFECT = "INSERT INTO effect (work, item, token, done_ns) VALUES ('gap', %s, %s, %s)"


def main() -> None:
    """Consume until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--source", "--effects", "--store", "--identity"):
        parser.add_argument(option, required=True)
    parser.add_argument("--ttl", type=float, required=True)
    options = parser.parse_args()
    token: int | None = None
    bell_read, bell_write = os.pipe2(os.O_CLOEXEC)

    def observe(sighting: Sighting) -> None:
        if sighting.event == "standby":
            tell("standby", text=sighting.text)

    def ring(_: int, __: FrameType | None) -> None:
        os.write(bell_write, b"!")

    signal.signal(signal.SIGUSR2, ring)
    consumer = incumbent.Consumer(
        "gap",
        options.source,
        effects=options.effects,
        store=options.store,
        ttl_s=options.ttl,
        as_=options.identity,
        observer=observe,
    )

    @consumer.handler
    def handle(item: incumbent.Item, db: Any) -> None:
        nonlocal token
        db.execute(_EFFECT, [item.id, item.token, now_ns()])
        if item.token != token:
            token = item.token
            tell("began", token=token)

    while True:
        with consumer:
            os.read(bell_read, 1)
        os.read(bell_read, 1)


if __name__ == "__main__":
    main()
