"""Each cell of each store's capabilities, tried on the real server.

A cell has a check, and a check is given what the store declares: it fails if that is not so. A cell
without a check, and a text that no check knows, fail as well. No store is left out of a check: one
that is declared not to have something is shown not to have it. `LIES` are declarations that are not
true; the checks must find each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from importlib import import_module
from typing import Any

import pytest

from incumbent.cli.app import main as command_line
from incumbent.core.records import Bar, Holding, Lease, Snapshot
from incumbent.core.timing import Timing
from incumbent.errors import (
    CheckpointMoved,
    ConfigError,
    ImpossibleTiming,
    Refused,
    StoreError,
    StoreUnusable,
)
from incumbent.runtime.settings import Settings
from incumbent.stores import open_store
from incumbent.stores.api import ON_ONE_HOST, Capabilities, Fault, Grade
from incumbent.stores.local.store import LocalStore
from incumbent.stores.sql import LOOKS_PER_TTL
from incumbent.testing.conformance.kit import Candidate, Watch
from tests.faces.programs import starting, until
from tests.faults.stores import ADAPTERS
from tests.servers.proxy import Proxy
from tests.stores.candidate import Event, Recorder, candidate
from tests.stores.local import HOLD, Sights
from tests.stores.subjects import SUBJECTS, InFiles, Served, Subject, eventually, make

LIMIT_S = 60.0
FAR_S = 30.0
"""Later than now and earlier than the subject's TTL, by so much that nobody can mistake the two."""

Check = Callable[[Subject, Capabilities], Awaitable[None]]


def declared(subject: Subject) -> Capabilities:
    return open_store(subject.url()).capabilities


async def a_candidate(subject: Subject, identity: str, address: str = "") -> Candidate:
    return Candidate(subject, await subject.store(address=address), identity)


def at(version: object) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.lease_version == version


async def seen_anew(a: Candidate, b: Candidate, name: str) -> None:
    """Renew, and have the other one read that it was."""
    before = await b.read(name)
    await a.renew(name)
    assert (await b.read(name)).lease_version != before.lease_version


# -- who renews, and what confirms it -------------------------------------------------------------


async def sessions(subject: Subject, can: Capabilities) -> None:
    """One renewal moves what is watched of all elections of a process; their records stand."""
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    names = [subject.name() for _ in range(5)]
    for name in names:
        await a.take(name)
    before = [await b.read(name) for name in names]
    await a.renew(names[0])
    after = [await b.read(name) for name in names]
    moved = [x.watched != y.watched for x, y in zip(before, after, strict=True)]
    assert moved == [True] + [can.sessions] * 4
    if can.sessions:
        assert [s.version for s in after] == [s.version for s in before]
    else:
        with pytest.raises(StoreError, match="has no sessions"):
            await a.store.open_session("a_1", subject.ttl_s)


RENEWALS = {
    "an assignment": [],
    "a committed transaction": [],
    "a rename under a kernel lock": [],
    "a PUT of the ConfigMap at its resourceVersion": ["update"],
    "a PUT of the EndpointSlice at its resourceVersion": ["update"],
    "a PUT of the Lease at its resourceVersion": ["update"],
    "a PUT of the session's Lease at its resourceVersion": ["update"],
    "a committed UPDATE of the session's row": ["UPDATE incumbent_session"],
    "a script that compares and writes, on the primary": ["EVALSHA"],
    "a transaction at the session's known ModifyIndex: one raft entry": ["PUT txn cas"],
    "a transaction at the session's known version, logged by a majority": ["14"],
    "a transaction that rewrites the session's key at its mod_revision": ["kv/txn if put"],
}
"""What a renewal says on the wire, by what is declared to confirm it."""


async def confirmed_by(subject: Subject, can: Capabilities) -> None:
    """That call and no other is what a renewal is, and nothing is confirmed before its answer."""
    wanted = RENEWALS[can.confirmed_by]
    if isinstance(subject, Served):
        assert wanted
        with subject.proxy() as proxy:
            await _confirmed_on_the_wire(subject, proxy, wanted)
        return
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    name = subject.name()
    held = await a.take(name)
    await a.read(name)
    assert (await b.read(name)).watched == held.snapshot.watched, "a read confirms nothing"
    if isinstance(subject, InFiles):
        assert can.confirmed_by in ("a committed transaction", "a rename under a kernel lock")
        files = list(subject.place.path.glob("sessions/*.json"))
        inodes = [file.stat().st_ino for file in files]
        with subject.place.busy():
            renewing = asyncio.ensure_future(a.renew(name))
            for _ in range(20):
                assert (await b.read(name)).watched == held.snapshot.watched
            assert not renewing.done(), "confirmed while nobody could write"
        await renewing
        renamed = bool(files) and [file.stat().st_ino for file in files] != inodes
        assert renamed == ("rename" in can.confirmed_by)
        assert (await b.read(name)).watched != held.snapshot.watched
    else:
        assert can.confirmed_by == "an assignment"
        await seen_anew(a, b, name)


