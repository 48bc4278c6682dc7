"""The least that a handover on one host can be made of: a commit, and a commit that rings a bell.

One row in a database of its own beside the store's, in the same mode as the store's. `write`
commits one update synced to the disk (what a take is) and then one that is not, followed by a
byte to the bell (what a release is); a batch for each USR1. `watch` waits for inotify in a thread
of its own, and says when it has read the row. Events: `put` with the instants of both commits and
the number of the second; `seen` with the number; `batch`.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sqlite3
import time
from pathlib import Path

from benchmarks.programs.stamps import now_ns, tell
from incumbent.stores.local import inotify


def connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE IF NOT EXISTS raw (number INTEGER NOT NULL)")
    db.execute("INSERT INTO raw SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM raw)")
    return db


def commit(db: sqlite3.Connection, mode: str) -> int:
    db.execute(f"PRAGMA synchronous = {mode}")
    db.execute("BEGIN IMMEDIATE")
    rows = db.execute("UPDATE raw SET number = number + 1 RETURNING number").fetchall()
    db.execute("COMMIT")
    return int(rows[0][0])


def write(path: Path, batch: int, pause_s: float) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    db = connect(path)
    bell = os.open(bell_of(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    tell("ready")
    while True:
        signal.sigwait({signal.SIGUSR1})
        for _ in range(batch):
            time.sleep(random.uniform(0.2 * pause_s, pause_s))
            began_ns = now_ns()
            commit(db, "FULL")
            synced_ns = now_ns()
            number = commit(db, "NORMAL")
            os.pwrite(bell, b"!", 0)
            tell("put", synced_ns, sent_ns=began_ns, rung_ns=synced_ns, version=number)
        tell("batch")


def watch(path: Path) -> None:
    db = connect(path)
    bell_of(path).touch()
    notifier = inotify.Inotify()
    notifier.watch(bell_of(path), inotify.MODIFIED)
    poll = select.poll()
    poll.register(notifier.fileno(), select.POLLIN)
    tell("ready")
    while True:
        poll.poll()
        if list(notifier.read()):
            number = db.execute("SELECT number FROM raw").fetchone()[0]
            tell("seen", version=number)


def bell_of(path: Path) -> Path:
    return path.with_name(path.name + ".bell")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("write", "watch"))
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True)
    options = parser.parse_args()
    if options.role == "write":
        write(options.path, options.batch, options.pause)
    else:
        watch(options.path)


if __name__ == "__main__":
    main()
