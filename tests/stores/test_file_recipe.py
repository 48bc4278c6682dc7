"""The lock of `flock` as a store: the suite for all stores, and its own rules."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from incumbent.core.records import Holding
from incumbent.errors import ConfigError, StoreUnusable
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.beside import wire
from incumbent.stores.file.recipe import COUNT, RECORD
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.faces.programs import until
from tests.stores.beside_kit import is_theirs, refused, two

TTL_S = 2.0


class Harness:
    """A folder of its own for each case."""

    ttl_s = TTL_S

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    def file(self, name: str, end: str = "") -> Path:
        return self.folder / f"{name}.lock{end}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(f"file://{self.folder}?recipe=flock&lock={{name}}.lock")
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self.file(name, RECORD).unlink()
        self.file(name).unlink()
        return True

    async def scribble(self, name: str) -> bool:
        self._write(name, {"format": 999})
        return True

    async def disturb(self, name: str) -> bool:
        record = json.loads(self.file(name, RECORD).read_bytes())
        count = self.file(name, COUNT)
        serial, ttl_s = count.read_text().split()
        count.write_text(f"{int(serial) + 1:020d} {ttl_s}\n")
        self._write(name, {**record, "serial": int(serial) + 1, "note": secrets.token_hex(4)})
        return True

    def _write(self, name: str, record: wire.Object) -> None:
        new = self.folder / "written by hand"
        new.write_bytes(wire.encode(record))
        new.rename(self.file(name, RECORD))

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, tmp_path: Path) -> None:
    conformance.run(case, lambda: Harness(tmp_path))


# -- its own rules --------------------------------------------------------------------------------


def flock(file: Path, *command: str) -> int:
    """Run `flock -n`; 1 says that it found the file locked."""
    return subprocess.run(["flock", "-n", file, *command], check=False).returncode


def test_the_command_finds_our_lock_and_we_find_its(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(Harness(tmp_path)) as (harness, a, b):
            name = harness.name()
            held = await a.take(name, ttl_s=60.0)
            assert flock(harness.file(name), "true") == 1
            vacant = await a.release(held)
            assert flock(harness.file(name), "true") == 0
            with locked(harness.file(name)):
                assert is_theirs(await b.read(name))
                assert is_theirs(await refused(b.take(name, vacant)))
            await b.take(name)

    asyncio.run(main())


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Have a command hold the lock."""
    words = ["flock", str(file), "sh", "-c", "echo held; read end"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as command:
        assert command.stdin
        assert command.stdout
        assert command.stdout.readline() == b"held\n"
        yield
        command.stdin.close()
        command.wait()


@contextmanager
def waiting(fd: int) -> Iterator[Callable[[], None]]:
    """Have a child that inherits a descriptor; gives what ends it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[fd]) as child:
        assert child.stdin
        try:
            yield child.stdin.close
        finally:
            child.stdin.close()


def unlock(fd: int) -> None:
    subprocess.run(["flock", "-u", str(fd)], check=True, pass_fds=[fd])


def test_a_free_lock_ends_the_term_only_on_the_file_that_it_had(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(Harness(tmp_path)) as (harness, a, b):
            name = harness.name()
            held = await a.take(name, ttl_s=60.0)
            file = harness.file(name)
            file.unlink()
            file.touch()
            seen = await b.read(name)
            assert (seen.holding, seen.term) == (Holding.HELD, held.term), "it may be alive"
            assert (await refused(a.renew(name))).term == held.term
            later = await b.take(name, seen)
            assert (later.token or 0) > (held.token or 0)
            assert flock(file, "true") == 1

    asyncio.run(main())


def test_a_child_that_inherited_the_lock_keeps_it(tmp_path: Path) -> None:
    """A term that lapses is no end of its work: only a release is."""

    async def main() -> None:
        async with two(Harness(tmp_path)) as (harness, a, b):
            name = harness.name()
            held = await a.take(name, ttl_s=2.0)
            (fd,) = a.store.inherited_fds(held.lease)
            with waiting(fd) as end:
                let_go = partial(a.store.inherited_fds, held.lease)
                await asyncio.to_thread(until, lambda: not let_go(), "the lapse")
                seen = await b.read(name)
                assert (seen.holding, seen.term) == (Holding.HELD, held.term)
                assert (await refused(b.take(name, seen))).term == held.term
                with Watch(b.store, name) as watch:
                    await watch.until(lambda s: s.term == held.term, "the holder")
                    end()
                    await watch.until(lambda s: s.holding is Holding.VACANT, "the end of the child")

    asyncio.run(main())


def test_a_release_unlocks_for_all_who_inherited_the_lock(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(Harness(tmp_path)) as (harness, a, b):
            name = harness.name()
            held = await a.take(name, ttl_s=60.0)
            (fd,) = a.store.inherited_fds(held.lease)
            with waiting(fd):
                await a.release(held)
                await b.take(name)

    asyncio.run(main())


def test_a_lock_that_somebody_gave_up_for_us_refuses_the_renewal(tmp_path: Path) -> None:
    """`flock -u` on an inherited descriptor: the open file is ours still, and its lock is not."""

    async def main() -> None:
        async with two(Harness(tmp_path)) as (harness, a, _):
            for taken in (False, True):
                name = harness.name()
                held = await a.take(name, ttl_s=60.0)
                (fd,) = a.store.inherited_fds(held.lease)
                unlock(fd)
                with locked(harness.file(name)) if taken else contextlib.nullcontext():
                    await refused(a.renew(name))

    asyncio.run(main())


def test_a_number_that_somebody_closes_is_not_the_lock(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(Harness(tmp_path)) as (harness, a, _):
            name = harness.name()
            held = await a.take(name, ttl_s=60.0)
            os.close(*a.store.inherited_fds(held.lease))
            assert flock(harness.file(name), "true") == 1
            await a.renew(name)

    asyncio.run(main())


def test_who_is_renewed_does_not_lapse(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(Harness(tmp_path)) as (harness, a, _):
            name = harness.name()
            held = await a.take(name, ttl_s=2.0)
            begun = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < begun + 4.5:
                await a.renew(name)
                await asyncio.sleep(0.1)  # sleep: the lapse is a matter of time
            assert a.store.inherited_fds(held.lease)

    asyncio.run(main())


def test_its_url() -> None:
    store = open_store("file:///var/lib/x?recipe=flock&lock=a-{name}.lock")
    assert store.url == "file:///var/lib/x?recipe=flock&lock=a-%7Bname%7D.lock"
    assert (store.capabilities.partner, store.capabilities.judged_by) == (
        "util-linux flock",
        "kernel",
    )
    with pytest.raises(ConfigError, match="lock= names a file in the folder"):
        open_store("file:///var/lib/x?recipe=flock&lock=a/b")
    with pytest.raises(ConfigError, match="there is no recipe='lockf'"):
        open_store("file:///var/lib/x?recipe=lockf")


def test_one_lock_is_of_one_election(tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store(f"file://{tmp_path}?recipe=flock&lock=only")
        await store.open()
        try:
            assert (await store.read("jobs")).holding is Holding.ABSENT
            with pytest.raises(StoreUnusable, match="lock=only is one lock, and election 'jobs'"):
                await store.read("others")
        finally:
            await store.close()

    asyncio.run(main())
