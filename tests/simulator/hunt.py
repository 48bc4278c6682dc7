"""Apply a planted mistake, and have it looked for.

    python -m tests.simulator.hunt "trust counted from the answer"

tries one mistake and prints what found it, and after how many histories; without a name it lists
all, with what they are in and what finds them; `--all` (`make planted`) tries all of them.

A mistake is an edit of sources, made while they are imported, so nothing of incumbent may have been
imported before, and each is tried in a process of its own. That process is a fork of one that has
imported pytest and what others wrote (`ForkServer`): most tests of mistakes take less time than
those imports do.

`make test` tries those in what stores share and all that the simulator finds, and of the others,
most of which start a server, every fifth; of those in the guard every twelfth, and in what answers
evictions every ninth, since an API server takes longer to start than most.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

from tests.apps.dispatch_planted import PLANTED as BEAT
from tests.audit.planted import PLANTED as AUDIT
from tests.consent.planted import PLANTED as CONSENT
from tests.fencing.planted import PLANTED as FENCING
from tests.manifests.planted import PLANTED as GUARD
from tests.simulator.mutants import MUTANTS, Edit, Mutant
from tests.stores.planted import PLANTED
from tests.stores.planted_checkpoints import PLANTED_CHECKPOINTS
from tests.stores.planted_live import PLANTED_LIVE
from tests.stores.planted_locks import PLANTED_LOCKS
from tests.stores.planted_queues import PLANTED_QUEUES
from tests.workloads.periodic_planted import PLANTED as PERIODIC
from tests.workloads.planted import PLANTED as WORKLOADS

if TYPE_CHECKING:
    import pytest

__all__ = ["EVERYTHING", "MOST_HISTORIES", "ForkServer", "Verdict", "of_every_run"]

ROOT = Path(__file__).parents[2]
ON_API_SERVERS = (*CONSENT, *PLANTED_LIVE, *GUARD, *AUDIT)
"""Those whose tests cost an API server each."""
EVERYTHING = (
    *MUTANTS,
    *PLANTED,
    *PLANTED_CHECKPOINTS,
    *PLANTED_LOCKS,
    *PLANTED_QUEUES,
    *FENCING,
    *WORKLOADS,
    *PERIODIC,
    *BEAT,
    *ON_API_SERVERS,
)
MOST_HISTORIES = 1000
LIMIT_S = 10.0
"""How long a test of a mistake waits for what a mistake may keep from happening. Without it, that
takes a fraction of a second, and each of these tests waits longer when it is run for itself.
"""

OF_OTHERS = (
    "h11",
    "hypothesis",
    "kazoo.client",
    "psycopg",
    "pymysql",
    "pytest",
    "pytest_timeout",
    "redis",
    "yaml",
)
"""What tests import, and nothing of incumbent is imported by."""

PYTEST = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout"),
    # It was imported before, and there is nothing in it that is asserted.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


def of_every_run() -> tuple[Mutant, ...]:
    """Return those that are tried by `make test`."""
    others = EVERYTHING[len(MUTANTS) : -len(ON_API_SERVERS)]
    quick = [mutant for mutant in (*others, *ON_API_SERVERS) if not mutant.test]
    slow = [mutant for mutant in others if mutant.test]
    slower = [mutant for mutant in ON_API_SERVERS if mutant.test]
    return (*MUTANTS, *quick, *slow[::5], *slower[::12])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mistake.

    Attributes:
        caught: whether it was found.
        by: the rule or the test that found it, or did not.
        histories: how many the simulator needed.
        text: in what words; of a mistake that could not be tried, why not.
    """

    caught: bool
    by: str
    histories: int = 0
    text: str = ""


# -- the process of one mistake -------------------------------------------------------------------


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles an edited source, and never uses or leaves byte code."""

    def __init__(self, name: str, path: str, edits: Sequence[Edit]) -> None:
        super().__init__(name, path)
        self.edits = edits

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text(encoding="utf-8")
        for edit in self.edits:
            count = text.count(edit.old)
            if count != 1:
                raise ValueError(f"{count} times in {fullname}, and not once:\n{edit.old}")
            text = text.replace(edit.old, edit.new)
        return compile(text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, edits: Sequence[Edit]) -> None:
        self.edits = edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        edits = [edit for edit in self.edits if edit.module == fullname]
        if not edits:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            raise ImportError(fullname)
        loader = _Loader(fullname, spec.origin, edits)
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


class _Failures:
    """A plugin of pytest that keeps why tests failed; a server that could not be had is no find."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.when == "call":
            lines = [line for line in report.longreprtext.splitlines() if line.startswith("E ")]
            self.texts.append(lines[0] if lines else "failed")


