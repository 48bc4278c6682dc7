"""Sending what is due, under one term: each tick of an entry is one task, through failover.

Rules
-----
1. **Claim, then send.** Before a task is sent, it is noted under which id, as which tick of its
   entry, and when; the note is written under the token of the term, and known to be written. The
   next tick is counted from there, whoever finds it. So no tick has two ids.
2. **Sent, then noted.** A claim whose sending is not noted is sent again, *under the same id*: by
   this holder if the broker did not answer, by the next one if this one died between the two. That
   is at least once. A broker does not know tokens, so nobody could make more of it but the task:
   by its id, or by the token in its headers.
3. **What the broker does not take is kept**, and tried again after a pause; meanwhile the entry has
   no further tick. A task that can never be sent (its arguments cannot be encoded, say) is logged
   and passed over, as Celery does.
4. **By plan nothing is sent twice.** When the term is to end, what is being sent is waited for, and
   noted; what is claimed and not begun is left to the successor.
5. **Which ticks there are is Celery's own rule**, and it remembers one instant: after a gap an
   entry is due once, not once for each tick that was missed. An entry that nobody has noted begins
   at the present; what was on its way for one that there is no more is not sent.

Clocks of hosts may differ: a holder whose clock is behind its predecessor's waits until it has come
to the next tick after the noted instant. That is exact for crontab, whose ticks are instants of the
clock. An interval is counted from when it was claimed last, by the clocks of both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Protocol
from uuid import uuid4

from incumbent.apps.celery.notes import Note, decode, encode
from incumbent.workloads import Env

__all__ = ["PART", "Dispatch", "Entries"]

PART = "beat"
LEAST_WAIT_S = 0.001
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0

log = logging.getLogger("incumbent")


class Entries(Protocol):
    """What Celery knows of its schedule. All of it is called in the thread that leads."""

    def take_over(self, notes: dict[str, Note]) -> dict[str, Note]:
        """Go on from these notes; return one for each entry there is."""
        ...

    def due(self) -> tuple[list[str], float]:
        """Return which entries are due, and after how many seconds to ask again."""
        ...

    def claim(self, name: str) -> Note:
        """Count an entry's tick as of now; the next one is judged from there."""
        ...

    def send(self, name: str, note: Note, token: int | None) -> bool:
        """Send the task; tell whether it need not be tried again."""
        ...


class Dispatch:
    """The workload; one object for all the terms of a process."""

    keeps = True

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    async def run(self, env: Env) -> None:
        """Send whatever is due, for ever.

        Raises:
            StoreUnusable: the notes are of another version.
            LeadershipLost, StaleToken: the term is over.
        """
        await _Term(self._entries, env).run()


class _Term:
    def __init__(self, entries: Entries, env: Env) -> None:
        self._entries = entries
        self._env = env
        self._progress = env.progress(PART)
        self._notes: dict[str, Note] = {}
        self._pause_s = FIRST_PAUSE_S

    async def run(self) -> None:
        what = f"the checkpoint {PART!r} of {self._env.term.name!r}"
        noted = decode(await self._progress.open(), what)
        self._notes = await self._env.call(self._entries.take_over, noted)
        await self._progress.save(encode(self._notes))
        while True:
            due, wait_s = await self._env.call(self._entries.due)
            due = [name for name in due if not self._notes[name].message]
            if due or self._on_its_way():
                await _uncut(self._dispatch(due))
                if not self._on_its_way():
                    self._pause_s = FIRST_PAUSE_S
                    continue
                wait_s = self._pause_s
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            await self._env.clock.sleep(max(wait_s, LEAST_WAIT_S))

    def _on_its_way(self) -> list[str]:
        return [name for name, note in self._notes.items() if note.message]

    async def _dispatch(self, due: list[str]) -> None:
        for name in due:
            claimed = await self._env.call(self._entries.claim, name)
            self._notes[name] = replace(claimed, message=str(uuid4()))
        if due:
            await self._progress.save(encode(self._notes))
        sent = False
        try:
            for name in self._on_its_way():
                if self._env.term.ended:
                    break
                note = self._notes.pop(name)
                self._notes[name] = note  # The last one now: who fails next time, fails behind all.
                if not await self._env.call(self._entries.send, name, note, self._env.term.token):
                    break
                self._notes[name] = replace(note, message="")
                sent = True
        finally:
            if sent:
                await self._progress.save(encode(self._notes))


async def _uncut(step: Coroutine[Any, Any, None]) -> None:
    """Carry a step to its end, and be cancelled after it."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.result()
        raise
