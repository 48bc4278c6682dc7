"""Takes the checkpoints of an election along, while both of its records are barred.

Rules
-----
1. **Seal FROM first**, each with the token of FROM's bar, and take what is found there then. What
   the last holder of FROM has under way compares an older version from then on: it was either taken
   along, or has no effect, and its holder was told of neither.
2. **Write TO with the token of TO's bar**, which is that of a term of TO: whoever leads there later
   has a greater one, and seals with it. What TO has, and FROM has not, is of an earlier life of the
   election there: it becomes empty, which is what a part is that nobody has noted anything in.
3. **A greater token is the end**, on either side: somebody has led since both bars were read. So
   a command that was stopped in the middle, and goes on after another one has finished or undone
   this, moves nothing back.
4. **Between reading both bars and the writing that opens TO** stands all of this (`migration`).
   That writing compares the bars as they were read before, so what was taken along is what FROM had
   when it was barred for the last time.

To do it twice does no harm: once sealed, FROM's do not change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from incumbent.cli.session import requested, written
from incumbent.core.records import Checkpoint
from incumbent.errors import (
    CheckpointMoved,
    IncumbentError,
    OutcomeUnknown,
    StoreUnavailable,
)
from incumbent.stores.api import Store

__all__ = ["carried", "kept"]

T = TypeVar("T")

_ATTEMPTS = 5
_PAUSE_S = 0.3


async def kept(store: Store, name: str) -> list[Checkpoint]:
    """Return what a store keeps for an election; nothing, if it keeps no checkpoints.

    Raises:
        StoreError: it could not be read.
    """
    if not store.capabilities.checkpoints:
        return []
    return await _tried(store, lambda: store.checkpoints(name))


async def carried(
    source: Store, sealed_with: int, target: Store, written_with: int, name: str
) -> list[str]:
    """Have TO's checkpoints say what FROM's say, and return the parts that FROM has.

    Args:
        source: where they are.
        sealed_with: the token of FROM's bar.
        target: where they are to be.
        written_with: the token of TO's bar.
        name: the election.

    Raises:
        IncumbentError: somebody has led since.
        StoreError: something went wrong; what was not done yet may be done again.
    """
    values = dict[str, bytes]()
    for found in await kept(source, name):
        values[found.part] = (await _written(source, found, None, sealed_with)).value
    there = {found.part: found for found in await kept(target, name)}
    for part in sorted(values.keys() | there.keys()):
        over = there.get(part, Checkpoint(name, part))
        await _written(target, over, values.get(part, b""), written_with)
    return sorted(values)


async def _written(store: Store, over: Checkpoint, value: bytes | None, token: int) -> Checkpoint:
    """Write, over whatever has no greater token, and return when it is known to be written.

    Args:
        store: where.
        over: as it was found.
        value: None for the one that is there.
        token: to write under.
    """
    for _ in range(_ATTEMPTS):
        if over.token > token:
            raise IncumbentError(
                f"{store.url}: the checkpoint {over.part!r} of {over.name!r} has seen token "
                f"{over.token}, and the bar has {token}: somebody has led since. Look where the "
                "election is, and run this again"
            )
        meant = over.value if value is None else value
        try:
            return await written(store, store.advance(over, meant, token))
        except CheckpointMoved as error:
            over = error.checkpoint
            if (over.value, over.token) == (meant, token):
                return over
        except (OutcomeUnknown, StoreUnavailable):
            await asyncio.sleep(_PAUSE_S)
    raise OutcomeUnknown(
        f"{store.url}: it is not known whether the checkpoint {over.part!r} was written; run this "
        "again"
    )


async def _tried(store: Store, ask: Callable[[], Awaitable[T]]) -> T:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await requested(store, ask())
        except StoreUnavailable:
            await asyncio.sleep(_PAUSE_S)
    return await requested(store, ask())