def _try(mutant: Mutant) -> Verdict:
    """Import the mutant and have it looked for."""
    sys.meta_path.insert(0, _Finder(mutant.edits))
    for edit in mutant.edits:
        importlib.import_module(edit.module)
    if mutant.test:
        return _test(mutant.test)
    from incumbent.testing.simulator import simulate

    for seed in range(MOST_HISTORIES):
        outcome = simulate(seed, store=mutant.store)
        if outcome.rule:
            return Verdict(True, outcome.rule, seed + 1, outcome.text)
    return Verdict(False, "the simulator", MOST_HISTORIES)


def _test(test: str) -> Verdict:
    import pytest

    from incumbent.testing.conformance import kit

    kit.EVENT_LIMIT_S = LIMIT_S
    os.environ["LIMIT_OF_TESTS_S"] = str(LIMIT_S)
    # A folder of its own: pytest's usual one is swept by all that run at the same time.
    with contextlib.redirect_stdout(io.StringIO()) as said, tempfile.TemporaryDirectory() as folder:
        failures = _Failures()
        code = pytest.main([*PYTEST, f"--basetemp={folder}/t", str(ROOT / test)], [failures])
    if failures.texts:
        return Verdict(True, test, text=failures.texts[0])
    return Verdict(False, test, text="" if code == pytest.ExitCode.OK else said.getvalue())


# -- many, one after the other --------------------------------------------------------------------


def _serve(orders: Iterable[str], answers: int) -> None:
    """Try each mistake whose name is a line of `orders`, in a fork of this process."""
    for module in OF_OTHERS:
        importlib.import_module(module)
    by_name = {mutant.name: mutant for mutant in EVERYTHING}

    def answer(name: str, verdict: Verdict) -> None:
        os.write(answers, json.dumps([name, asdict(verdict)]).encode() + b"\n")

    for line in orders:
        name = line.rstrip("\n")
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # What tests start must read no orders.
            try:
                answer(name, _try(by_name[name]))
            except BaseException:
                answer(name, Verdict(False, "nobody", text=traceback.format_exc()))
            os._exit(0)  # What a test has left (threads, a keeper) is waited for by nobody.
        _, status = os.waitpid(child, 0)
        if status != 0:
            text = f"ended with {os.waitstatus_to_exitcode(status)} and without a verdict"
            answer(name, Verdict(False, "nobody", text=text))


class ForkServer:
    """The process whose forks try mistakes."""

    def __init__(self) -> None:
        path = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
        reader, writer = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulator.hunt", "--serve", str(writer)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.PIPE,
            # Tests start programs that write; the answers have a way of their own.
            stdout=subprocess.DEVNULL,
            pass_fds=[writer],
            text=True,
            start_new_session=True,
        )
        os.close(writer)
        self._answers = os.fdopen(reader, encoding="utf-8")

    def hunt(self, mutant: Mutant) -> Verdict:
        """Try a mistake."""
        assert self._process.stdin is not None
        self._process.stdin.write(mutant.name + "\n")
        self._process.stdin.flush()
        for line in self._answers:
            name, verdict = json.loads(line)
            if name == mutant.name:  # Else nobody waited any more for one that took too long.
                return Verdict(**verdict)
        return Verdict(False, "nobody", text=f"exit status {self._process.wait()}")

    def close(self) -> None:
        """End the process, and whatever is still being tried in it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with self._process:
            self._answers.close()


def _try_all() -> int:
    missed = 0
    servers: SimpleQueue[ForkServer] = SimpleQueue()

    def hunt(mutant: Mutant) -> Verdict:
        server = servers.get()
        try:
            return server.hunt(mutant)
        finally:
            servers.put(server)

    with contextlib.ExitStack() as stack:
        workers = 4
        for _ in range(workers):
            servers.put(stack.enter_context(contextlib.closing(ForkServer())))
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        tried = zip(EVERYTHING, pool.map(hunt, EVERYTHING), strict=True)
        for count, (mutant, verdict) in enumerate(tried, 1):
            missed += not verdict.caught
            word = "found" if verdict.caught else f"NOT FOUND {verdict.text}"
            sys.stdout.write(f"[{count}/{len(EVERYTHING)}] {mutant.name}: {word}\n")
            sys.stdout.flush()
    return 1 if missed else 0


def main() -> None:
    match sys.argv[1:]:
        case []:
            for mutant in EVERYTHING:
                modules = " ".join(sorted({edit.module for edit in mutant.edits}))
                found_by = mutant.test or f"simulator --store {mutant.store}"
                sys.stdout.write(f"{mutant.name}\n    in {modules}\n    found by {found_by}\n")
        case ["--all"]:
            sys.exit(_try_all())
        case ["--serve", answers]:
            _serve(sys.stdin, int(answers))
        case [name, *_]:
            mutant = next(mutant for mutant in EVERYTHING if mutant.name == name)
            with contextlib.closing(ForkServer()) as server:
                sys.stdout.write(json.dumps(asdict(server.hunt(mutant))) + "\n")


if __name__ == "__main__":
    main()
