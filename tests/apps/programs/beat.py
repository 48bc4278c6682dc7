"""A Celery application whose beat sends two tasks, one a second. No worker takes them.

Its settings are environment variables: BROKER, and DIES, "before" or "after", for a beat that ends
itself around the first message.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from incumbent.apps.celery import Scheduler

__all__ = ["Dying", "app"]

app = Celery("shop", broker=os.environ["BROKER"])
app.conf.beat_scheduler = os.environ.get("SCHEDULER", "incumbent.apps.celery:Scheduler")
app.conf.incumbent_beat = {"ttl_s": float(os.environ.get("TTL_S", "2"))}
app.conf.beat_schedule = {"count": {"task": "shop.count", "schedule": 1.0}}


class Dying(Scheduler):
    """Ends its process around the first message, as a kill would."""

    def apply_async(self, *args: Any, **values: Any) -> Any:
        """Send it, or not; and end."""
        if os.environ["DIES"] == "after":
            super().apply_async(*args, **values)
        os._exit(9)
