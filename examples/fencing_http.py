"""A service does the work, over HTTP, and refuses the token of a leader that has a successor."""

import sqlite3
import sys
import threading
import urllib.error
import urllib.request
from contextlib import closing
from wsgiref.simple_server import make_server

import incumbent
from incumbent.errors import StaleToken
from incumbent.fencing.http.wsgi import FencingMiddleware
from incumbent.fencing.sql import TABLE

LEDGER = sys.argv[1] if len(sys.argv) > 1 else "ledger.db"


# The service. It may have any number of workers: what it has seen is in the database.
def pay(environ, start_response):
    fence = environ["incumbent.fence"]
    with closing(sqlite3.connect(LEDGER)) as db, db:
        fence.sql(db)  # raises StaleToken if a later leader was here, and 412 is answered
        db.execute("INSERT INTO payment VALUES (?)", (fence.token,))
    start_response("201 Created", [("Content-Length", "0")])
    return []


# The leader.
def send(fence, headers):
    request = urllib.request.Request(URL, data=b"", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            fence.http_result(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        fence.http_result(error.code, error.read())  # raises StaleToken if that is why
        raise


with closing(sqlite3.connect(LEDGER)) as db:
    db.execute(TABLE)
    db.execute("CREATE TABLE IF NOT EXISTS payment (token INTEGER NOT NULL)")

with make_server("127.0.0.1", 0, FencingMiddleware(pay, resource="ledger")) as server:
    URL = f"http://127.0.0.1:{server.server_port}/payments"
    threading.Thread(target=server.serve_forever, daemon=True).start()

    election = incumbent.Election("ledger")
    with election.hold() as term:
        old = term.fence("ledger")
        late = old.http()  # raises LeadershipLost if the term is over; this request is held up
    with election.hold() as term:
        fence = term.fence("ledger")
        send(fence, fence.http())
        print("paid with", fence.token)
    try:
        send(old, late)
    except StaleToken as error:
        print("refused:", error)
    server.shutdown()
