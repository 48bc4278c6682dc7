"""A renewal waits for no take of the same process, however many are held up on their way.

Whatever a process holds hangs on its session. Hundreds of takes may be due at one instant, when a
holder of many elections has died; the renewal is due among them.
"""

from __future__ import annotations

import asyncio

import pytest

from incumbent.core.records import Claim, Held
from incumbent.errors import Refused
from incumbent.stores.consul import client as consul
from incumbent.stores.etcd import client as etcd
from incumbent.stores.sql import pool
from tests.stores.subjects import Served, eventually, make

LIMIT_S = 20.0
"""A renewal that waits for a take would wait for longer: until the test lets go of it."""
MANY = 40
CARRIED = {
    "consul": consul.POOL_CONNECTIONS,
    "etcd": etcd.POOL_CONNECTIONS,
    "mysql": pool.PLACES,
    "postgresql": pool.PLACES,
    "redis": 1,
}
"""How many connections requests have that are not urgent. ZooKeeper is not among them: its protocol
is one ordered stream. Kubernetes has a test of its own, since what is said there is encrypted."""


@pytest.mark.parametrize("name", CARRIED)
def test_a_renewal_waits_for_no_take(name: str, request: pytest.FixtureRequest) -> None:
    """Nor do two that are due together, under two sessions: a process has one for each TTL."""
    subject = make(request, name)
    assert isinstance(subject, Served)
    assert CARRIED[name] < MANY

    async def main() -> None:
        beginning = subject.name()
        with subject.proxy() as proxy:
            store = await subject.store(address=proxy.address)
            sessions = [await store.open_session(f"a_{n}", subject.ttl_s) for n in range(2)]

            def claim(name: str) -> Claim:
                return Claim("a_0", f"a_0/{name}.1", subject.ttl_s, sessions[0])

            overs = [await store.read(f"{beginning}-{number}") for number in range(MANY)]
            await asyncio.to_thread(proxy.hold_saying, subject.said(f"{beginning}-"))
            takes = [
                asyncio.ensure_future(store.take(over.name, claim(over.name), over))
                for over in overs
            ]
            await asyncio.to_thread(eventually, lambda: proxy.held() == CARRIED[name])
            for _ in range(2):
                async with asyncio.timeout(LIMIT_S):
                    renewed = await asyncio.gather(*map(store.renew, sessions))
                moved = [a.version != b.version for a, b in zip(renewed, sessions, strict=True)]
                assert moved == [True, True]
                sessions = renewed
            assert not any(take.done() for take in takes)
            assert proxy.held() == CARRIED[name], "more requests were sent than there are places"
            await asyncio.to_thread(proxy.heal)
            done = await asyncio.gather(*takes, return_exceptions=True)
            # They may have compared the session as it was when they were begun.
            assert {type(found) for found in done} <= {Held, Refused}
            last = await store.read(subject.name())
            assert (await store.take(last.name, claim(last.name), last)).term
        await subject.close()

    asyncio.run(main())
