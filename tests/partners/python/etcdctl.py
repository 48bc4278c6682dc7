"""A member of a queue of etcd's own library, by its command: ETCDCTL ENDPOINT NAME lock|elect.

It runs `etcdctl lock`, whose command is this module once more, or `etcdctl elect`, and says what
they do. Nothing of them outlives it. The token is the `create_revision` of the key that was taken.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

from tests.partners.python.lines import BEAT_S, Leave, leave_in_order, say

LOCK_TTL_S = 2
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def read(endpoint: str, path: str, body: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(f"http://{endpoint}{path}", json.dumps(body).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as response:
        answer: dict[str, Any] = json.loads(response.read())
        return answer


def created(endpoint: str, key: str) -> int:
    answer = read(endpoint, "/v3/kv/range", {"key": base64.b64encode(key.encode()).decode()})
    return int(answer["kvs"][0]["create_revision"])


def waiting(endpoint: str, name: str) -> int:
    start = f"{name}/".encode()
    end = start[:-1] + b"0"
    both = {"key": start, "range_end": end}
    body = {word: base64.b64encode(key).decode() for word, key in both.items()}
    return len(read(endpoint, "/v3/kv/range", body).get("kvs", ()))


def beat(endpoint: str, key: str, parent: int) -> None:
    """Hold until SIGTERM comes, or the parent is gone."""
    leave_in_order()
    answered = int(os.environ["ETCD_LOCK_REV"])
    say("holding", token=created(endpoint, key), answered=answered, pid=os.getpid())
    try:
        while os.getppid() == parent:
            time.sleep(BEAT_S)  # sleep: it is the beat
            say("beat")
    except Leave:
        say("stopped")


def main(etcdctl: str, endpoint: str, name: str, kind: str) -> None:
    leave_in_order()
    command = [etcdctl, f"--endpoints={endpoint}"]
    if kind == "lock":
        again = [sys.executable, "-m", "tests.partners.python.etcdctl"]
        command += ["lock", f"--ttl={LOCK_TTL_S}", name, "--", *again]
    else:
        command += ["elect", name, "a member of theirs"]
    before = waiting(endpoint, name)
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509  this process has one thread
        env={**os.environ, "BEATS_TO": endpoint},
    )
    assert child.stdout is not None
    inner = 0
    try:
        while waiting(endpoint, name) <= before and child.poll() is None:
            time.sleep(BEAT_S)  # sleep: it is asked until it is so
        if before:
            say("waiting")
        if kind == "lock":
            for line in child.stdout:
                print(line.decode(), end="", flush=True)
                inner = json.loads(line).get("pid", inner)
            return
        key = child.stdout.readline().decode().strip()
        say("holding", token=created(endpoint, key))
        while child.poll() is None:
            time.sleep(BEAT_S)  # sleep: it is the beat
            say("beat")
        say("stopped", status=child.returncode)
    except Leave:
        if inner:
            os.kill(inner, signal.SIGTERM)
            for line in child.stdout:
                print(line.decode(), end="", flush=True)
        else:
            say("stopped")
            child.send_signal(signal.SIGINT)
        child.wait(20)


if __name__ == "__main__":
    if "ETCD_LOCK_KEY" in os.environ:
        beat(os.environ["BEATS_TO"], os.environ["ETCD_LOCK_KEY"], os.getppid())
    else:
        main(*sys.argv[1:])
