"""A periodic task: one run per tick, in one of all the processes that have it."""

import incumbent


@incumbent.every("2s", missed="all")
def report(tick: incumbent.Tick) -> None:
    """Act, if the term is still ours."""
    tick.check()
    print("reporting for", tick.id, "with token", tick.token, flush=True)


if __name__ == "__main__":
    report.run()
