"""Files of a folder for threads: the handler runs in the one thread that leads."""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import signature
from typing import Any

from incumbent.sync.poller import only_one_thread
from incumbent.sync.work import Work
from incumbent.workloads.polling.directory import File, Filing, options
from incumbent.workloads.polling.pace import Pace

__all__ = ["Directory"]


class Directory(Work):
    """Handles each file that appears in a folder, in one replica at a time and one after the other.

    A file is claimed by a rename, handled, and moved to `done`; or, after its retries, to `failed`.
    """

    _more = tuple(signature(Filing).parameters)

    def __init__(
        self,
        path: str | os.PathLike[str],
        handler: Callable[[File], Any],
        *,
        name: str,
        every: str | float = "5s",
        max_every: str | float | None = None,
        jitter: float = 0.1,
        **settings: Any,
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            path: the folder.
            handler: a function, which is given a `File`.
            name: of the election.
            every: how long to wait if nothing is found, and no notice of the kernel comes.
            max_every: up to which the wait doubles while nothing is found.
            jitter: by which share of it, at most, each wait is shortened at random.
            **settings: those of `Filing`, as done= and retries=, and what `Work` and `Election`
                take.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        only_one_thread(settings)
        own, rest = options(settings)
        pace = Pace(every, max_every, jitter)
        super().__init__(name, Filing(path, handler, pace, awaits=False, **own), **rest)
