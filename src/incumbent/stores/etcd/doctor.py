"""What `incumbent doctor` looks at here: the member, its peers, its disk quota, and our rights.

The right to write is asked for by a transaction whose condition is never met: etcd looks at the
rights of everything that a transaction might do before it compares anything, and writes nothing.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

from incumbent.errors import OutcomeUnknown, PermissionDenied, StoreError
from incumbent.stores.api import Finding, unreached
from incumbent.stores.etcd import wire
from incumbent.stores.etcd.client import Client, Forgotten
from incumbent.stores.etcd.wire import Object

__all__ = ["examine"]

_SLOW_S = 0.5
_LEAST_VERSION = (3, 4)
_ENOUGH_MEMBERS = 3


async def examine(client: Client, prefix: wire.Prefix, prefix_text: str) -> list[Finding]:
    """Return the findings."""
    loop = asyncio.get_running_loop()
    one_key = prefix.page("", "", 1, 0)
    try:
        await client.ask("/v3/kv/range", one_key)
        began = loop.time()
        await client.ask("/v3/kv/range", one_key)
    except PermissionDenied as error:
        return [Finding("right to read", False, str(error), _grant("read", prefix_text))]
    except StoreError as error:
        found = unreached(error)
        more = f"{found.fix}, and `etcdctl endpoint status --cluster`" if found.fix else ""
        return [replace(found, fix=more)]
    took_s = loop.time() - began
    return [
        Finding("reachable", True, f"{client.at} answers a linearizable read"),
        await _version(client),
        Finding(
            "round trip",
            took_s < _SLOW_S,
            f"{took_s * 1000:.1f} ms",
            "" if took_s < _SLOW_S else "use a longer TTL: a renewal is a write by a quorum",
        ),
        await _members(client),
        await _quota(client),
        await _right_to_write(client, prefix, prefix_text),
    ]


async def _version(client: Client) -> Finding:
    try:
        version = await client.version()
    except (StoreError, Forgotten) as error:
        return Finding("version", None, str(error))
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers >= _LEAST_VERSION:
        return Finding("version", True, f"etcd {version}")
    return Finding("version", False, f"etcd {version}", "use etcd 3.4 or newer")


async def _members(client: Client) -> Finding:
    answer = await _asked(client, "/v3/cluster/member/list")
    if isinstance(answer, str):
        return Finding("members", None, answer)
    count = sum(not member.get("isLearner") for member in answer["members"])
    text = f"{count} voting member" + ("s" if count != 1 else "")
    if count >= _ENOUGH_MEMBERS:
        return Finding("members", True, text)
    return Finding("members", None, f"{text}: none may fail", "run three or five")


async def _quota(client: Client) -> Finding:
    answer = await _asked(client, "/v3/maintenance/alarm")
    if isinstance(answer, str):
        return Finding("alarms", None, answer)
    alarms = sorted({str(alarm["alarm"]) for alarm in answer.get("alarms", ())})
    if not alarms:
        return Finding("alarms", True, "none")
    fix = "see `etcdctl alarm list`; for NOSPACE: compact, defragment, `etcdctl alarm disarm`"
    return Finding("alarms", False, ", ".join(alarms), fix)


async def _right_to_write(client: Client, prefix: wire.Prefix, prefix_text: str) -> Finding:
    check = "right to write"
    try:
        await client.ask("/v3/kv/txn", prefix.never(), "write")
    except PermissionDenied as error:
        return Finding(check, False, str(error), _grant("readwrite", prefix_text))
    except (StoreError, OutcomeUnknown) as error:
        return Finding(check, None, str(error))
    return Finding(check, True, f"may write below {prefix_text}")


async def _asked(client: Client, path: str) -> Object | str:
    """Return the answer, or why there is none: these may be for administrators only."""
    try:
        return await client.ask(path, {})
    except (StoreError, Forgotten) as error:
        return str(error)


def _grant(verb: str, prefix: str) -> str:
    return f"etcdctl role grant-permission ROLE {verb} {prefix} --prefix"
