"""The settings of the project."""

from __future__ import annotations

import os

SECRET_KEY = "for tests"
ROOT_URLCONF = "tests.apps.project.urls"
WSGI_APPLICATION = "tests.apps.project.wsgi.application"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
INSTALLED_APPS = ["incumbent.apps.django"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("LEDGER", ":memory:"),
        "OPTIONS": {"timeout": 30},
    }
}
INCUMBENT_WORK = os.environ.get("WORK", "tests.apps.project.jobs.count").split()
INCUMBENT_BACKGROUND = os.environ.get("BACKGROUND") == "yes"
