"""What one process does at a time."""

import incumbent


@incumbent.every("2s")
def count(tick: incumbent.Tick) -> None:
    """Count the orders."""
    tick.check()
    print("counting for", tick.id, "with token", tick.token, flush=True)
