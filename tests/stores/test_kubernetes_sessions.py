"""`kubernetes://?session=1` on a real API server: client-go, the other mode, and people's hands."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.errors import (
    ConfigError,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    SessionGone,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.api import Store, StoreURL
from incumbent.stores.kubernetes import KubernetesStore
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.kubernetes.api import Change
from incumbent.stores.kubernetes.client import POOL_CONNECTIONS
from incumbent.stores.kubernetes.sessions import SessionStore, wire
from incumbent.stores.kubernetes.sessions import driver as driver_module
from incumbent.stores.kubernetes.sessions.driver import LeaseKeyValue
from incumbent.stores.kv.meaning import GONE
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate, Watch, refused
from tests.servers.clientgo import ClientGoCandidate
from tests.servers.kubernetes import ApiServer, Rule
from tests.servers.proxy import Proxy
from tests.stores.candidate import candidate, plan
from tests.stores.test_conformance import KubernetesHarness
from tests.stores.test_kubernetes import granted, patch

NAME = "jobs"
LEASE = {"lease_duration_s": 3.0, "renew_deadline_s": 2.0, "retry_period_s": 0.5}
ClientGo = Callable[..., ClientGoCandidate]
Object = dict[str, Any]


class SessionHarness(KubernetesHarness):
    options = "&session=1"


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_it_is_a_store(case: conformance.Case, api_server: ApiServer, namespace: str) -> None:
    conformance.run(case, lambda: SessionHarness(api_server, namespace))


@contextlib.asynccontextmanager
async def opened(
    server: ApiServer, namespace: str, *, proxy: Proxy | None = None, user: str = "admin"
) -> AsyncIterator[SessionStore]:
    url = None if proxy is None else f"https://{proxy.address}"
    kubeconfig = server.kubeconfig(user, url=url, namespace=namespace)
    store = open_kubernetes(StoreURL.parse(f"kubernetes://?session=1&kubeconfig={kubeconfig}"))
    assert isinstance(store, SessionStore)
    assert store.url == f"kubernetes://{namespace}?session=1"
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def plainly_opened(server: ApiServer, namespace: str) -> AsyncIterator[KubernetesStore]:
    kubeconfig = server.kubeconfig(namespace=namespace)
    store = open_kubernetes(StoreURL.parse(f"kubernetes://?kubeconfig={kubeconfig}"))
    assert isinstance(store, KubernetesStore)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def claim(session: Lease | None, identity: str = "a_1") -> Claim:
    return Claim(identity, f"{identity}/{secrets.token_hex(3)}.1", 5.0, session)


async def held_by(store: Store, identity: str = "a_1", name: str = NAME) -> Held:
    """Take what is there, under a session of its own."""
    session = await store.open_session(identity, 5.0)
    return await store.take(name, claim(session, identity), await store.read(name))


def driver_of(store: SessionStore) -> LeaseKeyValue:
    driver = store._driver
    assert isinstance(driver, LeaseKeyValue)
    return driver


async def swept(store: SessionStore) -> None:
    """Wait until what is over was cleared away, which goes on beside."""
    assert store._sweeping is not None
    await store._sweeping


def lease_of(held: Held) -> str:
    return wire.lease_name(f"sessions/{held.lease.key}")


def delete(server: ApiServer, namespace: str, name: str) -> Object:
    """Delete a Lease, and return what it was."""
    obj = server.get_lease(namespace, name)
    server.request("DELETE", server.lease_path(namespace, name))
    return obj


def put_back(server: ApiServer, namespace: str, obj: Object) -> None:
    """Create what was deleted, as `kubectl apply` of a copy does."""
    anew = copy.deepcopy(obj)
    for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        anew["metadata"].pop(key, None)
    server.request("POST", server.lease_path(namespace), anew)


def renewed_as(lease: Lease) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.lease_version == lease.version


def is_(holding: Holding) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.holding is holding


# -- what is written ------------------------------------------------------------------------------


def test_what_a_process_writes(api_server: ApiServer, namespace: str) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as store:
            held = await held_by(store)
            record = api_server.get_lease(namespace, NAME)
            assert record["metadata"]["labels"] == {"incumbent.dev/kind": "election"}
            assert record["metadata"]["annotations"] == {
                "incumbent.dev/format": "session-1",
                "incumbent.dev/term": held.term,
                "incumbent.dev/session": held.lease.key,
                "incumbent.dev/ttl": "5",
            }
            spec = record["spec"]
            assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("a_1", 2**31 - 1)
            assert held.token == int(record["metadata"]["resourceVersion"])

            session = api_server.get_lease(namespace, lease_of(held))
            assert session["metadata"]["labels"] == {"incumbent.dev/kind": "session"}
            assert session["metadata"]["annotations"] == {"incumbent.dev/format": "session-1"}
            assert session["spec"]["leaseDurationSeconds"] == 5
            renewed = await store.renew(held.lease)
            after = api_server.get_lease(namespace, lease_of(held))
            assert after["spec"]["renewTime"] > session["spec"]["renewTime"]
            assert after["metadata"]["resourceVersion"] == renewed.version
            assert api_server.get_lease(namespace, NAME) == record, "a renewal is of the session"

            await store.release(held, renewed, "b_2")
            record = api_server.get_lease(namespace, NAME)
            assert record["spec"]["holderIdentity"] == ""
            assert record["metadata"]["annotations"]["incumbent.dev/format"] == "1"
            assert record["metadata"]["labels"] == {"incumbent.dev/kind": "election"}
            await store.close_session(renewed)
            session = api_server.get_lease(namespace, lease_of(held))
            assert session["spec"]["holderIdentity"] == ""

    asyncio.run(main())


def test_what_others_wrote_is_kept_and_the_token_is_written_down(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as store:
            held = await held_by(store)
            theirs = {"metadata": {"annotations": {"team": "x"}, "labels": {"app": "y"}}}
            for name in (NAME, lease_of(held)):
                patch(api_server, namespace, theirs, name)
            renewed = await store.renew(held.lease)
            told = await store.ask(NAME, StepDownRequest(held.term, "b_2"))
            assert told.request == StepDownRequest(held.term, "b_2")
            assert told.token is not None
            assert told.token >= (held.token or 0)
            assert (await store.read(NAME)).token == told.token
            await store.release(held, renewed, "")
            for name in (NAME, lease_of(held)):
                metadata = api_server.get_lease(namespace, name)["metadata"]
                assert metadata["annotations"]["team"] == "x"
                assert metadata["labels"]["app"] == "y"

    asyncio.run(main())


@pytest.mark.parametrize("value", ["2", "", "yes"])
def test_an_option_that_is_none(value: str, api_server: ApiServer) -> None:
    url = f"kubernetes://x?kubeconfig={api_server.kubeconfig()}&session={value or '%20'}"
    with pytest.raises(ConfigError, match="neither 0 nor 1"):
        open_kubernetes(StoreURL.parse(url))


def test_the_option_may_be_switched_off(api_server: ApiServer) -> None:
    url = f"kubernetes://x?kubeconfig={api_server.kubeconfig()}&session=0"
    assert isinstance(open_kubernetes(StoreURL.parse(url)), KubernetesStore)


# -- void, then take ------------------------------------------------------------------------------


def test_a_takeover_that_stops_half_way_leaves_a_vacancy_and_a_holder_that_cannot_renew(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with (
            opened(api_server, namespace) as one,
            opened(api_server, namespace) as two,
            opened(api_server, namespace) as three,
        ):
            old = await held_by(one)
            watched = await two.read(NAME)
            session = await two.open_session("b_2", 5.0)
            api = driver_of(two)._api
            real = api.replace

            async def only_sessions(obj: Object) -> Object:
                if obj["metadata"]["name"] == NAME:
                    raise StoreUnavailable("the network went away")
                return await real(obj)

            monkeypatch.setattr(api, "replace", only_sessions)
            with Watch(three, NAME) as watch:
                await watch.until(is_(Holding.HELD), "the holder")
                with pytest.raises(StoreUnavailable):
                    await two.take(NAME, claim(session, "b_2"), watched)
                vacant = await watch.until(is_(Holding.VACANT), "the vacancy")
                with pytest.raises(Refused):
                    await one.renew(old.lease)
                mine = claim(await three.open_session("c_3", 5.0), "c_3")
                assert (await three.take(NAME, mine, vacant)).term == mine.term

    asyncio.run(main())


def test_a_session_that_was_renewed_is_not_voided(api_server: ApiServer, namespace: str) -> None:
    """Whatever was watched: the version decides."""

    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            watched = await two.read(NAME)
            lease = await one.renew(old.lease)
            session = await two.open_session("b_2", 5.0)
            told = await refused(two.take(NAME, claim(session, "b_2"), watched), "a stale takeover")
            assert told.term == old.term
            assert told.watched != watched.watched
            await one.renew(lease)

    asyncio.run(main())


def test_a_session_is_void_before_the_record_is_taken(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that was on its way meanwhile finds the void."""

    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            watched = await two.read(NAME)
            session = await two.open_session("b_2", 5.0)
            api = driver_of(two)._api
            real, outcomes = api.replace, []

            async def with_a_late_renewal(obj: Object) -> Object:
                if obj["metadata"]["name"] == NAME:
                    with pytest.raises(Refused):
                        await one.renew(old.lease)
                outcomes.append(obj["metadata"]["name"])
                return await real(obj)

            monkeypatch.setattr(api, "replace", with_a_late_renewal)
            await two.take(NAME, claim(session, "b_2"), watched)
            assert outcomes == [lease_of(old), NAME]

    asyncio.run(main())


