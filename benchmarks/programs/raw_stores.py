"""The requests that one acquire and one release need, by the plainest client, and nothing around.

Each compares and writes what a term's beginning and its end compare and write in that store, in
values of the same size, one after the other on one connection:

    etcd, Consul, ZooKeeper   two transactions, of which the first compares the session as well
    Redis                     two scripts that compare, write and publish
    PostgreSQL, MySQL         two committed updates that compare, each one message
    SQLite                    a commit that is synced to the disk, and one that is not
    plain files               two renames under a lock, and a sync of the counter after the first

A batch of N for each USR1. Event: `batch` with `took_ms`, of both together, and `trip_ms`, of the
first; without the first time of each batch.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.programs.raw_sqlite import bell_of, commit, connect
from benchmarks.programs.stamps import now_ns, tell

Request = Callable[[bool], None]
"""Sends one request; True for the one that acquires."""

VALUE = json.dumps({"record": "x" * 190})


def etcd(target: str) -> Request:
    connection = http.client.HTTPConnection(*_place(target))
    record, session = (_encoded(f"raw/{name}") for name in ("record", "session"))
    value = _encoded(VALUE)

    def ask(path: str, body: Any) -> Any:
        connection.request("POST", path, json.dumps(body))
        return json.load(connection.getresponse())

    put = {"request_put": {"key": record, "value": value}}
    ask("/v3/kv/put", {"key": session, "value": value})
    current = int(ask("/v3/kv/put", {"key": record, "value": value})["header"]["revision"])
    own = current - 1

    def request(acquires: bool) -> None:
        nonlocal current
        compared = {record: current, **({session: own} if acquires else {})}
        compare = [
            {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
            for key, revision in compared.items()
        ]
        answer = ask("/v3/kv/txn", {"compare": compare, "success": [put]})
        assert answer["succeeded"]
        current = int(answer["header"]["revision"])

    return request


def consul(target: str) -> Request:
    address, token = target.split(" ")
    connection = http.client.HTTPConnection(*_place(address))
    value = _encoded(VALUE)

    def ask(operations: list[dict[str, Any]]) -> Any:
        body = json.dumps([{"KV": operation} for operation in operations])
        connection.request("PUT", "/v1/txn", body, {"X-Consul-Token": token})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == http.client.OK, content
        return [result["KV"]["ModifyIndex"] for result in json.loads(content)["Results"]]

    def writing(name: str) -> dict[str, Any]:
        return {"Key": f"raw/{name}", "Value": value}

    (own,) = ask([{"Verb": "set", **writing("session")}])
    (current,) = ask([{"Verb": "set", **writing("record")}])

    def request(acquires: bool) -> None:
        nonlocal current
        operations = [{"Verb": "cas", "Index": current, "Flags": current, **writing("record")}]
        if acquires:
            operations.append({"Verb": "check-index", "Key": "raw/session", "Index": own})
        current = ask(operations)[0]

    return request


def zookeeper(target: str) -> Request:
    from kazoo.client import KazooClient

    client = KazooClient(target)
    client.start()
    for name in ("session", "record"):
        client.create(f"/raw/{name}", VALUE.encode(), makepath=True)
    version = 0

    def request(acquires: bool) -> None:
        nonlocal version
        transaction = client.transaction()
        transaction.set_data("/raw/record", VALUE.encode(), version)
        if acquires:
            transaction.check("/raw/session", 0)
        results = transaction.commit()
        assert not isinstance(results[0], Exception), results
        version += 1

    return request


_SCRIPT = """
local entry = redis.call('HGET', KEYS[1], 'record')
if entry and string.match(entry, '^(%d+) ') ~= ARGV[1] then return 'conflict' end
if ARGV[3] == '1' and redis.call('HGET', KEYS[1], 'session') then return 'conflict' end
local number = redis.call('HINCRBY', KEYS[1], 'serial', 1)
redis.call('PUBLISH', 'raw', number .. ' ' .. ARGV[2])
redis.call('HSET', KEYS[1], 'record', number .. ' ' .. ARGV[2])
return number
"""


def redis(target: str) -> Request:
    from redis import Redis

    host, port = _place(target)
    client: Any = Redis(host=host, port=port)
    name = client.script_load(_SCRIPT)
    number: Any = 0

    def request(acquires: bool) -> None:
        nonlocal number
        number = client.evalsha(name, 1, "raw", str(number), VALUE, "1" if acquires else "0")
        assert number != b"conflict"

    return request


def postgresql(target: str) -> Request:
    import psycopg

    connection = psycopg.connect(target, autocommit=True)
    connection.execute("CREATE TABLE IF NOT EXISTS raw (id int PRIMARY KEY, n int, value text)")
    connection.execute("INSERT INTO raw VALUES (1, 0, '') ON CONFLICT (id) DO UPDATE SET n = 0")
    number = 0

    def request(acquires: bool) -> None:
        nonlocal number
        connection.execute(
            f"BEGIN; UPDATE raw SET n = n + 1, value = '{VALUE}' WHERE id = 1 AND n = {number}; "
            "SELECT pg_notify('raw', 'e'); COMMIT"
        )
        number += 1

    return request


def mysql(target: str) -> Request:
    import pymysql
    from pymysql.constants import CLIENT

    at = urlsplit(target)
    connection = pymysql.connect(
        host=at.hostname or "",
        port=at.port or 3306,
        user=unquote(at.username or ""),
        password=unquote(at.password or ""),
        database=at.path.strip("/"),
        client_flag=CLIENT.MULTI_STATEMENTS,
        ssl_disabled=True,
    )
    number = 0

    def ask(statements: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statements)
            while cursor.nextset():
                pass

    ask("CREATE TABLE IF NOT EXISTS raw (id int PRIMARY KEY, n int, value text)")
    ask("REPLACE INTO raw VALUES (1, 0, ''); COMMIT")

    def request(acquires: bool) -> None:
        nonlocal number
        ask(
            f"START TRANSACTION; UPDATE raw SET n = n + 1, value = '{VALUE}' "
            f"WHERE id = 1 AND n = {number}; COMMIT"
        )
        number += 1

    return request


def sqlite(target: str) -> Request:
    path = Path(f"{target}.raw")
    db = connect(path)
    bell = os.open(bell_of(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def request(acquires: bool) -> None:
        commit(db, "FULL" if acquires else "NORMAL")
        os.pwrite(bell, b"!", 0)

    return request


def file(target: str) -> Request:
    folder = Path(f"{target}.raw")
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    counter = os.open(folder / "counter", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    number = 0

    def request(acquires: bool) -> None:
        nonlocal number
        number += 1
        fcntl.flock(lock, fcntl.LOCK_EX)
        beside = folder / "new"
        beside.write_text(VALUE, encoding="ascii")
        os.pwrite(counter, str(number).encode(), 0)
        beside.rename(folder / "record")
        fcntl.flock(lock, fcntl.LOCK_UN)
        if acquires:
            os.fsync(counter)

    return request


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


REQUESTS: dict[str, Callable[[str], Request]] = {
    "consul": consul,
    "etcd": etcd,
    "file": file,
    "mysql": mysql,
    "postgresql": postgresql,
    "redis": redis,
    "sqlite": sqlite,
    "zookeeper": zookeeper,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", choices=sorted(REQUESTS))
    parser.add_argument("target")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    request = REQUESTS[options.store](options.target)
    tell("ready")
    while True:
        signal.sigwait({signal.SIGUSR1})
        took_ms, trip_ms = [], []
        for _ in range(options.batch + 1):
            time.sleep(options.pause)
            began_ns = now_ns()
            request(True)
            between_ns = now_ns()
            request(False)
            took_ms.append((now_ns() - began_ns) / 1e6)
            trip_ms.append((between_ns - began_ns) / 1e6)
        tell("batch", took_ms=took_ms[1:], trip_ms=trip_ms[1:])


if __name__ == "__main__":
    main()
