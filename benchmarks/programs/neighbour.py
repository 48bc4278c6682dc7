"""One user of a neighbour's lock, in the neighbours' environment, with stamps around it.

`--batch N`: each USR1 acquires and releases N times; event `batch` with `took_ms`, without the
first time, which may have to connect.

Without it, a candidate like those of `candidate`: `standby` just before it waits, `checked` when it
holds, `ended` (the instant before the release began) after the release. USR1 has it release, and
after `ended` another USR1 has it wait again.
"""

from __future__ import annotations

import argparse
import signal

from benchmarks.programs.locks import OPENERS, Lock
from benchmarks.programs.stamps import now_ns, tell


def batches(lock: Lock, count: int) -> None:
    tell("ready")
    while True:
        signal.sigwait({signal.SIGUSR1})
        took_ms = []
        for _ in range(count + 1):
            began_ns = now_ns()
            lock.acquire()
            lock.release()
            took_ms.append((now_ns() - began_ns) / 1e6)
        tell("batch", took_ms=took_ms[1:])


def contend(lock: Lock) -> None:
    while True:
        tell("standby", text="may be held by another")
        lock.acquire()
        tell("checked")
        signal.sigwait({signal.SIGUSR1})
        ended_ns = now_ns()
        lock.release()
        tell("ended", ended_ns)
        signal.sigwait({signal.SIGUSR1})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lock", choices=sorted(OPENERS))
    parser.add_argument("target")
    parser.add_argument("--batch", type=int, default=0)
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    lock = OPENERS[options.lock](options.target)
    if options.batch:
        batches(lock, options.batch)
    else:
        contend(lock)


if __name__ == "__main__":
    main()