def test_a_take_under_a_session_that_others_voided_is_spared(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            with Watch(one, NAME) as watch:
                await watch.until(is_(Holding.HELD), "one's own term")
                await held_by(two, "b_2")
                await watch.until(lambda s: s.holder == "b_2", "the takeover")
                with pytest.raises(SessionGone):
                    await one.take("other", claim(old.lease), await one.read("other"))
            assert (await one.read("other")).holding is Holding.ABSENT

    asyncio.run(main())


def test_a_void_of_unknown_outcome_takes_nothing(
    api_server: ApiServer, namespace: str, api_proxy: Proxy
) -> None:
    async def main() -> None:
        async with (
            opened(api_server, namespace) as one,
            opened(api_server, namespace, proxy=api_proxy) as two,
        ):
            old = await held_by(one)
            watched = await two.read(NAME)
            mine = claim(await two.open_session("b_2", 5.0), "b_2")
            await swept(two)  # Its connection is the one that has to be there.
            with Watch(one, NAME) as watch:
                await watch.until(is_(Holding.HELD), "one's own term")
                api_proxy.drop_replies()
                taking = asyncio.ensure_future(two.take(NAME, mine, watched))
                await watch.until(is_(Holding.VACANT), "the effect of the void")
                api_proxy.reset()
                with pytest.raises(OutcomeUnknown):
                    await taking
                api_proxy.heal()
            found = await two.read_back(NAME, mine)
            assert isinstance(found, Snapshot)
            assert found.holding is Holding.VACANT
            assert (await two.take(NAME, mine, found)).term == mine.term
            with pytest.raises(Refused):
                await one.renew(old.lease)

    asyncio.run(main())


def test_one_dead_process_frees_all_that_it_held(api_server: ApiServer, namespace: str) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            a = Candidate(SessionHarness(api_server, namespace), one, "a_1")
            names = [f"{NAME}-{number}" for number in range(5)]
            for name in names:
                await a.take(name)
            with contextlib.ExitStack() as stack:
                watches = [stack.enter_context(Watch(two, name)) for name in names]
                for watch in watches:
                    await watch.until(is_(Holding.HELD), "the holder")
                b = Candidate(SessionHarness(api_server, namespace), two, "b_2")
                await b.take(names[0], watches[0].seen[-1])
                for name, watch in zip(names[1:], watches[1:], strict=True):
                    vacant = await watch.until(is_(Holding.VACANT), "the vacancy")
                    await b.take(name, vacant)

    asyncio.run(main())


def test_a_renewal_counts_when_the_watch_has_brought_it(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder whose watch is silent may have missed that its record was deleted."""

    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            held = await held_by(one)
            with Watch(one, NAME) as ours, Watch(two, NAME) as theirs:
                await ours.until(is_(Holding.HELD), "one's own term")
                await theirs.until(is_(Holding.HELD), "the holder")
                lease = await one.renew(held.lease)
                follower = driver_of(one)._follower
                heard: list[Change] = []
                monkeypatch.setattr(follower, "_changed", heard.append)
                renewing = asyncio.ensure_future(one.renew(lease))
                await theirs.until(
                    lambda s: s.lease_version not in (held.lease.version, lease.version),
                    "the renewal's effect",
                )
                assert not renewing.done()
                monkeypatch.undo()
                for change in heard:
                    follower._changed(change)
                assert (await renewing).version == theirs.seen[-1].lease_version

    asyncio.run(main())


# -- sessions that vanish, come back, or lose their label ------------------------------------------


def test_a_session_that_was_deleted_ends_its_terms_and_others_wait(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            first = candidate(one, NAME, "a_1", plan(4))
            old = await first.until("begun", 20)
            second = candidate(two, NAME, "b_2", plan(4))
            await second.until("waiting", 10, lambda e: e["holder"] == "a_1")
            with Watch(two, NAME) as watch:
                seen = await watch.until(is_(Holding.HELD), "the holder")
                delete(api_server, namespace, wire.lease_name(f"sessions/{seen.lease_key}"))
                await watch.until(lambda s: s.lease_version == GONE, "that the session is gone")
            stopped = await first.until("stopped", 10)
            assert stopped["why"] is ev.Why.DEPOSED
            recorders = (first, second)
            tasks = [
                asyncio.ensure_future(r.until("begun", 20, count=1 + (r is first)))
                for r in recorders
            ]
            done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            begun = done.pop().result()
            assert begun["token"] > old["token"]
            assert begun["at"] > stopped["at"]

    asyncio.run(main())


def test_the_owner_of_a_session_does_not_take_a_copy_for_it(
    api_server: ApiServer, namespace: str
) -> None:
    """Others have seen it gone, and count; no comparison of theirs finds it again."""

    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            put_back(api_server, namespace, delete(api_server, namespace, lease_of(old)))
            with pytest.raises(Refused):
                await one.renew(old.lease)
            copied = await two.read(NAME)
            assert copied.holding is Holding.HELD
            assert copied.lease_version != GONE
            with pytest.raises(SessionGone):
                await one.take("other", claim(old.lease), await one.read("other"))
            await held_by(two, "b_2")

    asyncio.run(main())


def test_a_session_that_is_there_again_is_not_taken_for_gone(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            session = delete(api_server, namespace, lease_of(old))
            gone = await two.read(NAME)
            assert (gone.holding, gone.lease_version) == (Holding.HELD, GONE)
            put_back(api_server, namespace, session)
            mine = claim(await two.open_session("b_2", 5.0), "b_2")
            told = await refused(two.take(NAME, mine, gone), "a take from what is there again")
            assert told.lease_version != GONE
            assert (await two.take(NAME, mine, told)).term == mine.term

    asyncio.run(main())


def test_a_session_without_its_label_is_not_gone(api_server: ApiServer, namespace: str) -> None:
    """To a watch with a selector it is deleted; and it is renewed on."""

    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            with Watch(two, NAME) as watch:
                seen = await watch.until(is_(Holding.HELD), "the holder")
                unlabelled = {"metadata": {"labels": {"incumbent.dev/kind": None}}}
                patch(api_server, namespace, unlabelled, lease_of(old))
                await watch.until(lambda s: s.watched != seen.watched, "another version")
                assert watch.seen[-1].lease_version != GONE
                lease = await one.renew(old.lease)
                await watch.until(renewed_as(lease), "the renewal")
                assert all(s.lease_version != GONE for s in watch.seen)

    asyncio.run(main())


def test_a_record_without_its_label_is_not_absent(api_server: ApiServer, namespace: str) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            with Watch(two, NAME) as watch:
                seen = await watch.until(is_(Holding.HELD), "the holder")
                unlabelled = {"metadata": {"labels": {"incumbent.dev/kind": None}}}
                patch(api_server, namespace, unlabelled)
                await watch.until(lambda s: s.watched != seen.watched, "another version")
                assert {s.term for s in watch.seen} == {old.term}

    asyncio.run(main())


def test_a_renewal_counts_when_a_record_without_its_label_was_read(
    api_server: ApiServer, namespace: str
) -> None:
    """The watch would not tell its holder that it was deleted."""

    async def main() -> None:
        async with opened(api_server, namespace) as one:
            held = await held_by(one)
            with Watch(one, NAME) as watch:
                seen = await watch.until(is_(Holding.HELD), "one's own term")
                unlabelled = {"metadata": {"labels": {"incumbent.dev/kind": None}}}
                patch(api_server, namespace, unlabelled)
                await watch.until(lambda s: s.watched != seen.watched, "another version")
                delete(api_server, namespace, NAME)
                await one.renew(held.lease)
                assert watch.seen[-1].holding is Holding.ABSENT

    asyncio.run(main())


def test_a_foreign_session_is_left_alone(api_server: ApiServer, namespace: str) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            old = await held_by(one)
            later = {"metadata": {"annotations": {"incumbent.dev/format": "session-2"}}}
            patch(api_server, namespace, later, lease_of(old))
            told = await two.read(NAME)
            assert told.holding is Holding.FOREIGN
            assert "session-2" in told.why
            await refused(held_by(two, "b_2"), "a take from a session that nobody understands")

    asyncio.run(main())


def test_the_lease_of_a_session_is_no_election(api_server: ApiServer, namespace: str) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one:
            held = await held_by(one)
            assert (await one.read(lease_of(held))).holding is Holding.FOREIGN

    asyncio.run(main())


def test_sessions_that_are_over_are_cleared_away_unless_a_record_names_them(
    api_server: ApiServer, namespace: str
) -> None:
    def leases() -> set[str]:
        items = api_server.request("GET", api_server.lease_path(namespace))["items"]
        return {item["metadata"]["name"] for item in items}

    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            named, other = await held_by(one), await held_by(one, "b_2", "other")
            await one.close_session(await one.renew(named.lease))
            vacant = await one.release(other, other.lease, "")
            assert vacant.holding is Holding.VACANT
            await one.close_session(await one.renew(other.lease))
            session = await two.open_session("c_3", 5.0)
            await swept(two)
            found = leases()
            assert lease_of(named) in found
            assert lease_of(other) not in found
            await two.take(NAME, claim(session, "c_3"), await two.read(NAME))
            await two.open_session("d_4", 5.0)
            await swept(two)
            assert lease_of(named) not in leases()

    asyncio.run(main())


# -- the other mode, and client-go ----------------------------------------------------------------


def test_the_two_modes_leave_each_other_alone_and_hand_over_by_a_release(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with (
            opened(api_server, namespace) as ours,
            plainly_opened(api_server, namespace) as plain,
        ):
            held = await held_by(ours)
            seen = await plain.read(NAME)
            assert seen.holding is Holding.FOREIGN
            assert "session-1" in seen.why
            await refused(plain.take(NAME, claim(None, "p_1"), seen), "a take of the other mode's")
            lease = await ours.renew(held.lease)
            vacant = await ours.release(held, lease, "")

            old = await plain.read(NAME)
            assert old.holding is Holding.VACANT
            theirs = await plain.take(NAME, claim(None, "p_1"), old)
            assert (theirs.token or 0) > (held.token or 0)
            seen = await ours.read(NAME)
            assert seen.holding is Holding.FOREIGN
            assert "not under a session" in seen.why
            for over in (seen, vacant):
                taking = ours.take(NAME, claim(lease), over)
                told = await refused(taking, "a take of what is held without a session")
                assert told.holding is Holding.FOREIGN
            await plain.release(theirs, await plain.renew(theirs.lease), "")
            again = await ours.take(NAME, claim(lease), await ours.read(NAME))
            assert (again.token or 0) > (theirs.token or 0)

    asyncio.run(main())


def test_client_go_stays_out_while_a_session_holds_and_follows_a_release(
    api_server: ApiServer, namespace: str, clientgo_candidate: ClientGo
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as store, opened(api_server, namespace) as other:
            ours = candidate(store, NAME, "ours_1", plan(3))
            begun = await ours.until("begun", 20)
            theirs = clientgo_candidate(NAME, "go-1", **LEASE)
            seen = await asyncio.to_thread(theirs.wait_for, "new_leader", 20)
            assert seen["leader"] == "ours_1"
            with Watch(other, NAME) as watch:
                # As many renewals of the session as take three lease durations of client-go's; the
                # record is not renewed meanwhile.
                renewals = 3 * round(3 / plan(3).renew_every_s)
                await watch.until(lambda s: len(watch.seen) > renewals, "renewals")
                assert len({s.version for s in watch.seen}) == 1
            assert not [e for e in theirs.events if e["event"] == "acquired"]
            assert not ours.all("stopped")
            assert ours.driver is not None
            ours.driver.close()
            await ours.until("closed", 5)
            started = await asyncio.to_thread(theirs.wait_for, "started", 20)
            assert int(started["resource_version"]) > begun["token"]

    asyncio.run(main())


def test_what_client_go_holds_is_left_alone_until_it_is_released(
    api_server: ApiServer,
    namespace: str,
    clientgo_candidate: ClientGo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("incumbent.stores.kubernetes.sessions.watch.POLL_S", 0.2)

    async def main() -> None:
        theirs = clientgo_candidate(NAME, "go-1", release_on_cancel=True, **LEASE)
        started = await asyncio.to_thread(theirs.wait_for, "started", 20)
        async with opened(api_server, namespace) as store, opened(api_server, namespace) as other:
            ours = candidate(store, NAME, "ours_1", plan(2))
            await ours.until("waiting", 10, lambda e: e["holding"] is Holding.FOREIGN)
            with Watch(other, NAME) as watch:
                await watch.until(lambda s: len(watch.seen) > 6, "renewals of client-go's")
                assert {s.holding for s in watch.seen} == {Holding.FOREIGN}
            assert not ours.all("begun")
            theirs.terminate()
            await asyncio.to_thread(theirs.wait_for, "released", 10)
            begun = await ours.until("begun", 10)
            assert begun["token"] > int(started["resource_version"])
            labels = api_server.get_lease(namespace, NAME)["metadata"]["labels"]
            assert labels == {"incumbent.dev/kind": "election"}

    asyncio.run(main())


def test_a_handover_is_two_writes(api_server: ApiServer, namespace: str) -> None:
    """By whoever follows, and has a session already."""

    def asked(user: str) -> list[str]:
        events = api_server.audit_events(user)
        of = [e for e in events if e.get("objectRef", {}).get("namespace") == namespace]
        # Nobody waits for the read by which the old holder learns of the new one's session.
        return [e["verb"] for e in of if e["verb"] not in ("watch", "get")]

    async def main() -> None:
        async with (
            opened(api_server, namespace, user="candidate-4") as one,
            opened(api_server, namespace, user="candidate-5") as two,
        ):
            held = await held_by(one)
            session = await two.open_session("b_2", 5.0)
            await swept(two)
            with Watch(one, NAME) as ours, Watch(two, NAME) as theirs:
                for watch in (ours, theirs):
                    await watch.until(is_(Holding.HELD), "the holder")
                before = len(asked("candidate-4")), len(asked("candidate-5"))
                await one.release(held, held.lease, "b_2")
                vacant = await theirs.until(is_(Holding.VACANT), "the release")
                await two.take(NAME, claim(session, "b_2"), vacant)
                assert asked("candidate-4")[before[0] :] == ["update"]
                assert asked("candidate-5")[before[1] :] == ["update"]

    with (
        granted(api_server, "candidate-4", FULL, namespace),
        granted(api_server, "candidate-5", FULL, namespace),
    ):
        asyncio.run(main())


def test_a_renewal_waits_for_no_take(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are under way; and of those that wait, nothing was sent."""
    monkeypatch.setattr(driver_module, "SLOT_WAIT_S", 0.2)

    async def main() -> None:
        async with opened(api_server, namespace) as store:
            session = await store.open_session("a_1", 5.0)
            overs = [await store.read(f"{NAME}-{number}") for number in range(40)]
            api, free = driver_of(store)._api, asyncio.Event()
            real, sent = api.create, []

            async def held_up(obj: Object) -> Object:
                sent.append(obj)
                await free.wait()
                return await real(obj)

            monkeypatch.setattr(api, "create", held_up)
            takes = [
                asyncio.ensure_future(store.take(over.name, claim(session), over)) for over in overs
            ]
            done, _ = await asyncio.wait(takes, return_when=asyncio.FIRST_COMPLETED)
            assert all(isinstance(take.exception(), StoreUnavailable) for take in done)
            assert len(sent) == driver_module.SLOTS < POOL_CONNECTIONS
            await store.renew(session)
            free.set()
            await asyncio.wait(takes)
            assert sum(take.exception() is None for take in takes) >= driver_module.SLOTS

    asyncio.run(main())


# -- requests and rights --------------------------------------------------------------------------


def test_many_elections_are_one_renewal_and_one_watch(
    api_server: ApiServer, namespace: str
) -> None:
    names = [f"{NAME}-{number}" for number in range(30)]

    def asked(user: str) -> list[str]:
        return [
            e["verb"]
            for e in api_server.audit_events(user)
            if e.get("objectRef", {}).get("resource") == "leases"
            and e["objectRef"].get("namespace") == namespace
            and (e["verb"] != "watch" or e["stage"] == "ResponseStarted")
        ]

    async def main() -> None:
        async with (
            opened(api_server, namespace, user="candidate-4") as holder,
            opened(api_server, namespace, user="candidate-5") as standby,
        ):
            a = Candidate(SessionHarness(api_server, namespace), holder, "a_1")
            for name in names:
                await a.take(name)
            before = asked("candidate-4")
            with contextlib.ExitStack() as stack:
                watches = [stack.enter_context(Watch(standby, name)) for name in names]
                for watch in watches:
                    await watch.until(is_(Holding.HELD), "the holder")
                for _ in range(3):
                    lease = await a.renew(names[0])
                    for watch in watches:
                        await watch.until(renewed_as(lease), "the renewal")
            after = asked("candidate-4")[len(before) :]
            assert after == ["update"] * 3
            theirs = asked("candidate-5")
            assert sorted(theirs) == ["list", "watch"]

    with (
        granted(api_server, "candidate-4", FULL, namespace),
        granted(api_server, "candidate-5", (Rule(("get", "list", "watch")),), namespace),
    ):
        asyncio.run(main())


FULL = (Rule(("get", "list", "watch", "update", "create")),)


def test_the_rule_of_the_documentation_is_enough(api_server: ApiServer, namespace: str) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, user="candidate-2") as store:
            ours = candidate(store, NAME, "ours_1", plan(3))
            begun = await ours.until("begun", 20)
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: s.token == begun["token"], "the term")
            findings = {f.check: f for f in await store.examine()}
            assert findings["right to delete"].ok is None
            assert "processes that are gone" in findings["right to delete"].text
            rights = {f.check.rpartition(" ")[2] for f in findings.values() if f.ok}
            assert rights >= {"get", "list", "watch", "update", "create"}
            assert ours.driver is not None
            ours.driver.close()
            await ours.until("closed", 5)
            assert not ours.all("note")

    with granted(api_server, "candidate-2", FULL, namespace):
        asyncio.run(main())


