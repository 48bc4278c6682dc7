"""Thirty shards over as many replicas as you start. End one with Ctrl-C, and see the others."""

import logging
import signal
import sys

import incumbent

logging.basicConfig(stream=sys.stdout, format="%(message)s")
log = logging.getLogger("shards")
log.setLevel(logging.INFO)


def work(term: incumbent.Term) -> None:
    """Work on one shard, for as long as this replica holds it."""
    log.info("begins %s with fencing token %d", term.name, term.token)
    while not term.lost.wait(1.0):
        term.check()
    log.info("ends %s", term.name)


spread = incumbent.Spread("shards", [f"shard-{number}" for number in range(30)], work)
signal.signal(signal.SIGTERM, lambda *_: spread.stop())
signal.signal(signal.SIGINT, lambda *_: spread.stop())
spread.run()
