"""What one process does at a time."""

from __future__ import annotations

import os

from django.db import connection

import incumbent


@incumbent.every("1s", ttl_s=2, missed="all")
def count(tick: incumbent.Tick) -> None:
    """Note the tick, through Django's own connection."""
    with connection.cursor() as cursor:
        values = ("count", tick.id, tick.token, os.getpid())
        cursor.execute("INSERT INTO done VALUES (%s, %s, %s, %s)", values)


def no_work() -> None:
    """Nothing that was decorated."""
