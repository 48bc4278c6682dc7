"""A Flask application under the reloader: one process watches its files, and another one serves.

Started as a program it is served by `app.run`.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing

from flask import Flask, Response, jsonify

import incumbent

__all__ = ["app", "count"]


@incumbent.every("100ms", ttl_s=6, background=True)
def count(tick: incumbent.Tick) -> None:
    """Note the tick."""
    with closing(sqlite3.connect(os.environ["LEDGER"], timeout=30)) as db, db:
        db.execute("INSERT INTO done VALUES ('count', ?, ?, ?)", (tick.id, tick.token, os.getpid()))


app = Flask(__name__)


@app.get("/orders")
def orders() -> Response:
    """Answer, and tell who serves."""
    return jsonify(worker=os.getpid())


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), debug=True)
