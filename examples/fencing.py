"""Seal, then read, then write under the token: what a clock cannot rule out, a token does."""

import sqlite3

import incumbent
from incumbent.fencing.sql import TABLE

db = sqlite3.connect("ledger.db")
db.execute(TABLE)
db.execute("CREATE TABLE IF NOT EXISTS entry (token INTEGER NOT NULL, amount INTEGER NOT NULL)")

with incumbent.Election("ledger").hold() as term:
    fence = term.fence("ledger")
    with db:
        fence.sql(db)  # raises StaleToken if a later leader was here
        balance = db.execute("SELECT coalesce(sum(amount), 0) FROM entry").fetchone()[0]
        db.execute("INSERT INTO entry VALUES (?, ?)", (term.token, 100 - balance))
    print("sealed with", term.token)
