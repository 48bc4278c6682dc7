"""A queue of this host's PostgreSQL or Redis, consumed in order by one process at a time."""

import sys

import incumbent

source, effects = sys.argv[1], sys.argv[2]
consumer = incumbent.Consumer("orders", source, effects=effects)


@consumer.handler
def handle(item: incumbent.Item, db: object) -> None:
    """Have the effect, in the transaction of `db`; it is committed with the item's id."""
    print(item.id, item.text, "attempt", item.attempt, flush=True)


consumer.run()