async def _confirmed_on_the_wire(subject: Served, proxy: Proxy, wanted: list[str]) -> None:
    a, b = await a_candidate(subject, "a_1", proxy.address), await a_candidate(subject, "b_2")
    name = subject.name()
    held = await a.take(name)
    await a.renew(name)
    held = replace(held, snapshot=await b.read(name))
    await a.store.connect()
    await a.read(name)
    assert (await b.read(name)).watched == held.snapshot.watched, "a read confirms nothing"
    await asyncio.to_thread(subject.begin, proxy)
    await a.renew(name)
    assert await asyncio.to_thread(subject.calls, proxy) == wanted
    seen = await b.read(name)
    assert seen.watched != held.snapshot.watched
    await asyncio.to_thread(proxy.record)
    await asyncio.to_thread(proxy.hold_requests)
    renewing = asyncio.ensure_future(a.renew(name))
    await asyncio.to_thread(eventually, lambda: proxy.recorded()[0])
    assert (await b.read(name)).watched == seen.watched
    assert not renewing.done(), "confirmed before anybody was asked"
    await asyncio.to_thread(proxy.heal)
    await renewing
    assert (await b.read(name)).watched != seen.watched


# -- the token, and the grade ---------------------------------------------------------------------


async def token(subject: Subject, can: Capabilities) -> None:
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    name = subject.name()
    tokens = []
    for taker in (a, b):
        held = await taker.take(name)
        tokens.append(held.token)
        await taker.renew(name)
        assert (await b.read(name)).token == held.token
        await taker.release(held)
    tokens.append((await b.take(name)).token)
    tokens.append((await a.take(name)).token)
    await subject.delete(name)
    tokens.append((await (await a_candidate(subject, "c_3")).take(name)).token)
    numbers = [number for number in tokens if number is not None]
    assert bool(numbers) == can.token
    assert numbers == sorted(set(numbers))
    assert len(numbers) == len(tokens) * can.token


async def grade(subject: Subject, can: Capabilities) -> None:
    """What is promised may be demanded, and nothing else."""
    assert can.token or can.grade is not Grade.EXCLUSIVE_WITH_FENCING
    exclusive = can.grade is not Grade.EFFICIENCY_ONLY and not can.one_process
    met = True
    try:
        Settings.resolve("e", store=subject.url(), require="exclusive", armed=True, isolated=True)
    except ConfigError:
        met = False
    assert met == exclusive


async def assumes(subject: Subject, can: Capabilities) -> None:
    """It is text for people; what there is to say is that somebody can read it where it counts."""
    assert can.assumes == declared(subject).assumes
    done = Settings.resolve("e", store=subject.url())
    assert len(done.store.capabilities.assumes) > 20


# -- who judges, and what an absence says ---------------------------------------------------------


async def judged_by(subject: Subject, can: Capabilities) -> None:
    """Long after the TTL the store still says what it said; who watched may take exactly that."""
    assert can.judged_by == "observers", "no store here has a server that judges"
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    name = subject.name()
    ttl_s = 1.0 if can.whole_seconds else 0.2
    held = await a.take(name, ttl_s=ttl_s)
    assert not await asyncio.to_thread(subject.expires, name, held.lease.key)
    watched = await b.read(name)
    await asyncio.sleep(3 * ttl_s)  # sleep: that nothing happens has no event
    seen = await b.read(name)
    assert (seen.holding, seen.watched) == (Holding.HELD, watched.watched)
    assert (await b.take(name, watched)).term != held.term


