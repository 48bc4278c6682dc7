"""What a member of theirs can break in a queue, in runs in which it does, and what still refuses.

Each breaks the same way: for a while two work. The write that carries the later token is let in,
and from then on the one with the earlier token is not.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from incumbent.errors import StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.sql import TABLE
from tests.partners import test_etcd, test_zookeeper
from tests.partners.member import Member
from tests.partners.passing import START_S, ended
from tests.servers.etcd import Etcd, b64
from tests.servers.zookeeper import ZooKeeperServer

LIMIT_S = 30.0


def fence(token: int) -> Fence:
    """That of a term, or of whoever has such a token and keeps to the same rule."""
    return Fence("work", token, lambda: None)


@contextmanager
def table(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "work.db")) as connection:
        connection.execute(TABLE)
        connection.execute("CREATE TABLE work (who TEXT)")
        connection.commit()
        yield connection


def write(connection: sqlite3.Connection, who: str, token: int) -> None:
    with connection:
        fence(token).sql(connection)
        connection.execute("INSERT INTO work VALUES (?)", (who,))


def only_the_later_writes(folder: Path, earlier: int, later: int) -> None:
    assert earlier < later
    with table(folder) as connection:
        write(connection, "earlier", earlier)
        write(connection, "later", later)
        with pytest.raises(StaleToken):
            write(connection, "earlier, once more", earlier)
        write(connection, "later, once more", later)
        written = [who for (who,) in connection.execute("SELECT who FROM work")]
        assert written == ["earlier", "later", "later, once more"]


def two_work(first: Member, second: Member) -> None:
    """See beats of both, one after the other."""
    for member in (first, second, first):
        member.wait_for("beat", LIMIT_S, count=len(member.all("beat")) + 2)
    assert not first.all("stopped")
    assert not second.all("stopped")


# -- what nobody breaks ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["zookeeper", "etcd"])
def test_ours_that_stood_still_is_dead_before_theirs_holds(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    """The kernel has ended it before the servers ended its session: it never wakes up."""
    server = request.getfixturevalue(where)
    pairs = {"zookeeper": (test_zookeeper, "curator-latch"), "etcd": (test_etcd, "lock")}
    module, recipe = pairs[where]
    ours, theirs = module.Pair(server, tmp_path, recipe).both("still")
    with ended(theirs, ours):
        ours.start()
        ours.wait_for("holding", START_S)
        theirs.start()
        theirs.wait_for("waiting", START_S)
        ours.pause()
        held_at = theirs.wait_for("holding", LIMIT_S)["at"]
        assert ours.exit_status == -signal.SIGKILL
        assert max(event["at"] for event in ours.wait_ended(LIMIT_S)) < held_at
        theirs.wait_for("beat", LIMIT_S, count=len(theirs.all("beat")) + 5)


# -- ZooKeeper ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["curator-mutex", "kazoo-lock"])
def test_theirs_goes_on_after_its_session(
    zookeeper: ZooKeeperServer, tmp_path: Path, recipe: str
) -> None:
    """It stood still for longer than its session lasts, and has no listener that tells it so."""
    pair = test_zookeeper.Pair(zookeeper, tmp_path, recipe)
    theirs, ours = pair.theirs("deaf", "theirs", "deaf"), pair.ours("deaf")
    with ended(theirs, ours):
        theirs.start()
        before = theirs.wait_for("holding", START_S)["token"]
        ours.start()
        ours.wait_for("waiting", START_S)
        theirs.pause()
        after = ours.wait_for("holding", LIMIT_S)["token"]
        theirs.resume()
        two_work(theirs, ours)
    only_the_later_writes(tmp_path, before, after)


@pytest.mark.parametrize("recipe", ["curator-latch", "kazoo-election"])
def test_theirs_removes_our_node(zookeeper: ZooKeeperServer, tmp_path: Path, recipe: str) -> None:
    """It holds at once; ours hears of it, or its next renewal is refused, and stops."""
    pair = test_zookeeper.Pair(zookeeper, tmp_path, recipe)
    ours, theirs = pair.both("removed")
    with ended(theirs, ours), pair.server.by_hand() as client:
        ours.start()
        before = ours.wait_for("holding", START_S)["token"]
        theirs.start()
        theirs.wait_for("waiting", START_S)
        path = pair.path("removed")
        nodes = [f"{path}/{name}" for name in client.get_children(path)]
        (mine,) = [node for node in nodes if client.exists(node).czxid == before]
        client.delete(mine)
        after = theirs.wait_for("holding", LIMIT_S)["token"]
        ours.wait_for("stopped", LIMIT_S)
        theirs.wait_for("beat", LIMIT_S, count=5)
        assert len(ours.all("holding")) == 1, "it waits behind"
    only_the_later_writes(tmp_path, before, after)


# -- etcd -----------------------------------------------------------------------------------------


def test_the_command_of_etcdctl_lock_goes_on_without_its_lease(etcd: Etcd, tmp_path: Path) -> None:
    """Nothing tells it. The fence is in the same etcd: one transaction that compares and writes."""
    pair = test_etcd.Pair(etcd, tmp_path, "lock")
    ours, theirs = pair.both("stale")
    with ended(theirs, ours):
        theirs.start()
        before = theirs.wait_for("holding", START_S)["token"]
        ours.start()
        ours.wait_for("waiting", START_S)
        test_etcd.revoke_first(etcd, pair.lock("stale"))
        after = ours.wait_for("holding", LIMIT_S)["token"]
        two_work(theirs, ours)
        key = b64(pair.lock("work"))

        def put(token: int, value: str) -> None:
            txn: dict[str, Any] = {"success": [{"request_put": {"key": key, "value": b64(value)}}]}
            mine = Fence(pair.id, token, lambda: None)
            mine.etcd_result(etcd.request("/v3/kv/txn", mine.etcd(txn)))

        put(before, "earlier")
        put(after, "later")
        with pytest.raises(StaleToken):
            put(before, "earlier, once more")
        assert etcd.get(pair.lock("work")) == b"later"


def test_our_key_that_theirs_deletes_ends_our_term(etcd: Etcd, tmp_path: Path) -> None:
    pair = test_etcd.Pair(etcd, tmp_path, "election")
    ours, theirs = pair.both("deleted")
    with ended(theirs, ours):
        ours.start()
        before = ours.wait_for("holding", START_S)["token"]
        theirs.start()
        theirs.wait_for("waiting", START_S)
        key = test_etcd.first_of(etcd, pair.lock("deleted"))["key"]
        etcd.request("/v3/kv/deleterange", {"key": key})
        after = theirs.wait_for("holding", LIMIT_S)["token"]
        ours.wait_for("stopped", LIMIT_S)
    only_the_later_writes(tmp_path, before, after)
