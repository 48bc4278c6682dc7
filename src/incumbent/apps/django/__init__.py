"""Work in a Django project: by a management command, or in the workers of its server.

    INSTALLED_APPS = [..., "incumbent.apps.django"]
    INCUMBENT_WORK = ["shop.jobs.count"]      # what was decorated, by its path
    INCUMBENT_BACKGROUND = True               # in the server's workers, and not only by the command

    python manage.py incumbent_work           # all of it, in a process of its own
    path("work/", incumbent.apps.django.views.status)

In the background it begins when a server has loaded the project, in each of its workers, and one of
them leads; not in other management commands, nor in a process that only watches for changed files.

Connections: Django gives back a thread's connections when a request ends, and these threads serve
none. So it is done around each call, and what a database has closed meanwhile is not used.
"""

from __future__ import annotations
