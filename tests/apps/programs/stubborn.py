"""A Flask application whose work will not stop, and has a process of its own for that."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing

from flask import Flask, Response, jsonify
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import incumbent
from incumbent.apps.wsgi import status

LEDGER = os.environ["LEDGER"]


@incumbent.every("1s", ttl_s=2, background=True, isolate=True)
def count(tick: incumbent.Tick) -> None:
    """Note the tick; and then go on for ever, whatever the term says."""
    with closing(sqlite3.connect(LEDGER, timeout=30)) as db, db:
        db.execute("INSERT INTO done VALUES ('count', ?, ?, ?)", (tick.id, tick.token, os.getpid()))
    while True:
        time.sleep(60)


app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/work": status(count)})  # type: ignore[method-assign]


@app.get("/orders")
def orders() -> Response:
    """Answer, in every worker."""
    return jsonify(worker=os.getpid())
