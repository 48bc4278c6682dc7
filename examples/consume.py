"""A queue that one process at a time consumes, in order; each effect is committed once."""

import os
import sys
from typing import Any

import incumbent

source = os.environ.get("ORDERS", "redis://127.0.0.1/0?stream=orders")
consumer = incumbent.Consumer("orders", source, effects=f"sqlite://{os.path.abspath('shop.db')}")


@consumer.handler
def handle(item: incumbent.Item, db: Any) -> None:
    """Have the effect in the transaction of `db`; the item's id is committed with it."""
    db.execute("CREATE TABLE IF NOT EXISTS shipped (item TEXT, token INTEGER)")
    db.execute("INSERT INTO shipped VALUES (?, ?)", (item.id, item.token))
    print("shipped", item.id, item.text, flush=True)


try:
    consumer.run()
except KeyboardInterrupt:  # By then the run has ended, and the term was given up.
    sys.exit(130)
