"""`tokens_from=N`: what the store reports has other tokens, and what stands in it has not."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

import incumbent
from incumbent.core.records import Bar, StepDownRequest
from incumbent.errors import ConfigError
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.shifted import GREATEST, Shifted
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate
from tests.servers.etcd import Etcd
from tests.servers.kubernetes import ApiServer

SHIFT = 5_000_000


class Harness:
    """A store with the option."""

    ttl_s = 5.0

    def __init__(self, url: str) -> None:
        self._url = url
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(self._url)
        assert isinstance(store, Shifted)
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        return False

    async def scribble(self, name: str) -> bool:
        return False

    async def disturb(self, name: str) -> bool:
        return False

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
@pytest.mark.parametrize("scheme", ["file", "sqlite"])
def test_it_is_a_store(scheme: str, case: conformance.Case, tmp_path: Path) -> None:
    url = f"{scheme}://{tmp_path}/store?tokens_from={SHIFT}"
    conformance.run(case, lambda: Harness(url))


def test_what_stands_in_etcd_has_its_own_tokens(etcd: Etcd) -> None:
    asyncio.run(_compared(f"etcd://{etcd.address}/shifted?tls=0"))


def test_what_stands_in_a_lease_has_its_own_tokens(api_server: ApiServer, namespace: str) -> None:
    asyncio.run(_compared(f"kubernetes://{namespace}?kubeconfig={api_server.kubeconfig()}"))


async def _compared(url: str) -> None:
    """Look after each of the verbs that may write a token down."""
    shifted = Harness(f"{url}&tokens_from={SHIFT}")
    raw = open_store(url)
    await raw.open()
    a = await Candidate.new(shifted, "a_1")
    name = shifted.name()

    async def compare() -> None:
        seen, stands = await a.read(name), await raw.read(name)
        assert seen.watched == stands.watched
        assert seen.serial == stands.serial
        assert (seen.token is None) == (stands.token is None)
        if seen.token is not None and stands.token is not None:
            assert seen.token == stands.token + SHIFT

    held = await a.take(name)
    await compare()
    await a.renew(name)
    await compare()
    assert held.token is not None
    await a.store.ask(name, StepDownRequest(held.term))
    await compare()
    await a.renew(name)
    await compare()
    left = await a.store.bar(held.snapshot, Bar("x", "1"))
    await compare()
    left = await a.store.bar(left, Bar("x", "2"))
    await compare()
    assert left.token == held.token
    await a.store.unbar(left)
    await compare()
    again = await a.take(name)
    assert again.token is not None
    assert SHIFT < held.token < again.token
    await a.release(again)
    await compare()
    await raw.close()
    await shifted.close()


def test_a_term_has_the_token_of_its_url(tmp_path: Path) -> None:
    """Also where a candidate with another number is in the same process, on the same file."""
    url = f"sqlite://{tmp_path}/x.db"
    one = incumbent.Election("one", store=f"{url}?tokens_from={SHIFT}", ttl_s=5)
    two = incumbent.Election("two", store=url, ttl_s=5)
    with one.hold() as first, two.hold() as second:
        assert first.token is not None
        assert second.token is not None
        assert 0 < first.token - SHIFT < second.token < first.token
        assert first.fence("x") is not None


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "٣", str(GREATEST + 1)])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"tokens_from|cannot be read"):
        open_store(f"memory://x?tokens_from={text}")


def test_no_shift_is_no_wrapper() -> None:
    assert not isinstance(open_store("memory://x?tokens_from=0"), Shifted)
    assert open_store("memory://x?tokens_from=7").url == "memory://x?tokens_from=7"
