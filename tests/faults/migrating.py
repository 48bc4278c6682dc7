"""Moves live elections between real stores, and kills the migration behind each of its steps.

    python -m tests.faults.migrating [--pairs sqlite:redis ...] [--steps ...] [--rounds N]

In each round two workers of the old configuration and two of the new one contend, from before the
first step until after the last, each marking while it believes that it holds. The migration is
killed behind one step (or at any instant at all), then undone or not, and run again to its end. In
the end the holder is killed, so that somebody follows who had been kept out for long. `checker`
judges all marks of a round together: overlaps, stale work, and the order of the tokens.

Whoever is ended by his own timer is started again, as whatever looks after processes would do it
(`Round.revive`): on a machine that is too busy for the TTL that is the promise, and no outage. How
often it came to that stands in the table (`revived`), and how often a migration was not elected in
time and was given again (`again`). Any other end of a worker or a migration fails the round.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from incumbent.cli.migration import Step
from incumbent.errors import NotElected
from tests.faults.adapter import Adapter
from tests.faults.checker import VIOLATED, Mark, Report, judge
from tests.faults.fleet import PROJECT, Late, Plan, Tail, Watch, Worker
from tests.faults.kubernetes import KubernetesConfigMap
from tests.faults.redis import RedisPy
from tests.faults.sql import PostgresqlShedlock
from tests.faults.stores import ADAPTERS
from tests.servers.process import ServerError

__all__ = ["ANYTIME", "LIMIT_S", "MOVED", "PAIRS", "STEPS", "Round", "main", "started"]

MOVED: dict[str, type[Adapter]] = {
    **ADAPTERS,
    "kubernetes-configmap": KubernetesConfigMap,
    "postgresql-shedlock": PostgresqlShedlock,
    "redis-py": RedisPy,
}
"""What elections are moved between: more than what faults are tried on."""

PAIRS = (
    "sqlite:file",
    "sqlite:redis",
    "redis:kubernetes",
    "kubernetes-configmap:kubernetes",
    "postgresql:etcd",
    "etcd:zookeeper",
    "mysql:consul",
    "consul:kubernetes-session",
    "kubernetes:kubernetes-endpointslice",
    "kubernetes:postgresql",
    "zookeeper:sqlite",
    "file:mysql",
    "postgresql-shedlock:postgresql",
    "redis-py:redis",
)
ANYTIME = "any time"
STEPS = (
    *(
        step.value
        for step in (
            Step.BEGUN,
            Step.TARGET_HELD,
            Step.PREPARED,
            Step.SOURCE_HELD,
            Step.SOURCE_BARRED,
            Step.RENEWED,
        )
    ),
    ANYTIME,
)
BEFORE_NEW = (Step.TARGET_HELD.value, Step.PREPARED.value)
"""Steps of the preparation, at which no candidate of TO may run yet."""
LIMIT_S = 300.0
"""A busy machine is no failure, a hang is one."""
TRIES = 3
MOVERS_TTLS = 2
"""The TTL of a migration's own terms, in those of the candidates: it is longer by default, too."""
LEAST_TTL_S = 2.0
"""Longer where one of the two stores needs it; see `Adapter.least_ttl_s`."""


@contextlib.contextmanager
def started(pair: str, folder: Path) -> Iterator[tuple[Adapter, Adapter]]:
    """Start the servers of both stores."""
    adapters = [
        MOVED[name](folder / f"{place}-{name}") for place, name in enumerate(pair.split(":"))
    ]
    with contextlib.ExitStack() as stack:
        for adapter in adapters:
            stack.callback(adapter.stop)
            adapter.start()
        yield adapters[0], adapters[1]


class _Ran(NamedTuple):
    """How a migration ended, and what it said of it."""

    status: int
    errors: str


