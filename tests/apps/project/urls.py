"""What the project answers."""

from __future__ import annotations

import os

from django.http import HttpRequest, JsonResponse
from django.urls import path

from incumbent.apps.django.views import status


def orders(request: HttpRequest) -> JsonResponse:
    """Answer, in every worker."""
    return JsonResponse({"worker": os.getpid()})


urlpatterns = [path("orders", orders), path("work/", status)]
