"""Celery beat, of which there may be as many as you like, and one sends the tasks.

    app.conf.beat_scheduler = "incumbent.apps.celery:Scheduler"
    app.conf.incumbent_beat = {"store": "postgresql://app@db/app"}    # may be left out

    celery -A proj beat                       # on every host

Any other scheduler, django-celery-beat's for one, is kept to one process from outside:
`incumbent run beat -- celery -A proj beat`. What the two promise differs: see `dispatch`.
"""

from __future__ import annotations

from incumbent.apps.celery.scheduler import Scheduler

__all__ = ["Scheduler"]