async def absent_is_vacant(subject: Subject, can: Capabilities) -> None:
    """A candidate for what never was begins at once, or waits; for what is known it waits."""
    timing = Timing.plan(subject.ttl_s)
    name = subject.name()
    ours = candidate(await subject.store(), name, "a_1", timing)
    first = await _begun_or_waiting(ours)
    assert (first["event"] == "begun") == can.absent_is_vacant
    if not can.absent_is_vacant:
        assert first["holding"] is Holding.ABSENT
        assert first["until"] - first["at"] > FAR_S
        return
    await subject.delete(name)
    newcomer = await subject.store()
    if (await newcomer.read(name)).ttl_s:  # It is there, or the store knows that it was.
        other = candidate(newcomer, name, "b_2", timing)
        waiting = await other.until("waiting", LIMIT_S)
        assert waiting["until"] - waiting["at"] > FAR_S


async def _begun_or_waiting(recorder: Recorder) -> Event:
    kinds = ("begun", "waiting")
    tasks = [asyncio.ensure_future(recorder.until(kind, LIMIT_S)) for kind in kinds]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    return done.pop().result()


async def whole_seconds(subject: Subject, can: Capabilities) -> None:
    if can.whole_seconds:
        with pytest.raises(ImpossibleTiming, match="whole seconds"):
            Settings.resolve("e", store=subject.url(), ttl_s=7.5)
        Settings.resolve("e", store=subject.url(), ttl_s=7.0)
        return
    Settings.resolve("e", store=subject.url(), ttl_s=7.5)
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    name = subject.name()
    await a.take(name, ttl_s=7.5)
    assert (await b.read(name)).ttl_s == 7.5


async def label_names(subject: Subject, can: Capabilities) -> None:
    """A name with a dot, of 64 characters, is one of an election, or it is refused."""
    a = await a_candidate(subject, "a_1")
    name = f"{subject.name()}."
    refused = False
    try:
        await a.take(name + "x" * (64 - len(name)))
    except ConfigError:
        refused = True
    assert refused == can.label_names


async def unseen_ttls(subject: Subject, can: Capabilities) -> None:
    """Who is notified sees a renewal at once; `wakes_by` tries which it is."""
    polls = can.wakes_by.startswith("a query several times a TTL")
    assert can.unseen_ttls == (1 / LOOKS_PER_TTL if polls else 0)


async def takeover_trips(subject: Subject, can: Capabilities) -> None:
    """Beside the take a renewal's notification is one, and a question that is asked anew another.

    That the sum is enough is measured: `python -m benchmarks --only crash`.
    """
    asks = can.unseen_ttls > 0 or can.wakes_by == "a blocking query"
    assert can.takeover_trips == (3 if asks else 2)


# -- where candidates are, and what they hear -----------------------------------------------------


async def one_host(subject: Subject, can: Capabilities) -> None:
    """A store of many hosts is reached over networks, one of one host names none."""
    assert isinstance(subject, Served) != can.one_host
    if not isinstance(subject, Served):
        if not can.one_process:
            with pytest.raises(ConfigError):
                open_store(f"{can.scheme}://another-host/var/lib/incumbent")
        return
    with subject.proxy() as one, subject.proxy() as other:
        a = await a_candidate(subject, "a_1", one.address)
        b = await a_candidate(subject, "b_2", other.address)
        name = subject.name()
        held = await a.take(name)
        assert (await b.read(name)).term == held.term


async def one_process(subject: Subject, can: Capabilities) -> None:
    words = ["run", "e", "--store", subject.url(), "--", "/no/such/command"]
    assert await asyncio.to_thread(command_line, words) == (2 if can.one_process else 127)


PUSHES = {
    "LISTEN on a direct connection; behind a pooler, a query several times a TTL": True,
    "a blocking query": True,
    "a call": True,
    "a query several times a TTL, one for all elections": False,
    "a watch": True,
    "a watch, and a read after 20 s of silence": True,
    "inotify on a bell file": True,
    "inotify on the folders": True,
    "publish and subscribe; a read every 5 s": True,
}
"""Whether a standby hears of a change without having asked, by what is declared to wake it."""


async def wakes_by(subject: Subject, can: Capabilities) -> None:
    pushes = PUSHES[can.wakes_by] and not subject.pooled
    name = subject.name()
    a = await a_candidate(subject, "a_1")
    held = await a.take(name)
    if isinstance(subject, Served):
        with subject.proxy() as proxy:
            standby = await subject.store(address=proxy.address)
            with Watch(standby, name) as watch:
                await watch.until(lambda s: s.term == held.term, "the holder")
                await _heard_over(subject, proxy, watch, a, name, pushes=pushes)
        return
    standby = await subject.store()
    if isinstance(standby, LocalStore):
        assert can.wakes_by.startswith("inotify")
        await _heard_by_inotify(standby, a, name)
        return
    assert can.wakes_by == "a call"
    with Watch(standby, name) as watch:
        lease = await a.renew(name)
        assert watch.seen[-1].lease_version == lease.version


