"""Work in a child process: if the kernel has to end it, this process lives on."""

import os

import incumbent


def report(term: incumbent.Term) -> int:
    """Work for a moment, and tell which process it was."""
    term.check()
    return os.getpid()


if __name__ == "__main__":
    worker = incumbent.Election("reports").lead(report, isolate=True)
    print("the work ran in", "another process" if worker != os.getpid() else "this process")
