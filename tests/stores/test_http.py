"""The pool of connections: what its users cannot bring about at will."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
from pathlib import Path

import pytest

from incumbent.stores.http import NotSent, Pool
from tests.servers.tls import certify_server


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


def test_a_connect_that_is_cancelled_as_its_handshake_ends_leaves_no_socket(tmp_path: Path) -> None:
    """Then there is TLS to be ended politely, and a server may be in no haste to answer that."""
    files = certify_server(tmp_path)
    asked: asyncio.Task[None]

    class Told(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            asked.cancel()

    tls = ssl.create_default_context(cafile=files.authority)
    tls.sslobject_class = Told

    async def main(port: int) -> None:
        nonlocal asked
        pool = Pool(f"https://127.0.0.1:{port}", tls, "", 1)
        asked = asyncio.create_task(pool.connect())
        with pytest.raises(asyncio.CancelledError):
            await asked
        await pool.close()

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(files.certificate, files.key)

        def shake_hands() -> None:
            connection = listener.accept()[0]
            with served.wrap_socket(connection, server_side=True):
                over.wait()

        server = threading.Thread(target=shake_hands)
        server.start()
        try:
            asyncio.run(main(listener.getsockname()[1]))
        finally:
            over.set()
            server.join()
    gc.collect()  # What was left open complains, and that is an error here.


async def _get(pool: Pool) -> None:
    await pool.request("GET", "/", [])
