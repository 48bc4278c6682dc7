"""Celery beat, of which there may be as many as you like, and one sends the tasks.

    app.conf.beat_scheduler = "incumbent.apps.celery:Scheduler"
    app.conf.incumbent_beat = {"store": "postgresql://app@db/app"}    # may be left out

    celery -A proj beat                       # on every host

Any other scheduler, django-celery-beat's for one, is kept to one process from outside:
`incumbent run beat -- celery -A proj beat`. What the two promise differs: see `dispatch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from incumbent.apps.celery.scheduler import Scheduler

__all__ = ["Scheduler"]


def __getattr__(name: str) -> Any:
    """Load the scheduler when Celery asks for it: all but that needs no Celery."""
    if name in __all__:
        return getattr(import_module("incumbent.apps.celery.scheduler"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
