"""A periodic task: one run per tick, in one of all the processes that have it. Ctrl-C ends it."""

import sys

import incumbent


@incumbent.every("2s", missed="all")
def report(tick: incumbent.Tick) -> None:
    """Act for one tick, if the term is still ours."""
    tick.check()
    print("reporting for", tick.id, "with token", tick.token, flush=True)


if __name__ == "__main__":
    try:
        report.run()
    except KeyboardInterrupt:  # By then the run has ended, and the term was given up.
        sys.exit(130)