async def _heard_over(
    subject: Served, proxy: Proxy, watch: Watch, a: Candidate, name: str, *, pushes: bool
) -> None:
    """Let the standby's requests wait on their way, and see what it hears meanwhile."""
    lease = await a.renew(name)
    await watch.until(at(lease.version), "a renewal, so that it follows by now")
    await asyncio.to_thread(proxy.record)
    await asyncio.to_thread(proxy.hold_requests)
    if not pushes:
        # It looks again, so what it asked before was answered before.
        await asyncio.to_thread(eventually, lambda: proxy.recorded()[0])
        lease = await a.renew(name)
        assert (await a.read(name)).lease_version == lease.version
        assert watch.seen[-1].lease_version != lease.version, "heard without having asked"
        await asyncio.to_thread(proxy.heal)
    elif subject.speaks:
        lease = await a.renew(name)
        hint = subject.speaks.encode()
        await asyncio.to_thread(eventually, lambda: hint in proxy.recorded()[1])
        await asyncio.to_thread(proxy.heal)
    else:
        lease = await a.renew(name)
    await watch.until(at(lease.version), "the renewal")
    await asyncio.to_thread(proxy.heal)


async def _heard_by_inotify(standby: LocalStore[Any], a: Candidate, name: str) -> None:
    inotify = standby._inotify
    assert inotify is not None
    sink = Sights()
    standby.follow(name, sink)
    await asyncio.to_thread(until, lambda: bool(sink.seen), "what is now")
    noticed: list[object] = []
    real = inotify.read

    def deaf() -> Any:
        noticed.extend(real())
        return iter(())

    inotify.read = deaf  # type: ignore[method-assign]

    async def unheard() -> Lease:
        noticed.clear()
        lease = await a.renew(name)
        await asyncio.to_thread(until, lambda: bool(noticed), "the kernel's word")
        await asyncio.to_thread(until, lambda: standby._refreshing is None, "the end of a look")
        return lease

    await unheard()  # So that whatever began before it was deaf is over.
    lease = await unheard()
    assert sink.seen[-1].lease_version != lease.version, "heard without inotify"
    inotify.read = real  # type: ignore[method-assign]
    lease = await a.renew(name)
    await asyncio.to_thread(
        until, lambda: sink.seen[-1].lease_version == lease.version, "the renewal"
    )
    standby.unfollow(name, sink)


# -- what happens to holders ----------------------------------------------------------------------


async def evidence(subject: Subject, can: Capabilities) -> None:
    """A holder is killed: that is proved, or else only its silence is seen."""
    sink = Sights()
    standby = await subject.store()
    if isinstance(subject, InFiles):
        programs = starting()
        try:
            program = next(programs)(HOLD.format(body="pass"), subject.url(), "60")
            while not (await asyncio.to_thread(program.line)).startswith("holds"):
                continue
            standby.follow("e", sink)
            await asyncio.to_thread(until, lambda: bool(sink.seen), "the holder")
            assert not sink.evidence
            program.process.kill()
            await asyncio.to_thread(program.wait)
            await asyncio.to_thread(until, lambda: bool(sink.evidence), "the evidence")
            assert "kernel" in can.evidence
            assert sink.evidence[-1].lease_key == sink.seen[-1].lease_key
        finally:
            for _ in programs:  # What comes after its yield ends what it has started.
                pass
        return
    assert can.evidence == ""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(subject.proxy()) if isinstance(subject, Served) else None
        a = await a_candidate(subject, "a_1", proxy.address if proxy else "")
        b = await a_candidate(subject, "b_2")
        name = subject.name()
        held = await a.take(name)
        assert not a.store.inherited_fds(held.lease)
        standby.follow(name, sink)
        watch = stack.enter_context(Watch(standby, name))
        await watch.until(lambda s: s.term == held.term, "the holder")
        if proxy is not None:
            await asyncio.to_thread(
                proxy.refuse
            )  # What a server sees of a death: its connections end.
        later = await b.take(name)
        await watch.until(lambda s: s.term == later.term, "what came later")
    assert not sink.evidence