def test_a_missing_right_is_named(api_server: ApiServer, namespace: str) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, user="candidate-1") as store:
            with pytest.raises(PermissionDenied, match="the rule that is missing"):
                await store.open_session("a_1", 5.0)
            findings = {f.check: f for f in await store.examine()}
            assert findings["right to list"].ok is False
            assert findings["right to update"].ok is False

    with granted(api_server, "candidate-1", (Rule(("get", "watch")),), namespace):
        asyncio.run(main())


def test_a_namespace_that_is_not_there(api_server: ApiServer) -> None:
    async def main() -> None:
        async with opened(api_server, "nowhere") as store:
            with pytest.raises(StoreUnusable, match="nowhere"):
                await store.open_session("a_1", 5.0)

    asyncio.run(main())


# -- a network that breaks ------------------------------------------------------------------------


def test_a_watch_that_broke_misses_nothing(
    api_server: ApiServer, namespace: str, api_proxy: Proxy
) -> None:
    async def main() -> None:
        async with (
            opened(api_server, namespace) as holder,
            opened(api_server, namespace, proxy=api_proxy) as store,
        ):
            with Watch(store, NAME) as watch:
                absent = await watch.until(is_(Holding.ABSENT), "the absence")
                assert (await store.read(NAME)).watched == absent.watched
                held = await held_by(holder)
                await watch.until(lambda s: s.term == held.term, "the take")
                lease = held.lease
                for _ in range(3):
                    api_proxy.reset()
                    lease = await holder.renew(lease)
                    await watch.until(renewed_as(lease), "the renewal")
                api_proxy.refuse()
                vacant = await holder.release(held, lease, "")
                api_proxy.heal()
                await watch.until(lambda s: s.version == vacant.version, "the release")
                api_proxy.reset()
                delete(api_server, namespace, NAME)
                await watch.until(is_(Holding.ABSENT), "the deletion")

    asyncio.run(main())


def test_a_write_that_a_proxy_repeats_is_a_success(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition is refused because the first one worked."""

    async def main() -> None:
        async with opened(api_server, namespace) as store:
            session = await store.open_session("a_1", 5.0)
            api = driver_of(store)._api
            for verb in ("create", "replace"):
                real, calls = getattr(api, verb), itertools.count()

                async def twice(obj: Object, real: Any = real, calls: Any = calls) -> Any:
                    if next(calls) % 2 == 0:
                        await real(obj)
                    return await real(obj)

                monkeypatch.setattr(api, verb, twice)
            for _ in range(2):
                mine = claim(session)
                held = await store.take(NAME, mine, await store.read(NAME))
                assert held.term == mine.term
                session = await store.renew(session)
                assert (await store.release(held, session, "")).holding is Holding.VACANT

    asyncio.run(main())
