"""What `incumbent doctor` looks at here: the servers, the encryption, and who may write.

A server says its version and its role to the command `srvr`, which is permitted by default; it is
asked on a connection of its own.
"""

from __future__ import annotations

import asyncio
import re

from incumbent.errors import StoreError
from incumbent.stores.api import Finding, unreached
from incumbent.stores.zookeeper.ensemble import Ensemble
from incumbent.stores.zookeeper.link import Link, Op, Server, Settings

__all__ = ["examine"]

_SLOW_S = 1.0
_ANSWER_S = 3.0
_WRITES = 0b01110
"""The permissions to write, create and delete."""


async def examine(ensemble: Ensemble, folder: str) -> list[Finding]:
    """Return the findings."""
    loop = asyncio.get_running_loop()
    try:
        link = await ensemble.link()
        began = loop.time()
        await link.transact([Op("check", "/")])
    except StoreError as error:
        return [unreached(error)]
    took_s = loop.time() - began
    return [
        Finding("reachable", True, f"{link.server} answers, and a majority confirms a write"),
        Finding(
            "round trip",
            took_s < _SLOW_S,
            f"{took_s * 1000:.1f} ms",
            "" if took_s < _SLOW_S else "use a longer TTL: a renewal needs several round trips",
        ),
        *[await _server(server, ensemble.settings) for server in sorted(ensemble.servers)],
        _encryption(ensemble.settings),
        await _rights(link, folder),
    ]


async def _server(server: Server, settings: Settings) -> Finding:
    check = f"server {server}"
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(*server, ssl=settings.context())
            try:
                writer.write(b"srvr")
                text = (await reader.read(4096)).decode("utf-8", errors="replace")
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError) as error:
        return Finding(check, False, f"does not answer: {str(error) or 'not in time'}")
    version = re.search(r"^Zookeeper version: ([\w.]+)", text, re.MULTILINE)
    mode = re.search(r"^Mode: (.+)$", text, re.MULTILINE)
    if version is None or mode is None:
        return Finding(check, None, "answers, and does not say what it is")
    alone = mode[1] == "standalone"
    return Finding(
        check,
        None if alone else True,
        f"ZooKeeper {version[1]}, {mode[1]}",
        "while this server is away nobody is elected: three are the least" if alone else "",
    )


def _encryption(settings: Settings) -> Finding:
    if settings.encrypted:
        return Finding("encryption", True, "TLS")
    text = "none" + (": the password can be read on its way" if settings.username else "")
    return Finding("encryption", None, text, "use a TLS port, and say cafile= in the URL")


async def _rights(link: Link, folder: str) -> Finding:
    try:
        entries = await link.rights(folder)
    except StoreError as error:
        return Finding("rights", None, str(error))
    if entries is None:
        return Finding("rights", None, f"{folder} does not exist yet: a candidate makes it")
    if any(entry.id.scheme == "world" and entry.perms & _WRITES for entry in entries):
        fix = "name a user in the URL before the nodes are made, or set their access lists"
        return Finding("rights", None, f"whoever reaches the servers may write to {folder}", fix)
    who = ", ".join(f"{entry.id.scheme}:{entry.id.id.partition(':')[0]}" for entry in entries)
    return Finding("rights", True, f"{folder} is written by {who} only")