RUNS = {
    Fault.HOLDER_KILLED: ("kill",),
    Fault.HOLDER_PAUSED: ("stop", "freeze"),
    Fault.NETWORK_CUT: ("cut", "drop-replies"),
    Fault.SERVER_PAUSED: ("server-pause",),
    Fault.SERVER_RESTARTED: ("server-restart",),
    Fault.CONNECTION_KILLED: ("end-connections",),
}
"""What the fault suite calls them."""

TESTS = {
    ("consul", Fault.SERVER_ISOLATED): (
        "test_consul_cluster",
        "test_the_work_has_stopped_before_another_takes_over_where_the_quorum_is",
    ),
    ("etcd", Fault.SERVER_ISOLATED): (
        "test_etcd",
        "test_a_member_without_its_peers_confirms_nothing",
    ),
    ("zookeeper", Fault.SERVER_ISOLATED): (
        "test_zookeeper",
        "test_a_holder_whose_server_is_cut_off_is_not_confirmed_and_is_taken_over",
    ),
    ("redis", Fault.SERVER_EMPTIED): (
        "test_redis_worlds",
        "test_what_was_held_and_watched_is_refused",
    ),
}
"""The test of a fault that only some stores survive."""


async def survives(subject: Subject, can: Capabilities) -> None:
    """Each is a run of the fault suite, a named test, or tried here."""
    if can.one_process:
        assert subject.scheme not in ADAPTERS
        assert can.survives == frozenset(), "it ends with its process"
        return
    runs = set(ADAPTERS[subject.scheme].faults)
    for fault, names in RUNS.items():
        assert (fault in can.survives) == (set(names) <= runs), fault
    for fault in (Fault.SERVER_ISOLATED, Fault.SERVER_EMPTIED):
        test = TESTS.get((subject.scheme, fault))
        assert (fault in can.survives) == (test is not None), fault
        if test is not None:
            module, function = test
            assert callable(getattr(import_module(f"tests.stores.{module}"), function))
    assert Fault.REPLICA_PROMOTED not in can.survives, "nobody is told of a lagging replica"
    assert (Fault.CONNECTION_KILLED in can.survives) == isinstance(subject, Served)
    if not isinstance(subject, Served):
        assert can.survives == ON_ONE_HOST
        return
    with subject.proxy() as proxy:
        a = await a_candidate(subject, "a_1", proxy.address)
        b = await a_candidate(subject, "b_2")
        name = subject.name()
        held = await a.take(name)
        for _ in range(3):
            before = await b.read(name)
            await asyncio.to_thread(proxy.reset)
            async with asyncio.timeout(LIMIT_S):
                while (await b.read(name)).watched == before.watched:
                    with contextlib.suppress(StoreError):
                        await a.renew(name)
        assert (await b.read(name)).term == held.term


async def scheme(subject: Subject, can: Capabilities) -> None:
    store = open_store(subject.url())
    assert store.capabilities.scheme == can.scheme == subject.scheme
    assert store.url.startswith(f"{can.scheme}://")


async def renews(subject: Subject, can: Capabilities) -> None:
    """A renewal is confirmed, and is seen."""
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    name = subject.name()
    await a.take(name)
    before = await b.read(name)
    await a.renew(name)
    assert ((await b.read(name)).lease_version != before.lease_version) == can.renews


async def bars(subject: Subject, can: Capabilities) -> None:
    """Nobody takes what is barred, until that is lifted; or it says that it cannot be."""
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    name = subject.name()
    held = await a.take(name)
    if not can.bars:
        with pytest.raises(StoreError, match="cannot bar"):
            await a.store.bar(held.snapshot, Bar("moved", "1"))
        return
    left = await a.store.bar(held.snapshot, Bar("moved", "1"))
    with pytest.raises(Refused):
        await b.take(name)
    await b.store.unbar(left)
    await b.take(name)


async def checkpoints(subject: Subject, can: Capabilities) -> None:
    """What one notes, another one reads, and a late write of the first is refused."""
    one, other = await subject.store(), await subject.store()
    name = subject.name()
    if not can.checkpoints:
        with pytest.raises(StoreUnusable, match="keeps no checkpoints"):
            await one.checkpoint(name, "part")
        return
    nothing = await one.checkpoint(name, "part")
    first = await one.advance(nothing, b"first", 1)
    second = await other.advance(first, b"second", 2)
    for late in (nothing, first):
        with pytest.raises(CheckpointMoved) as told:
            await one.advance(late, b"late", 1)
        assert told.value.checkpoint == second
    assert await one.checkpoint(name, "part") == second


