"""Views that tell what each work is doing in this process, and whether it can lead at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase

from incumbent.apps.crew import Crew
from incumbent.apps.django.apps import works
from incumbent.apps.pulse import pulse

__all__ = ["alive", "status"]


def status(request: HttpRequest) -> HttpResponseBase:
    """Answer with 200 to every GET: it is for people, and no probe of readiness."""
    return _answer(request, lambda: (200, Crew(works()).told()))


def alive(request: HttpRequest) -> HttpResponseBase:
    """Answer a liveness probe: 503 if this process can lead no more, whoever leads."""
    return _answer(request, pulse)


def _answer(
    request: HttpRequest, ask: Callable[[], tuple[int, dict[str, Any]]]
) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    code, told = ask()
    answer = JsonResponse(told, status=code)
    answer["Cache-Control"] = "no-store"
    return answer
