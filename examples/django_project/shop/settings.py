"""The settings: the last three lines are all that incumbent needs."""

SECRET_KEY = "for the example only"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True

INSTALLED_APPS = ["incumbent.apps.django"]
INCUMBENT_WORK = ["shop.jobs.count"]  # what was decorated, by its path
INCUMBENT_BACKGROUND = True  # in the workers of the server, too
