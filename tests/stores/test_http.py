"""The pool of connections: what its users cannot bring about at will."""

from __future__ import annotations

import asyncio

import pytest

from incumbent.stores.http import NotSent, Pool


@pytest.mark.parametrize("ahead", [False, True], ids=["request", "ahead"])
def test_what_was_connecting_while_the_pool_was_closed_is_closed_as_well(ahead: bool) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert not await reader.read(), "nothing is asked on it"
            writer.close()
            gone.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pool = Pool(f"http://127.0.0.1:{port}", None, "", 1)
        asked = asyncio.create_task(pool.connect() if ahead else _get(pool))
        await asyncio.sleep(0)  # sleep: a turn of the loop, in which it begins to connect
        await pool.close()
        with pytest.raises(NotSent):
            await asked
        await gone.wait()
        server.close()

    asyncio.run(main())


async def _get(pool: Pool) -> None:
    await pool.request("GET", "/", [])
