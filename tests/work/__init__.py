"""Whole workloads under a nemesis, and a checker that reads nothing but rows and logs.

`python -m tests.work --kind consumer --source redis --items 10000` has three replicas do the work,
on real servers, while they are killed, paused and cut off, and the servers restarted. `replica` is
the program that does the work, `sources` what it is done with, `nemesis` breaks things, and
`checker` says what came of it.

Beside it are programs that each show one thing: `python -m tests.work.dst`, and others.
"""

CUT_OFF = 75
"""With which a replica ends that could not reach its servers at its start."""
