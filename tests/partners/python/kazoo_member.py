"""A member of a queue of kazoo's: HOSTS PATH ID SESSION_S lock|election [deaf].

`deaf` is a member that holds on whatever it hears of its connection, as one does that has no
listener. Its token is the czxid of its node.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

from tests.partners.python.lines import BEAT_S, Leave, leave_in_order, say


def hold(client: Any, lock: Any, lost: threading.Event, *, deaf: bool) -> None:
    say("holding", token=client.exists(f"{lock.path}/{lock.node}").czxid)
    try:
        while deaf or not lost.is_set():
            time.sleep(BEAT_S)  # sleep: it is the beat
            say("beat")
    except Leave:
        pass
    say("stopped")


def tell_when_it_waits(client: Any, lock: Any) -> None:
    while not lock.node or client.exists(f"{lock.path}/{lock.node}") is None:
        time.sleep(BEAT_S)  # sleep: it is asked until it is so
    if not lock.is_acquired:
        say("waiting")


def main(hosts: str, path: str, id_: str, session_s: str, kind: str, *words: str) -> None:
    leave_in_order()
    client = KazooClient(hosts=hosts, timeout=float(session_s))
    lost = threading.Event()

    def heard(state: str) -> None:
        if state in (KazooState.LOST, KazooState.SUSPENDED):
            lost.set()

    client.add_listener(heard)
    client.start(30)
    try:
        election = client.Election(path, id_)
        lock = election.lock if kind == "election" else client.Lock(path, id_)
        threading.Thread(target=tell_when_it_waits, args=(client, lock), daemon=True).start()
        work = (client, lock, lost)
        if kind == "election":
            election.run(hold, *work, deaf="deaf" in words)
        else:
            with lock:
                hold(*work, deaf="deaf" in words)
    except Leave:
        pass
    finally:
        client.stop()
        client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
