"""The application that Django loads: it finds the work, and begins it where it shall run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections
from django.utils.module_loading import import_string

from incumbent.apps.crew import Crew
from incumbent.sync.work import Work
from incumbent.workloads.background import Background

__all__ = ["IncumbentConfig", "works"]


class IncumbentConfig(AppConfig):
    """Finds the work of `INCUMBENT_WORK`, and begins it in a server if that was asked for."""

    name = "incumbent.apps.django"
    label = "incumbent"
    verbose_name = "incumbent"

    works: tuple[Work, ...] = ()

    def ready(self) -> None:
        """Find the work.

        Raises:
            ImproperlyConfigured: a setting names something that is no work.
        """
        self.works = tuple(_work(path) for path in getattr(settings, "INCUMBENT_WORK", ()))
        Crew(self.works)
        if getattr(settings, "INCUMBENT_BACKGROUND", False) and _serves():
            for work in self.works:
                Background(work).start()


def works() -> tuple[Work, ...]:
    """Return the work of the project."""
    config = apps.get_app_config("incumbent")
    if not isinstance(config, IncumbentConfig):
        raise ImproperlyConfigured("another application has the label 'incumbent'")
    return config.works


def _work(path: str) -> Work:
    try:
        work = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"INCUMBENT_WORK: {path!r} cannot be imported: {error}"
        ) from error
    if not isinstance(work, Work):
        raise ImproperlyConfigured(
            f"INCUMBENT_WORK: {path!r} is no work for threads: decorate the function, as by "
            "@incumbent.every('30s')"
        )
    work.around = _fresh_connections
    return work


@contextmanager
def _fresh_connections() -> Iterator[None]:
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def _serves() -> bool:
    """Tell whether this process serves requests, or forks those that do.

    A management command does not, but for `runserver`: and of its two processes, the one that only
    watches files for changes is without RUN_MAIN.
    """
    managed = PurePath(sys.argv[0]).name in ("manage.py", "django-admin", "__main__.py")
    if not managed or "gunicorn" in sys.modules or "uvicorn" in sys.modules:
        return True
    if sys.argv[1:2] != ["runserver"]:
        return False
    return "--noreload" in sys.argv or os.environ.get("RUN_MAIN") == "true"
