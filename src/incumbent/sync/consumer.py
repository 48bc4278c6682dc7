"""Ordered consumers for threads: what they do is in `incumbent.workloads.consumer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from incumbent.fencing.progress import KEEP
from incumbent.sync.work import Work
from incumbent.workloads.consumer.front import Front
from incumbent.workloads.sources.api import Item, Source

__all__ = ["Consumer", "Item"]


class Consumer(Front, Work):
    """Consumes a source in one process at a time, item after item, in order, across failover.

    consumer = Consumer("orders", source="redis://…?stream=orders", effects="postgresql://…")

    @consumer.handler
    def handle(item, db): ...
    """

    _waits = False

    def __init__(
        self,
        name: str,
        source: str | Callable[[], Source],
        *,
        effects: str | Callable[[], Any] | None = None,
        retries: int = 3,
        backoff_s: float = 1.0,
        dead_letter: str | None = None,
        errors: str = "bury",
        batch: int = 1,
        prefetch: int = 100,
        remember: int = KEEP,
        deaths: int | None = None,
        **work: Any,
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            name: of the election; ids and checkpoint are kept under it, too.
            source: what is consumed: a URL (see `incumbent.workloads.sources`), or a function that
                returns a source.
            effects: the database of the effects: a URL, or a function that returns a new
                connection. The handler gets a connection in a transaction that is sealed, and
                commits with the item. Without it each item is handled at least once.
            retries: how many more times an item is tried whose handler raised.
            backoff_s: the pause before the first of these; each further one is twice as long.
            dead_letter: the queue, stream or topic of the source for items that failed; by default
                the table `incumbent_dead` beside the effects, or, without these, the source's own.
            errors: "bury" such an item, or "raise" what its handler raised and end the run.
            batch: how many items may share a transaction.
            prefetch: how many items are taken from the source at a time.
            remember: of how many items the ids are kept, for those that are delivered again.
            deaths: how many terms in a row may end without a word (the process was killed, the host
                died) that had begun with the same item, before it is a dead letter; 5 with
                `effects`, where they are counted; 0 for any number.
            **work: what all work takes: see `incumbent.sync.work.Work`.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
            MissingExtra: a client library is not installed.
        """
        machine = self._prepare(
            source,
            effects=effects,
            retries=retries,
            backoff_s=backoff_s,
            dead_letter=dead_letter,
            errors=errors,
            batch=batch,
            prefetch=prefetch,
            remember=remember,
            deaths=deaths,
        )
        super().__init__(name, machine, **work)
