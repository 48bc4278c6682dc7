"""A consumer for asyncio: cancelled and awaited when its term is to end. End it with Ctrl-C."""

import asyncio

from incumbent import aio


async def consume(term: aio.Term) -> None:
    """Take one message a second, for as long as the term lasts."""
    while True:
        term.check()
        print("consuming as", term.identity, flush=True)
        await asyncio.sleep(1.0)


asyncio.run(aio.Election("orders").lead(consume))