async def queue(subject: Subject, can: Capabilities) -> None:
    """A take that is refused leaves nothing behind, so that whoever comes next is not behind it.

    The stores that have queues are those of `test_queues`.
    """
    a, b = await a_candidate(subject, "a_1"), await a_candidate(subject, "b_2")
    name = subject.name()
    nothing = await b.read(name)
    held = await a.take(name)
    with pytest.raises(StoreError):
        await b.take(name, nothing)
    seen = await a.release(held)
    assert (seen.holder == b.identity) == can.queue


async def reads(subject: Subject, can: Capabilities) -> None:
    """Who only looks is told who holds."""
    a = await a_candidate(subject, "a_1")
    name = subject.name()
    held = await a.take(name)
    looker = await subject.store(create=False)
    assert ((await looker.read(name)).term == held.term) == can.reads


async def partner(subject: Subject, can: Capabilities) -> None:
    """The format is our own. Those of others are tried beside their members, in tests/partners."""
    assert can.partner == ""


async def partner_breaks(subject: Subject, can: Capabilities) -> None:
    """Where nobody else is, nobody else breaks anything."""
    assert can.partner_breaks == ""


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        absent_is_vacant,
        assumes,
        bars,
        checkpoints,
        confirmed_by,
        evidence,
        grade,
        judged_by,
        label_names,
        one_host,
        one_process,
        partner,
        partner_breaks,
        queue,
        reads,
        renews,
        scheme,
        sessions,
        survives,
        takeover_trips,
        token,
        unseen_ttls,
        wakes_by,
        whole_seconds,
    )
}


def carry_out(check: Check, subject: Subject, can: Capabilities) -> None:
    async def main() -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                await check(subject, can)
        finally:
            await subject.close()

    asyncio.run(main())


def test_no_cell_is_without_a_check() -> None:
    assert CHECKS.keys() == {cell.name for cell in fields(Capabilities)}


@pytest.mark.parametrize("cell", CHECKS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_the_cell_is_true(name: str, cell: str, request: pytest.FixtureRequest) -> None:
    subject = make(request, name)
    carry_out(CHECKS[cell], subject, declared(subject))


LIES: list[tuple[str, str, object]] = [
    ("memory", "absent_is_vacant", False),
    ("memory", "assumes", "that nothing ever happens"),
    ("memory", "bars", False),
    ("memory", "checkpoints", False),
    ("memory", "confirmed_by", "a committed transaction"),
    ("sqlite", "confirmed_by", "a rename under a kernel lock"),
    ("redis", "confirmed_by", "a transaction that rewrites the session's key at its mod_revision"),
    ("memory", "evidence", "a kernel file lock that the holder's process tree inherits"),
    ("file", "evidence", ""),
    ("redis", "grade", Grade.EFFICIENCY_ONLY),
    ("redis, replicas accepted", "grade", Grade.EXCLUSIVE_WITH_FENCING),
    ("memory", "judged_by", "server"),
    ("redis", "one_host", True),
    ("sqlite", "one_host", False),
    ("sqlite", "one_process", True),
    ("memory", "one_process", False),
    ("memory", "label_names", True),
    ("memory", "partner", "Camel"),
    ("memory", "partner_breaks", "everything"),
    ("memory", "queue", True),
    ("memory", "reads", False),
    ("memory", "renews", False),
    ("memory", "scheme", "remembering"),
    ("sqlite", "sessions", False),
    ("sqlite", "survives", ON_ONE_HOST | {Fault.SERVER_ISOLATED}),
    ("redis", "survives", ON_ONE_HOST),
    ("sqlite", "token", False),
    ("memory", "wakes_by", "inotify on a bell file"),
    ("mysql", "wakes_by", "a watch"),
    ("sqlite", "whole_seconds", True),
    ("mysql", "unseen_ttls", 0.0),
    ("redis", "takeover_trips", 1),
]


def test_a_lie_is_told_of_each_cell() -> None:
    assert {cell for _, cell, _ in LIES} == CHECKS.keys()


@pytest.mark.parametrize(("name", "cell", "lie"), LIES)
def test_a_lie_is_found(name: str, cell: str, lie: object, request: pytest.FixtureRequest) -> None:
    subject = make(request, name)
    can = declared(subject)
    assert getattr(can, cell) != lie
    changes: dict[str, Any] = {cell: lie}
    with pytest.raises((AssertionError, TimeoutError, pytest.fail.Exception)):
        carry_out(CHECKS[cell], subject, replace(can, **changes))
