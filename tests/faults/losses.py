"""Servers that forget what they confirmed: what is lost with it, and what a fence still holds.

    python -m tests.faults.losses
    python -m tests.faults.losses --store postgresql --loss promoted --rounds 5

The promise ends where a server loses what it confirmed (`forgetful` says in which ways). Two may
believe then that they hold. What they do is decided by the fence, where the guarded data live on:
here in a database of its own, which forgets nothing.

A round: an election that had a holder before and is vacant. What is written from now on will be
forgotten. A worker is elected and works, another one waits. Then the server forgets, whoever waits
is led to the server that forgot, and a newcomer, who has seen nothing, comes as well. The round is
over when somebody works under another token, and the old holder has tried to write `ENOUGH` times
since. Where his server lives on he believes for as long as it does: the greatest overlap is then as
long as the round looks on, and no bound.

Columns: `overlaps` are the rounds in which two believed at once, `greatest` is the longest in
milliseconds; `refused` are the old holder's writes that the fence refused, `in rounds` how many
rounds had one; `let through` are writes of a smaller token after one of a greater; `others` are
refused writes of other terms, and `tokens` terms whose token was not greater than all before: there
are some if the old primary, which lives on, has another term begin after that of the new one.

Exit status 0 only if nothing was let through, and the old holder was refused in every round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.faults import checker
from tests.faults.checker import Mark
from tests.faults.fenced import InPostgres, Ledger, open_ledger
from tests.faults.fleet import PROJECT, Tail, Watch
from tests.faults.forgetful import LOSSES, SERVERS, Forgetful
from tests.faults.results import aligned
from tests.servers.postgresql import Postgres
from tests.servers.process import ChildProcess
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

__all__ = ["Outcome", "main"]

T = TypeVar("T")

ENOUGH = 20
"""Writes of the old holder after which a round is over."""
LATEST_S = 60.0
"""What any step may take beyond three TTLs: a busy machine is no failure, a hang is one."""
COLUMNS = (
    *("store", "loss", "rounds", "overlaps", "greatest", "refused", "in rounds", "let through"),
    *("others", "tokens"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a round."""

    store: str
    loss: str
    overlaps: int
    overlap_ns: int
    refused: int
    let_through: int
    others_refused: int
    token_mistakes: int


class Round:
    """One election, its workers, and what they wrote."""

    def __init__(
        self, election: str, ledger_url: str, folder: Path, watch: Watch, ttl_s: float, apart: bool
    ) -> None:
        self._election = election
        self._ledger_url = ledger_url
        self._ledger: Ledger = open_ledger(ledger_url)
        self._folder = folder
        self._watch = watch
        self._ttl_s = ttl_s
        self._flags = ["--apart"] * apart
        self._tail = Tail(folder / f"{election}.log")
        self._workers: list[ChildProcess] = []

    def run(self, server: Forgetful, loss: str) -> None:
        """Let the server forget, and look on; the judgement is `judge`."""
        address = server.begin(loss)
        with Proxy(*address) as way:
            moved = server.url(("127.0.0.1", way.port))
            # What is old says that the election is vacant.
            self._start(server.url(address), "--once").wait(LATEST_S)
            server.remember()
            self._start(server.url(address))
            old = self._until("somebody works", self._tail.last)
            self._until("he has written", lambda: old.token in self._tokens() or None)
            waiting = self._start(moved)
            self._until("another one waits", lambda: "standby" in _output(waiting) or None)
            way.retarget(*server.forget())
            self._start(moved)
            self._until("the old holder has been heard", lambda: self._heard(old) or None)

    def judge(self, store: str, loss: str) -> Outcome:
        """Judge from the marks and from what stands in the ledger."""
        report = checker.judge(self._election, [self._tail.path])
        first = self._tokens()[0]
        refused = self._refused()
        return Outcome(
            store,
            loss,
            overlaps=len(report.overlaps),
            overlap_ns=report.overlap_ns,
            refused=refused[first],
            let_through=_let_through(self._tokens()),
            others_refused=refused.total() - refused[first],
            token_mistakes=len(report.token_mistakes),
        )

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.kill()
        self._tail.close()
        self._ledger.close()

    def _heard(self, old: Mark) -> bool:
        """Tell whether others work, and the old holder has tried to often enough since."""
        tokens, refused = self._tokens(), self._refused()
        others = any(token != old.token for token in (*tokens, *refused))
        return others and max(refused.values(), default=0) + _let_through(tokens) >= ENOUGH

    def _tokens(self) -> list[int]:
        return self._ledger.tokens(self._election)

    def _refused(self) -> Counter[int]:
        """Return how many writes of each token were refused."""
        text = "".join(map(_output, self._workers))
        return Counter(map(int, re.findall(r"^refused (\d+)$", text, re.MULTILINE)))

    def _until(self, what: str, look: Callable[[], T | None]) -> T:
        text = f"{self._election}: {what}"
        return self._watch.until(text, 3 * self._ttl_s + LATEST_S, look)

    def _start(self, url: str, *flags: str) -> ChildProcess:
        number = len(self._workers) + 1
        process = ChildProcess(
            f"worker {number} of {self._election}",
            [
                *(sys.executable, "-m", "tests.faults.fenced"),
                *(self._election, self._tail.path, str(number), self._ledger_url),
                *(*self._flags, *flags),
            ],
            log_path=self._folder / f"{self._election}-{number}.txt",
            environment={
                "PYTHONPATH": str(PROJECT),
                "INCUMBENT_STORE": url,
                "INCUMBENT_TTL": f"{self._ttl_s:g}",
                "INCUMBENT_IDENTITY": f"worker-{number}",
            },
            working_dir=PROJECT,
        )
        self._workers.append(process)
        process.spawn()
        return process


