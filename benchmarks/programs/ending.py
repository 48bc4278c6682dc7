"""Work, and what is to end it at a deadline: `python -m benchmarks.programs.ending HOW PATH AFTER`.

The work writes the clock to PATH every half millisecond. HOW is `pidns` or `group`, our containment
with the timer of `incumbent run` in its parent; or `plain`, a parent that sleeps until the deadline
and then kills: what a wrapper does that leaves it to its own code. Prints the deadline, which is
AFTER seconds from now, and then does nothing more of its own accord.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from incumbent.clock import boottime
from incumbent.runtime.contain import Tree
from incumbent.runtime.deadman import DeadMan

WORK = """
import mmap, os, struct, sys, time
page = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), mmap.PAGESIZE)
while True:
    struct.pack_into("=d", page, 0, time.clock_gettime(time.CLOCK_BOOTTIME))
    time.sleep(0.0005)
"""


def main(how: str, path: str, after_s: float) -> None:
    """Run the work, and have it end."""
    command = [sys.executable, "-I", "-S", "-c", WORK, path]
    if how == "plain":
        child = subprocess.Popen(command)
        deadline = boottime() + after_s
        print(deadline, flush=True)
        time.sleep(deadline - boottime())
        child.kill()
        child.wait()
        return
    tree, dead_man = Tree.prepare(how), DeadMan()
    deadline = boottime() + after_s
    tree.extend(deadline)
    dead_man.arm(deadline, "a benchmark")
    tree.start(command)
    print(deadline, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
