"""Seal and check in a transaction of a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio

from incumbent.errors import ConfigError, StaleToken
from incumbent.fencing import Fence
from tests.servers.redis import Redis


def fence(token: int, resource: str = "ledger") -> Fence:
    return Fence(resource, token, lambda: None)


@pytest.fixture
def client(redis_server: Redis) -> Iterator[redis.Redis]:
    made = redis_server.client(db=9, decode_responses=True)
    made.flushdb()
    yield made
    made.close()


def write(client: redis.Redis, token: int, value: str) -> None:
    with client.pipeline() as pipeline:
        fence(token).redis(pipeline)
        pipeline.set("state", value)
        pipeline.execute()


def test_a_later_leader_is_let_in_and_an_earlier_one_is_not(client: redis.Redis) -> None:
    write(client, 3, "of 3")
    write(client, 3, "of 3 again")
    write(client, 9, "of 9")
    with pytest.raises(StaleToken, match="has seen token 9, and this term has 3"):
        write(client, 3, "too late")
    assert client.get("state") == "of 9"


def test_a_seal_in_between_undoes_the_whole_transaction(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        fence(1).redis(pipeline)
        write(client, 2, "of 2")
        pipeline.set("state", "of 1")
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert client.get("state") == "of 2"


def test_a_write_of_the_old_leader_in_between_is_seen(client: redis.Redis) -> None:
    """The new one has read, the old one writes once more: the new one's write must not stand."""
    with client.pipeline() as pipeline:
        fence(2).redis(pipeline)
        assert client.get("state") is None
        write(client, 1, "of 1")
        pipeline.set("state", "computed from nothing")
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    write(client, 2, "of 2")
    with pytest.raises(StaleToken):
        write(client, 1, "of 1 again")


def test_asynchronously(redis_server: Redis, client: redis.Redis) -> None:
    async def main() -> None:
        made = redis.asyncio.Redis.from_url(redis_server.url(database=9))
        async with made, made.pipeline() as pipeline:
            await fence(5).redis_async(pipeline)
            pipeline.set("state", "of 5")
            await pipeline.execute()

    asyncio.run(main())
    assert client.get("state") == "of 5"
    with pytest.raises(StaleToken):
        write(client, 4, "of 4")


def test_what_cannot_be_fenced_is_named(client: redis.Redis) -> None:
    with pytest.raises(ConfigError, match="give a pipeline of redis-py"):
        fence(1).redis(client)
    with client.pipeline() as pipeline:
        pipeline.set("state", "before")
        with pytest.raises(ConfigError, match="fence it first"):
            fence(1).redis(pipeline)
    client.set("incumbent:fence:ledger", "moo")
    with client.pipeline() as pipeline, pytest.raises(ConfigError, match="'moo', and no token"):
        fence(1).redis(pipeline)
