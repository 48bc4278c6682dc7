"""A migration that is killed behind one of its steps: the victim of `migrating`.

    python -m tests.faults.mover FROM TO NAME TTL_S WHAT [STEP | --careless]

WHAT is a method of `Migration`: prepare, run or undo. Behind STEP the kernel kills it; without one
it runs to its end. A *careless* one is the planted mistake: it opens TO before FROM is barred.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from incumbent.cli.migration import Migration, Step
from incumbent.errors import IncumbentError


class Careless(Migration):
    """Opens TO first, since its candidates wait."""

    async def run(self) -> None:
        await self.prepare()
        await self._lift(self.target, self.target.seen)
        await self._bar_source()


async def move(migration: Migration, what: str) -> None:
    async with migration.connected():
        await getattr(migration, what)()


def main(source: str, target: str, name: str, ttl_s: str, what: str, flag: str = "") -> int:
    async def between(step: Step) -> None:
        if step.value == flag:
            os.kill(os.getpid(), signal.SIGKILL)

    kind = Careless if flag == "--careless" else Migration
    migration = kind(source, target, name, ttl_s=float(ttl_s), between=between)
    try:
        asyncio.run(move(migration, what))
    except IncumbentError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
