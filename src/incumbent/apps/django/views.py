"""A view that tells what each work is doing in this process, whoever leads."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase

from incumbent.apps.crew import Crew
from incumbent.apps.django.apps import works

__all__ = ["status"]


def status(request: HttpRequest) -> HttpResponseBase:
    """Answer with 200 to every GET: it is for people, and no probe of readiness."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    answer = JsonResponse(Crew(works()).told())
    answer["Cache-Control"] = "no-store"
    return answer
