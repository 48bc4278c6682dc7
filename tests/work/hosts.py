"""A line of a crontab on two hosts whose wall clocks are three seconds apart: each tick once.

    python -m tests.work.hosts [--seconds 60]

Two network namespaces are the hosts; each reaches a real Redis over a cable of its own, and has its
own wall clock (`skew`; the clocks that durations are counted on are left alone, and that is looked
at first). `incumbent every` runs on both. The one that holds is killed, or told to go, in
turns, and started again. Then the lines that the command has written are judged. It needs root.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.cluster.network import holder, in_network, program
from tests.servers.process import ChildProcess
from tests.servers.redis import Redis
from tests.work.judging import judge, lines
from tests.work.skew import ahead_by

EVERY_S = 2
LINE = f"*/{EVERY_S} * * * * *"
APART_S = 3.0
BETWEEN_TICKS_S = 0.7
CHANGE_EVERY_S = 8.0
LIMIT_S = 20.0
ROOT = Path(__file__).parents[2]

_CLOCKS = (
    "import time; print(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic())"
)


@dataclass
class Host:
    """A namespace with a cable, and the clock of whatever runs in it."""

    name: str
    number: int
    pid: int
    ahead_s: float
    folder: Path

    @property
    def cable(self) -> str:
        return f"work{self.number}"

    @property
    def server(self) -> str:
        """The address of the store, at the other end of the cable."""
        return f"10.88.{self.number}.1"

    def connect(self) -> None:
        """Lay the cable; it goes with the namespace."""
        ip = program("ip")
        own = f"10.88.{self.number}.2/30"
        for words in (
            ["link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.pid],
            ["address", "add", f"{self.server}/30", "dev", self.cable],
            ["link", "set", self.cable, "up"],
        ):
            subprocess.run([ip, *map(str, words)], check=True)
        for words in (["address", "add", own, "dev", "eth0"], ["link", "set", "eth0", "up"]):
            subprocess.run(in_network(self.pid, ip, *words), check=True)

    @property
    def environment(self) -> Mapping[str, str]:
        return {**ahead_by(self.ahead_s, self.folder), "HOST": self.name, "PYTHONPATH": str(ROOT)}

    def clocks(self) -> list[float]:
        """Return what its clocks show, less what the right ones show."""
        command = in_network(self.pid, sys.executable, "-c", _CLOCKS)
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            check=True,
            capture_output=True,
            text=True,
        )
        right = (time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic())
        return [float(text) - now for text, now in zip(done.stdout.split(), right, strict=True)]

    def start(self, url: str, runs: Path, folder: Path) -> ChildProcess:
        """Start the line of the crontab."""
        write = f'echo "$INCUMBENT_TICK $INCUMBENT_ATTEMPT $INCUMBENT_TOKEN $HOST" >> {runs}'
        words = [sys.executable, "-m", "incumbent", "every", LINE, "beat", "--missed", "all"]
        words += ["--store", url, "--ttl", "2", "--", "sh", "-c", write]
        process = ChildProcess(
            f"crontab of {self.name}",
            in_network(self.pid, *words),
            log_path=folder / f"{self.name}.log",
            environment=self.environment,
        )
        process.spawn()
        return process


def play(seconds: float, folder: Path) -> int:
    runs = folder / "runs"
    with ExitStack() as stack:
        hosts = []
        for number, name in enumerate(("early", "late")):
            (folder / name).mkdir()
            space = holder(folder / name)
            stack.callback(space.kill)
            ahead_s = APART_S / 2 * (1 - 2 * number)
            hosts.append(Host(name, number, space.pid, ahead_s, folder))
        for host in hosts:
            host.connect()
            off = host.clocks()
            print(f"{host.name}: wall clock {off[0]:+.1f} s, others {off[1]:+.1f} {off[2]:+.1f} s")
            if abs(off[0] - host.ahead_s) > 1 or max(map(abs, off[1:])) > 1:
                print("BAD: these are not the clocks that were wanted")
                return 1
        addresses = " ".join(host.server for host in hosts)
        settings = (f"bind 127.0.0.1 {addresses}", "protected-mode no")
        redis = stack.enter_context(Redis(folder / "redis", settings=settings))
        url = {host.name: redis.url(address=f"{host.server}:{redis.port}") for host in hosts}
        running = {host.name: host.start(url[host.name], runs, folder) for host in hosts}
        stack.callback(_end, running)
        end, changes = time.monotonic() + seconds, 0
        change_at = time.monotonic() + CHANGE_EVERY_S
        while time.monotonic() < end:
            before = len(lines(runs))
            while len(lines(runs)) == before and time.monotonic() < end:
                time.sleep(0.02)  # sleep: what was written is all that is known of a run
            if time.monotonic() < change_at:
                continue
            time.sleep(BETWEEN_TICKS_S)  # sleep: the run itself is over by then
            name = lines(runs)[-1].where
            number = (signal.SIGKILL, signal.SIGTERM)[changes % 2]
            os.kill(running[name].pid, number)
            running[name].wait(LIMIT_S)
            print(f"{number.name} to {name}, which has run {lines(runs)[-1].tick}", flush=True)
            (host,) = (host for host in hosts if host.name == name)
            running[name] = host.start(url[name], runs, folder)
            changes += 1
            change_at = time.monotonic() + CHANGE_EVERY_S
        verdict = judge(lines(runs), timedelta(seconds=EVERY_S))
        print(f"{LINE!r} on two hosts, {APART_S:g} s apart, {changes} changes: {verdict}")
        for name, process in running.items():
            if not process.running:
                print(f"BAD: {name} has ended: {process.exit_status}\n{process.log_tail()}")
                return 1
    return 0 if verdict.good and len(verdict.by) > 1 else 1


def _end(running: Mapping[str, ChildProcess]) -> None:
    for process in running.values():
        process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.work.hosts", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="incumbent-hosts-") as folder:
        return play(options.seconds, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