@dataclass
class Round:
    """One election on its way."""

    source: str
    target: str
    name: str
    folder: Path
    undo: bool = False
    careless: bool = False
    seed: int = 0
    ttl_s: float = LEAST_TTL_S
    workers: list[Worker] = field(default_factory=list)
    revived: int = 0
    again: int = 0

    def __post_init__(self) -> None:
        self._watch = Watch(threading.Event())
        self._log = self.folder / f"{self.name}.log"
        self._tail = Tail(self._log)
        self._chance = random.Random(f"{self.seed}/{self.name}")

    def play(self, step: str) -> Report:
        """Move it, with a death behind `step`, and judge."""
        with self.contending():
            self._play(step)
        return self.judged()

    def judged(self) -> Report:
        """Return what is to be said of all that was marked, however far it came."""
        return judge(self.name, [self._log])

    @contextlib.contextmanager
    def contending(self) -> Iterator[None]:
        """Have the workers of FROM work, and end all workers."""
        try:
            self._start(self.source, (1, 2))
            self.marked("somebody works", (1, 2))
            yield
        finally:
            for worker in self.workers:
                worker.end()
            self._tail.close()

    def _play(self, step: str) -> None:
        if step in BEFORE_NEW:
            self._killed("prepare", step)
        self._prepare()
        self._start(self.target, (3, 4))
        if self.careless:
            self._ran("run", "--careless")
            self.marked("the new ones work", (3, 4))
            return
        if step not in BEFORE_NEW:
            self._killed("run", step)
        if self.undo and self._done("undo"):
            self.marked("the old ones go on", (1, 2))
        self._done("run")
        holder = self.marked("the new ones work", (3, 4))
        # The others have been kept out all the time: now one of them has to follow, and only one of
        # the new ones.
        worker = next(worker for worker in self.workers if worker.number == holder.worker)
        self.workers.remove(worker)
        worker.end()
        self.marked("another new one follows", (3, 4), holder.token)

    def _start(self, url: str, numbers: Sequence[int]) -> None:
        started = [self._worker(number, url) for number in numbers]
        self.workers += started
        self._watch.until(
            f"{self.name}: workers {numbers} contend",
            LIMIT_S,
            lambda: all(worker.ready for worker in started) or None,
        )

    def _worker(self, number: int, url: str) -> Worker:
        return Worker(
            number,
            number,
            Plan("library", stubborn=number % 2 == 0),
            election=self.name,
            url=url,
            ttl_s=self.ttl_s,
            log=self._log,
            output_dir=self.folder,
        )

    def revive(self) -> None:
        """Start again whoever was ended by his timer: with the same URL, and as somebody new.

        Raises:
            Late: one has ended in another way.
        """
        for place, worker in enumerate(self.workers):
            status = worker.process.exit_status
            if status is None:
                continue
            if status != -signal.SIGKILL:
                name, log = worker.process.name, worker.process.log_tail()
                raise Late(f"{name} ended with status {status}\n{log}")
            self.workers[place] = self._worker(worker.number, worker.url)
            self.revived += 1

    def marked(self, what: str, numbers: Sequence[int], after: int = 0) -> Mark:
        """Wait for a mark that one of these workers makes from now on, under a greater token.

        Raises:
            Late: there was none, or a worker has ended as none should.
        """
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

        def look() -> Mark | None:
            self.revive()
            mark = self._tail.last()
            if mark is None or mark.worker not in numbers or mark.token <= after:
                return None
            return mark if mark.at_ns > now_ns else None

        return self._watch.until(f"{self.name}: {what}", LIMIT_S, look)

    def _ran(self, what: str, flag: str = "", *, kill_after_s: float | None = None) -> _Ran:
        """Run a migration, again if it could not be elected: that is what it asks for then.

        Args:
            what: a method of `Migration`.
            flag: see `mover`.
            kill_after_s: when to kill it; None lets it end by itself.
        """
        words = [self.source, self.target, self.name, f"{MOVERS_TTLS * self.ttl_s:g}", what]
        for left in reversed(range(TRIES)):
            mover = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.mover", *words, *filter(None, [flag])],
                cwd=PROJECT,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                if kill_after_s is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        mover.wait(kill_after_s)
                    mover.kill()
                _, errors = mover.communicate(timeout=LIMIT_S)
            finally:
                mover.kill()
            again = mover.returncode and errors.startswith(NotElected.__name__)
            if not (again and left):
                return _Ran(mover.returncode, errors)
            self.again += 1
        raise AssertionError("the last try has returned")

    def _killed(self, what: str, step: str) -> None:
        """Run a migration that dies behind a step, or at an instant that is drawn."""
        if step == ANYTIME:
            self._ran(what, kill_after_s=self._chance.uniform(0.2, 1.2))
            return
        ran = self._ran(what, step)
        if ran.status != -signal.SIGKILL:
            raise AssertionError(f"{self.name}: not killed behind {step!r}: {ran.errors}")

    def _prepare(self) -> None:
        """Prepare, with the URL that the first try tells if tokens would fall."""
        for _ in range(2):
            ran = self._ran("prepare")
            found = re.search(r"tokens_from=(\d+)", ran.errors)
            if ran.status and found and "tokens_from" not in self.target:
                self.target += f"{'&' if '?' in self.target else '?'}tokens_from={found[1]}"
                continue
            if ran.status:
                raise AssertionError(f"{self.name}: {ran.errors}")
            return

    def _done(self, what: str) -> bool:
        """Run a migration to its end; tell whether it did so: what is finished is not undone."""
        ran = self._ran(what)
        finished = what == "undo" and "it was finished" in ran.errors
        if ran.status and not finished:
            raise AssertionError(f"{self.name}: {what}: {ran.errors}")
        return not finished


