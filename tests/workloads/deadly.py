"""A consumer in a process of its own, whose handler ends it as a crash would: without a word.

python -m tests.workloads.deadly STORE SOURCE EFFECTS ITEM BATCH
"""

from __future__ import annotations

import os
import sys
from typing import Any

import incumbent

DIED = 9


def main() -> None:
    """Consume, and die of ITEM."""
    store, source, effects, deadly, batch = sys.argv[1:]
    consumer = incumbent.Consumer(
        "orders", source, effects=effects, store=store, deadman=False, deaths=2, batch=int(batch)
    )

    @consumer.handler
    def handle(item: incumbent.Item, db: Any) -> None:
        db.execute("INSERT INTO effect (item, token) VALUES (%s, %s)", [item.id, item.token])
        if item.id == deadly:
            os._exit(DIED)

    consumer.run()


if __name__ == "__main__":
    main()
