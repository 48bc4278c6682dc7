"""Kill holders of a folder before each of their steps, have successors go on, and judge.

    python -m tests.workloads.polling.crashes [--pairs N|all] [--seed N]

Each step once with one crash, and pairs of steps with two. A judge looks at the folder and at the
log of the handlers alone. It forks, so it is a program of its own.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.workloads.polling.stepping import RETRIES, Log, hold, killed_before, pending, tree

FILES = ("a", "b-poison", "c")
MOST_STEPS = 200


def judge(inbox: Path, log: Log, crashes: int) -> list[str]:
    """Return what is wrong."""
    wrong: list[str] = []
    found = tree(inbox)
    lines = log.lines()
    for name in FILES:
        folder = "failed" if "poison" in name else "done"
        if found.pop(f"{folder}/{name}", None) != f"the text of {name}":
            wrong.append(f"{name} is not in {folder}, as it was")
        attempts = [attempt for file, attempt, _ in lines if file == name]
        most = 1 + crashes if folder == "done" else 1 + RETRIES + crashes
        if not 1 <= len(attempts) <= most:
            wrong.append(f"{name} was handled {len(attempts)} times")
        if attempts != sorted(set(attempts)):
            wrong.append(f"{name} had the attempts {attempts}")
    found.pop("failed/b-poison.error", None)
    if found:
        wrong.append(f"left over: {', '.join(found)}")
    order = [name for name, _, _ in lines]
    if order != sorted(order):
        wrong.append(f"the order was {order}")
    return wrong


Death = Callable[[int, Path, Log, int], bool]


def play(folder: Path, dies: Death, *deaths: int) -> tuple[bool, list[str]]:
    """Let a holder die before each of these steps, and one live; return whether all died."""
    inbox = folder / "inbox"
    inbox.mkdir()
    for name in FILES:
        (inbox / name).write_text(f"the text of {name}")
    log = Log(folder / "log")
    died = [dies(step, inbox, log, token) for token, step in enumerate(deaths, 1)]
    failure = hold(inbox, log, len(deaths) + 1)
    wrong = judge(inbox, log, len(deaths))
    if failure is not None:
        wrong.append(f"the last holder failed: {failure!r}")
    if pending(inbox):
        wrong.append(f"pending: {pending(inbox)}")
    return all(died), wrong


def play_all(root: Path, dies: Death, pairs: str, seed: int = 1) -> list[str]:
    """Play each step with one death, and pairs of steps with two; return what is wrong.

    The last line says how much was played.
    """
    plays = 0
    failures: list[str] = []

    def played(*deaths: int) -> bool:
        nonlocal plays
        plays += 1
        folder = root / str(plays)
        folder.mkdir()
        died, wrong = play(folder, dies, *deaths)
        failures.extend(f"dead before {deaths}: {text}" for text in wrong)
        return died

    steps = next(step for step in range(1, MOST_STEPS) if not played(step)) - 1
    both = [(first, second) for first in range(1, steps + 1) for second in range(1, steps + 1)]
    if pairs != "all":
        both = random.Random(seed).sample(both, int(pairs))
    for pair in both:
        played(*pair)
    if steps < len(FILES) * 3:
        failures.append(f"only {steps} steps were found")
    return [*failures, f"{steps} steps, {plays} plays, {len(failures)} failures"]


def main(arguments: list[str]) -> int:
    """Play, and say what was found."""
    parser = argparse.ArgumentParser(description="Crash tests of claims")
    parser.add_argument("--pairs", default="20")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        lines = play_all(Path(name), killed_before, options.pairs, options.seed)
    print("\n".join(lines))
    return 0 if len(lines) == 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
