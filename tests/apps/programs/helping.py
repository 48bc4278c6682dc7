"""A script that has work, and children of `multiprocessing`: who of them has begun it?

    python -m tests.apps.programs.helping spawn

prints, as JSON, whether each has.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import SimpleQueue

import incumbent

__all__ = ["begun", "begun_by_import", "rest", "tell"]


@incumbent.every("1h", store="memory://helping", deadman=False, background=True)
def rest() -> None:
    """Do nothing."""


def begun() -> bool:
    """Tell whether this process has begun what it had to import beforehand."""
    return rest.running


def begun_by_import() -> bool:
    """Tell whether it begins what it imports in the middle of a task."""
    running: bool = importlib.import_module("tests.apps.programs.helping").begun()
    return running


def tell(queue: SimpleQueue[bool]) -> None:
    """Tell both."""
    queue.put(begun())
    queue.put(begun_by_import())


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    told = {"script": begun()}
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        told["pool"] = pool.submit(begun).result()
        told["pool, by import"] = pool.submit(begun_by_import).result()
    queue: SimpleQueue[bool] = context.SimpleQueue()
    process = context.Process(target=tell, args=(queue,))  # type: ignore[attr-defined]
    process.start()
    told["process"], told["process, by import"] = queue.get(), queue.get()
    process.join()
    print(json.dumps(told))
