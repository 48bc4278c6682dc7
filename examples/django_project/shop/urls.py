"""What every worker answers, whoever leads."""

from django.http import HttpRequest, JsonResponse
from django.urls import path

from incumbent.apps.django.views import alive, status


def orders(request: HttpRequest) -> JsonResponse:
    """Answer, in every worker."""
    return JsonResponse({"orders": ["one", "another"]})


urlpatterns = [path("orders", orders), path("incumbent/", status), path("alive/", alive)]
