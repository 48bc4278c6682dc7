"""Moves live elections between real stores, and kills the migration behind each of its steps.

    python -m tests.faults.migrating [--pairs sqlite:redis ...] [--steps ...] [--rounds N]

In each round two workers of the old configuration and two of the new one contend, from before the
first step until after the last, each marking while it believes that it holds. The migration is
killed behind one step (or at any instant at all), then undone or not, and run again to its end. In
the end the holder is killed, so that somebody follows who had been kept out for long. `checker`
judges all marks of a round together: overlaps, stale work, and the order of the tokens.
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
from typing import Any

from incumbent.cli.migration import Step
from tests.faults.adapter import Adapter
from tests.faults.checker import Mark, Report, judge
from tests.faults.fleet import PROJECT, Plan, Tail, Watch, Worker
from tests.faults.sql import PostgresqlShedlock
from tests.faults.stores import ADAPTERS

__all__ = ["ANYTIME", "MOVED", "PAIRS", "STEPS", "Round", "main", "started"]

MOVED: dict[str, type[Adapter]] = {**ADAPTERS, "postgresql-shedlock": PostgresqlShedlock}
"""What elections are moved between: more than what faults are tried on."""

PAIRS = (
    "sqlite:file",
    "sqlite:redis",
    "redis:kubernetes",
    "postgresql:etcd",
    "etcd:zookeeper",
    "mysql:consul",
    "consul:kubernetes-session",
    "kubernetes:postgresql",
    "zookeeper:sqlite",
    "file:mysql",
    "postgresql-shedlock:postgresql",
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
LIMIT_S = 90.0
TTL_S = 2.0


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
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._watch = Watch(threading.Event())
        self._log = self.folder / f"{self.name}.log"
        self._tail = Tail(self._log)
        self._chance = random.Random(f"{self.seed}/{self.name}")

    def play(self, step: str) -> Report:
        """Move it, with a death behind `step`, and judge."""
        try:
            self._play(step)
        finally:
            for worker in self.workers:
                worker.end()
            self._tail.close()
        return judge(self.name, [self._log])

    def _play(self, step: str) -> None:
        self._start(self.source, (1, 2))
        self._marked("somebody works", (1, 2))
        if step in BEFORE_NEW:
            self._killed("prepare", step)
        self._prepare()
        self._start(self.target, (3, 4))
        if self.careless:
            self._mover("run", "--careless").communicate(timeout=LIMIT_S)
            self._marked("the new ones work", (3, 4))
            return
        if step not in BEFORE_NEW:
            self._killed("run", step)
        if self.undo and self._done("undo"):
            self._marked("the old ones go on", (1, 2))
        self._done("run")
        holder = self._marked("the new ones work", (3, 4))
        # The others have been kept out all the time: now one of them has to follow, and only one of
        # the new ones.
        by_number = {worker.number: worker for worker in self.workers}
        by_number[holder.worker].process.kill()
        self._marked("another new one follows", (3, 4), holder.token)

    def _start(self, url: str, numbers: Sequence[int]) -> None:
        for number in numbers:
            plan = Plan("library", stubborn=number % 2 == 0)
            worker = Worker(
                number,
                number,
                plan,
                election=self.name,
                url=url,
                ttl_s=TTL_S,
                log=self._log,
                output_dir=self.folder,
            )
            self.workers.append(worker)
        started = self.workers[-len(numbers) :]
        self._watch.until(
            f"{self.name}: workers {numbers} contend",
            LIMIT_S,
            lambda: all(worker.ready for worker in started) or None,
        )

    def _marked(self, what: str, numbers: Sequence[int], after: int = 0) -> Mark:
        """Wait for a mark that one of these workers makes from now on, under a greater token."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

        def look() -> Mark | None:
            mark = self._tail.last()
            if mark is None or mark.worker not in numbers or mark.token <= after:
                return None
            return mark if mark.at_ns > now_ns else None

        return self._watch.until(f"{self.name}: {what}", LIMIT_S, look)

    def _mover(self, what: str, flag: str = "") -> subprocess.Popen[str]:
        words = [self.source, self.target, self.name, what, *filter(None, [flag])]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.mover", *words],
            cwd=PROJECT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _killed(self, what: str, step: str) -> None:
        """Run a migration that dies behind a step, or at an instant that is drawn."""
        mover = self._mover(what, step)
        if step == ANYTIME:
            with contextlib.suppress(subprocess.TimeoutExpired):
                mover.wait(self._chance.uniform(0.2, 1.2))
            mover.kill()
        _, errors = mover.communicate(timeout=LIMIT_S)
        if step != ANYTIME and mover.returncode != -signal.SIGKILL:
            raise AssertionError(f"{self.name}: not killed behind {step!r}: {errors}")

    def _prepare(self) -> None:
        """Prepare, with the URL that the first try tells if tokens would fall."""
        for _ in range(2):
            mover = self._mover("prepare")
            _, errors = mover.communicate(timeout=LIMIT_S)
            found = re.search(r"tokens_from=(\d+)", errors)
            if mover.returncode and found and "tokens_from" not in self.target:
                self.target += f"{'&' if '?' in self.target else '?'}tokens_from={found[1]}"
                continue
            if mover.returncode:
                raise AssertionError(f"{self.name}: {errors}")
            return

    def _done(self, what: str) -> bool:
        """Run a migration to its end; tell whether it did so: what is finished is not undone."""
        mover = self._mover(what)
        _, errors = mover.communicate(timeout=LIMIT_S)
        finished = what == "undo" and "it was finished" in errors
        if mover.returncode and not finished:
            raise AssertionError(f"{self.name}: {what}: {errors}")
        return not finished


def play(pair: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Play the steps of a pair, some rounds each; return a line of the table per step."""
    rounds: int = options.rounds
    rows = []
    with started(pair, folder / "stores") as (source, target):
        lanes = itertools.count()

        def one(step: str, number: int) -> Report:
            lane = next(lanes)
            name = f"move-{lane}"
            marks = folder / "marks"
            marks.mkdir(exist_ok=True)
            urls = source.url(lane), target.url(lane)
            return Round(*urls, name, marks, undo=number % 2 == 1, seed=options.seed).play(step)

        for step in options.steps:
            began_s = time.monotonic()
            with ThreadPoolExecutor(options.parallel) as pool:
                reports = list(pool.map(one, [step] * rounds, range(rounds)))
            total = Report()
            for report in reports:
                total.add(report)
            rows.append(
                {
                    "pair": pair,
                    "killed": step,
                    "rounds": rounds,
                    "takeovers": total.takeovers,
                    "overlaps": len(total.overlaps),
                    "stale_marks": total.stale_marks,
                    "token_mistakes": len(total.token_mistakes),
                    "damaged": len(total.damaged),
                    "verdict": total.verdict(2 * rounds),
                    "took_s": round(time.monotonic() - began_s, 1),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kill migrations between real stores.")
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), metavar="FROM:TO")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--rounds", type=int, default=2, help="of each step; every other is undone")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows = []
    for pair in options.pairs:
        with tempfile.TemporaryDirectory(prefix="migrating-") as folder:
            rows += play(pair, Path(folder), options)
    if options.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print("  ".join(f"{name}={value}" for name, value in row.items()))
    return 0 if all(row["verdict"] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
