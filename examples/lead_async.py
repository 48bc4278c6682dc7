"""A consumer for asyncio: cancelled and awaited when its term is to end. End it with Ctrl-C."""

import asyncio
import signal
import sys

from incumbent import aio


async def consume(term: aio.Term) -> None:
    """Take one message a second, for as long as the term lasts."""
    while True:
        term.check()
        print("consuming as", term.identity, flush=True)
        await asyncio.sleep(1.0)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    asyncio.run(aio.Election("orders").lead(consume))
except KeyboardInterrupt:  # By then the work has been stopped, and its term given up.
    sys.exit(130)
