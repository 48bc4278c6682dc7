"""Seal, then read, then write under the token: what a clock cannot rule out, a token does."""

import sqlite3
import sys

import incumbent

db = sqlite3.connect(sys.argv[1] if len(sys.argv) > 1 else "ledger.db", isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS seal (token INTEGER NOT NULL)")
db.execute("CREATE TABLE IF NOT EXISTS entry (token INTEGER NOT NULL, amount INTEGER NOT NULL)")

with incumbent.Election("ledger").hold() as term:
    db.execute("BEGIN IMMEDIATE")
    highest = db.execute("SELECT coalesce(max(token), 0) FROM seal").fetchone()[0]
    if term.token is None or highest > term.token:
        raise incumbent.StaleToken("a later leader has sealed the ledger")
    db.execute("INSERT INTO seal VALUES (?)", (term.token,))
    balance = db.execute("SELECT coalesce(sum(amount), 0) FROM entry").fetchone()[0]
    db.execute("INSERT INTO entry VALUES (?, ?)", (term.token, 100 - balance))
    db.execute("COMMIT")
    print("sealed with", term.token)
