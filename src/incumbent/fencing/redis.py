"""Seal and check in Redis: a key with the token, watched until the user's commands are executed.

`WATCH` makes the transaction fail if anybody has written the key in between, a seal included. So
the token that was read is the greatest when the commands are carried out, all of them or none. It
costs two round trips; no script has to be written, and no command is left out of it.

A replica that is promoted may have lost a seal: the token is as safe as the data that it protects,
which lives in the same server.
"""

from __future__ import annotations

from typing import Any

from incumbent.errors import ConfigError

__all__ = ["seal", "seal_async"]

PREFIX = "incumbent:fence:"


def seal(pipeline: Any, resource: str, token: int) -> int:
    """Watch the key, add the seal to the transaction, and return the greatest token seen."""
    key = _key(pipeline, resource)
    pipeline.watch(key)
    highest = _token(key, pipeline.get(key))
    pipeline.multi()
    pipeline.set(key, max(token, highest))
    return highest


async def seal_async(pipeline: Any, resource: str, token: int) -> int:
    """Watch the key, add the seal to the transaction, and return the greatest token seen."""
    key = _key(pipeline, resource)
    await pipeline.watch(key)
    highest = _token(key, await pipeline.get(key))
    pipeline.multi()
    pipeline.set(key, max(token, highest))
    return highest


def _key(pipeline: Any, resource: str) -> str:
    if not all(hasattr(pipeline, name) for name in ("watch", "multi", "execute")):
        kind = type(pipeline)
        raise ConfigError(
            f"a {kind.__module__}.{kind.__qualname__} cannot be fenced: give a pipeline of "
            "redis-py, with transaction=True"
        )
    if len(pipeline):
        raise ConfigError("the pipeline has commands in it already: fence it first")
    return PREFIX + resource


def _token(key: str, told: Any) -> int:
    if told is None:
        return 0
    try:
        return int(told)
    except ValueError:
        raise ConfigError(f"the key {key!r} holds {told!r}, and no token: mend it") from None