def _output(worker: ChildProcess) -> str:
    return worker.log_path.read_text(encoding="utf-8", errors="replace")


def _let_through(tokens: list[int]) -> int:
    """Count the writes of a smaller token after one of a greater."""
    found = highest = 0
    for token in tokens:
        found += token < highest
        highest = max(highest, token)
    return found


# -- all rounds -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done for one line of the table."""

    store: str
    loss: str
    rounds: int
    parallel: int
    ttl_s: float
    apart: bool


def run(plan: Plan, folder: Path, stop: threading.Event) -> list[Outcome]:
    """Do all rounds of one line, side by side."""
    watch = Watch(stop)
    ledger = Postgres() if plan.store == "postgresql" else Redis(folder / "ledger")
    lanes = max(1, min(plan.parallel, plan.rounds))
    with ledger:
        try:
            url = ledger.url()
            if isinstance(ledger, Postgres):
                InPostgres.create(url)

            def lane(number: int) -> list[Outcome]:
                server = SERVERS[plan.store](folder / f"lane-{number}", watch)
                try:
                    return [
                        _one(plan, server, f"round-{index}", url, folder, watch)
                        for index in range(number, plan.rounds, lanes)
                    ]
                except BaseException:
                    stop.set()
                    raise
                finally:
                    server.close()

            with ThreadPoolExecutor(lanes) as pool:
                futures = [pool.submit(lane, number) for number in range(lanes)]
            return [outcome for future in futures for outcome in future.result()]
        finally:
            ledger.kill()
            if isinstance(ledger, Postgres):
                ledger.remove_data()


def _one(
    plan: Plan, server: Forgetful, election: str, url: str, folder: Path, watch: Watch
) -> Outcome:
    one = Round(election, url, folder, watch, plan.ttl_s, plan.apart)
    try:
        one.run(server, plan.loss)
        return one.judge(plan.store, plan.loss)
    finally:
        one.close()
        server.end()


def row(outcomes: list[Outcome]) -> list[str]:
    """Return the cells of one line."""
    first = outcomes[0]
    overlaps = sum(outcome.overlaps > 0 for outcome in outcomes)
    greatest_ns = max(outcome.overlap_ns for outcome in outcomes)
    numbers = (
        sum(outcome.refused for outcome in outcomes),
        sum(outcome.refused > 0 for outcome in outcomes),
        sum(outcome.let_through for outcome in outcomes),
        sum(outcome.others_refused for outcome in outcomes),
        sum(outcome.token_mistakes for outcome in outcomes),
    )
    greatest = f"{greatest_ns / 1e6:.0f}" if overlaps else "0"
    return [
        first.store,
        first.loss,
        f"{len(outcomes)}",
        f"{overlaps}",
        greatest,
        *map(str, numbers),
    ]


def is_good(outcome: Outcome) -> bool:
    """Tell whether the fence held."""
    return outcome.refused > 0 and not outcome.let_through


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.losses", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", nargs="+", action="extend", choices=SERVERS)
    parser.add_argument("--loss", nargs="+", action="extend", choices=LOSSES)
    parser.add_argument("--rounds", type=int, default=20, help="of each line [20]")
    parser.add_argument("--parallel", type=int, default=4, help="rounds side by side [4]")
    parser.add_argument("--ttl", type=float, default=2.0, metavar="S", help="[2]")
    parser.add_argument("--json", action="store_true", help="each round, on standard output")
    parser.add_argument(
        "--apart",
        action="store_true",
        help="plant the mistake that has to be found: each term names its fence differently",
    )
    options = parser.parse_args(arguments)
    options.store = options.store or list(SERVERS)
    options.loss = options.loss or list(LOSSES)
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    folder = Path(tempfile.mkdtemp(prefix="incumbent-losses-"))
    stop = threading.Event()
    lines: list[list[Outcome]] = []
    for store in options.store:
        for loss in options.loss:
            plan = Plan(store, loss, options.rounds, options.parallel, options.ttl, options.apart)
            place = folder / f"{store}-{loss}"
            place.mkdir()
            lines.append(run(plan, place, stop))
            print(" ".join(row(lines[-1])), file=sys.stderr, flush=True)
    outcomes = [outcome for line in lines for outcome in line]
    if options.json:
        print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1))
    else:
        print(aligned([list(COLUMNS), *map(row, lines)], words=2))
    good = all(map(is_good, outcomes))
    if good:
        shutil.rmtree(folder)
    else:
        print(f"the logs are in {folder}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