def play(pair: str, folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Play the steps of a pair, some rounds each; yield a line of the table per step."""
    rounds: int = options.rounds
    with started(pair, folder / "stores") as (source, target):
        lanes = itertools.count()
        ttl_s = max(LEAST_TTL_S, source.least_ttl_s, target.least_ttl_s)

        def one(step: str, number: int) -> tuple[Round, Report, str]:
            lane = next(lanes)
            name = f"move-{lane}"
            marks = folder / "marks"
            marks.mkdir(exist_ok=True)
            urls = source.url(lane), target.url(lane)
            undo = number % 2 == 1
            moved = Round(*urls, name, marks, undo=undo, seed=options.seed, ttl_s=ttl_s)
            try:
                return moved, moved.play(step), ""
            except Exception as error:  # The other pairs are worth their run.
                return moved, moved.judged(), f"{step}: {error!r}"

        for step in options.steps:
            began_s = time.monotonic()
            with ThreadPoolExecutor(options.parallel) as pool:
                played = list(pool.map(one, [step] * rounds, range(rounds)))
            total = Report()
            for _, report, _ in played:
                total.add(report)
            verdict = total.verdict(2 * rounds)
            failures = [failure for _, _, failure in played if failure]
            for line in [*total.violations, *failures]:
                print(f"{pair}: {line}", file=sys.stderr, flush=True)
            yield {
                "pair": pair,
                "killed": step,
                "ttl_s": ttl_s,
                "rounds": rounds,
                "takeovers": total.takeovers,
                "overlaps": len(total.overlaps),
                "stale_marks": total.stale_marks,
                "token_mistakes": len(total.token_mistakes),
                "damaged": len(total.damaged),
                "again": sum(moved.again for moved, _, _ in played),
                "revived": sum(moved.revived for moved, _, _ in played),
                "verdict": "FAILED" if failures and verdict != VIOLATED else verdict,
                "took_s": round(time.monotonic() - began_s, 1),
            }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kill migrations between real stores.")
    parser.add_argument("--pairs", nargs="+", action="extend", metavar="FROM:TO")
    parser.add_argument("--steps", nargs="+", action="extend", choices=STEPS)
    parser.add_argument("--rounds", type=int, default=2, help="of each step; every other is undone")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    options.steps = options.steps or list(STEPS)
    for pair in options.pairs or PAIRS:
        with tempfile.TemporaryDirectory(prefix="migrating-") as folder:
            try:
                for row in play(pair, Path(folder), options):
                    rows.append(row)
                    print(json.dumps(row), file=sys.stderr, flush=True)
            except ServerError as error:
                print(f"{pair}: {error}", file=sys.stderr, flush=True)
                rows.append({"pair": pair, "verdict": "FAILED"})
    if options.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print("  ".join(f"{name}={value}" for name, value in row.items()))
    return 0 if all(row["verdict"] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
