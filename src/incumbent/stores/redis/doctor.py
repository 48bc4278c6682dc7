"""What `incumbent doctor` looks at here: the server, its replicas, its memory, and our rights."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from incumbent.errors import StoreError
from incumbent.stores.api import Finding, unreached
from incumbent.stores.redis.client import CLOSE_S, Client, Refusal, facts

__all__ = ["examine", "replicated"]

_LIMIT_S = 5.0


def replicated(told: Mapping[str, str]) -> str:
    """Return why another server may follow this one, or ""."""
    if told.get("cluster_enabled") == "1":
        return "is a node of a Redis Cluster"
    count = told.get("connected_slaves", "0")
    return "" if count == "0" else f"has {count} replica{'s' * (count != '1')}"


async def examine(client: Client, channel: str) -> list[Finding]:
    """Return the findings."""
    name = client.address.name
    try:
        told = facts(await client.ask("INFO"))
    except StoreError as error:
        return [unreached(error)]
    server = "Valkey" if "valkey_version" in told else "Redis"
    version = told.get("valkey_version") or told.get("redis_version", "")
    return [
        Finding("reachable", True, f"{name} answers"),
        Finding("version", True, f"{server} {version}"),
        _replicas(told),
        _memory(told),
        _restart(told),
        _encryption(client),
        await _subscribing(client, channel),
    ]


def _replicas(told: Mapping[str, str]) -> Finding:
    why = replicated(told)
    if not why:
        return Finding("replicas", True, "none: nothing can be promoted in its place")
    text = f"it {why}: one that is promoted while the old primary still answers makes two leaders"
    return Finding("replicas", False, text, "fence, or use a server without replicas")


def _memory(told: Mapping[str, str]) -> Finding:
    limit, policy = told.get("maxmemory", "0"), told.get("maxmemory_policy", "noeviction")
    if limit != "0" and policy.startswith("allkeys"):
        text = f"maxmemory-policy is {policy}: an eviction of our key ends all terms"
        return Finding("memory", False, text, "maxmemory-policy noeviction or volatile-…")
    return Finding("memory", True, f"maxmemory-policy {policy}: our key is never evicted")


def _restart(told: Mapping[str, str]) -> Finding:
    kept = told.get("aof_enabled") == "1"
    text = "a restart ends all terms, whatever it kept; elections go on after one TTL"
    if not kept:
        text += ". Nothing is kept: tokens then go on from the server's wall clock"
    return Finding("restart", True, text)


def _encryption(client: Client) -> Finding:
    address = client.address
    if address.tls is not None or address.socket:
        return Finding("encryption", True, "TLS" if address.tls is not None else "a local socket")
    local = address.host in ("localhost", "127.0.0.1", "::1")
    text = "none: whoever reads the network can pose as a leader"
    return Finding("encryption", True if local else None, text, "" if local else "use rediss://")


async def _subscribing(client: Client, channel: str) -> Finding:
    line = client.line()
    try:
        async with asyncio.timeout(_LIMIT_S):
            await line.connect()
            await line.send("SUBSCRIBE", f"{channel}doctor")
            await line.receive()
    except (StoreError, TimeoutError) as error:
        fix = f"grant +subscribe and the channels: &{channel}*"
        known = isinstance(error, Refusal)
        return Finding("notifications", False if known else None, str(error), fix)
    finally:
        await line.close(wait_s=CLOSE_S)
    return Finding("notifications", True, "standbys may subscribe")
