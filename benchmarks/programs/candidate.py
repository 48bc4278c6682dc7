"""One candidate of ours, by the public faces: what users write, with stamps around it.

Events: `standby` (somebody else holds; `text` says who), `checked` (the first `check()` of a term
has returned), `ended` (the work of a term has ended; told only after the release, so that the
telling delays nothing), `renewing` and `renewed` with `--stamps`, `note` for what a person would
read in the log.

USR1 lets the work end by itself, as in one that leaves; after `ended` another USR1 makes it a
candidate again. USR2 asks it to step down. TERM ends it in order.

`--cold` has the candidate connect anew for its take, as one does that stood by for long: the idle
connection of a standby is too old to be trusted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, cast

from benchmarks.programs.load import LOADS, piece
from benchmarks.programs.stamps import now_ns, tell
from incumbent import aio, sync
from incumbent.core.records import Lease
from incumbent.runtime.candidacy import Sighting
from incumbent.runtime.term import Term
from incumbent.stores import open_store
from incumbent.stores.api import Store


class Stamped:
    """A store whose renewals are told."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def renew(self, lease: Lease) -> Lease:
        sent_ns = now_ns()
        tell("renewing", sent_ns)
        renewed = await self._store.renew(lease)
        tell("renewed", sent_ns=sent_ns)
        return renewed


class Candidate:
    """The work, and what is told of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._load: str = options.load
        self._cold: bool = options.cold
        self._piece = piece(options.load)
        self._ended_ns = 0
        self._bell_read, self._bell_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        store: str | Store = options.store
        if options.stamps:
            store = cast("Store", Stamped(open_store(options.store)))
        self._settings: dict[str, Any] = {
            "name": options.name,
            "store": store,
            "ttl_s": options.ttl,
            "as_": options.identity,
            "observer": self._observe,
        }
        self._age_connections(standing_by=True)

    def lead(self) -> None:
        election = sync.Election(**self._settings)

        def leave(_: int, __: FrameType | None) -> None:
            self._ring()

        def step_down(_: int, __: FrameType | None) -> None:
            election.step_down()

        signal.signal(signal.SIGUSR1, leave)
        signal.signal(signal.SIGUSR2, step_down)
        while True:
            election.lead(self._work)
            self._drain()
            self._tell_ended()
            os.read(self._bell_read, 1)

    async def lead_async(self) -> None:
        election = aio.Election(**self._settings)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, election.step_down)
        await election.lead(self._async_work)

    def _work(self, term: Term) -> None:
        term.check()
        at_ns = now_ns()
        self._drain()
        tell("checked", at_ns, token=term.token, identity=term.identity)
        term.on_lost(lambda _: self._ring())
        if self._load == "none":
            os.read(self._bell_read, 1)
        else:
            while not term.ended:
                self._piece()
        self._ended_ns = now_ns()

    def _ring(self) -> None:
        """Let the work end; a pipe, because a signal handler must not touch a lock."""
        os.write(self._bell_write, b"!")

    def _drain(self) -> None:
        """Forget what rang so far: the end of a term rings, too."""
        os.set_blocking(self._bell_read, False)
        with suppress(BlockingIOError):
            os.read(self._bell_read, 4096)
        os.set_blocking(self._bell_read, True)

    def _tell_ended(self) -> None:
        if self._ended_ns:
            tell("ended", self._ended_ns)
            self._ended_ns = 0

    async def _async_work(self, term: aio.Term) -> None:
        term.check()
        tell("checked", token=term.token, identity=term.identity)
        try:
            if self._load == "none":
                await term.lost.wait()
            while not term.ended:
                self._piece()
                await asyncio.sleep(0)
        finally:
            self._ended_ns = now_ns()

    def _observe(self, sighting: Sighting) -> None:
        if sighting.event == "elected":
            self._age_connections(standing_by=False)
        elif sighting.event == "standby":
            self._age_connections(standing_by=True)
            self._tell_ended()
            tell("standby", text=sighting.text)
        elif sighting.event not in ("closed", "ended", "stopping"):
            tell("note", code=sighting.event, text=sighting.text)

    def _age_connections(self, *, standing_by: bool) -> None:
        if self._cold:
            from incumbent.stores import http

            http.IDLE_S = 0.0 if standing_by else 60.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--identity", required=True)
    parser.add_argument("--ttl", type=float, default=15.0)
    parser.add_argument("--face", choices=("sync", "aio"), default="sync")
    parser.add_argument("--load", choices=LOADS, default="none")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--stamps", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    candidate = Candidate(options)
    if options.face == "sync":
        candidate.lead()
    else:
        asyncio.run(candidate.lead_async())


if __name__ == "__main__":
    main()
