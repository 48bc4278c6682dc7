"""A consumer in a process of its own, whose handler can be held before it returns.

    python -m tests.workloads.pausing STORE SOURCE EFFECTS ITEM

Before the commit of ITEM it writes `holding` and waits for a line; "" never holds.
"""

from __future__ import annotations

import sys
from typing import Any

import incumbent


def main() -> None:
    store, source, effects, held = sys.argv[1:]
    consumer = incumbent.Consumer(
        "orders", source, effects=effects, store=store, ttl_s=2, deadman=False, as_=held or "other"
    )

    @consumer.handler
    def handle(item: incumbent.Item, db: Any) -> None:
        db.execute(
            "INSERT INTO effect (item, token) VALUES (%s, %s)",
            [item.id, item.token],
        )
        if item.id == held:
            print("holding", flush=True)
            sys.stdin.readline()
            print("going on", flush=True)

    print("ready", flush=True)
    consumer.run()


if __name__ == "__main__":
    main()
