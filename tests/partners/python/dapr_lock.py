"""A program that takes a lock of Dapr as its documentation shows; see `tests.partners.member`.

    python -m tests.partners.python.dapr_lock sdk|http HTTP_PORT GRPC_PORT STORE LOCK EXPIRY_S [HOW]

`sdk` is Dapr's own package, which speaks gRPC; `http` are two requests. It holds for four fifths of
the expiry, and gives the lock back. With `overstay` it never stops, as who is stuck, paused or
does not look at the time.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
import uuid
import warnings
from types import FrameType
from typing import Any, Protocol

from tests.partners.python.lines import BEAT_S, say

TRY_EVERY_S = 0.1


class Lock(Protocol):
    def try_lock(self, owner: str) -> bool: ...

    def unlock(self, owner: str) -> None: ...


class OverHttp:
    def __init__(self, port: int, store: str, lock: str, expiry_s: int) -> None:
        self._port, self._store, self._lock, self._expiry_s = port, store, lock, expiry_s

    def try_lock(self, owner: str) -> bool:
        return bool(self._ask("lock", owner, expiryInSeconds=self._expiry_s)["success"])

    def unlock(self, owner: str) -> None:
        assert self._ask("unlock", owner)["status"] in range(3)

    def _ask(self, what: str, owner: str, **more: int) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        body = json.dumps({"resourceId": self._lock, "lockOwner": owner, **more})
        connection.request("POST", f"/v1.0-alpha1/{what}/{self._store}", body)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())


class OfTheSdk:
    def __init__(self, port: int, store: str, lock: str, expiry_s: int) -> None:
        from dapr.clients import DaprClient

        self._client = DaprClient(f"127.0.0.1:{port}")
        self._store, self._lock, self._expiry_s = store, lock, expiry_s

    def try_lock(self, owner: str) -> bool:
        return bool(self._client.try_lock(self._store, self._lock, owner, self._expiry_s).success)

    def unlock(self, owner: str) -> None:
        self._client.unlock(self._store, self._lock, owner)


def leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def hold(lock: Lock, owner: str, until: float) -> None:
    say("holding")
    try:
        while time.monotonic() < until:
            time.sleep(BEAT_S)  # sleep: it is the beat
            say("beat")
    finally:
        say("stopped")
        lock.unlock(owner)


def main(kind: str, http_port: str, grpc_port: str, *named: str) -> None:
    warnings.simplefilter("ignore")  # The lock API calls itself an alpha at each call.
    signal.signal(signal.SIGTERM, leave)
    store, name, expiry_s, *how = named
    os.environ["DAPR_HTTP_PORT"] = http_port  # There the SDK asks for the sidecar's health.
    lock: Lock = (
        OfTheSdk(int(grpc_port), store, name, int(expiry_s))
        if kind == "sdk"
        else OverHttp(int(http_port), store, name, int(expiry_s))
    )
    waiting = False
    while True:
        owner, asked_at = str(uuid.uuid4()), time.monotonic()
        if lock.try_lock(owner):
            lasts_s = float("inf") if how else 0.8 * int(expiry_s)
            hold(lock, owner, asked_at + lasts_s)
            waiting = False
        elif not waiting:
            say("waiting")
            waiting = True
        time.sleep(TRY_EVERY_S)  # sleep: nobody is told when a lock is free


if __name__ == "__main__":
    main(*sys.argv[1:])
