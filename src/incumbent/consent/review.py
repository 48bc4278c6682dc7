"""One eviction as the API server asks about it, and the answer that it understands.

The question is an AdmissionReview (`admission.k8s.io/v1`) about the creation of `pods/eviction`.
Its object is an Eviction of `policy/v1` or of `policy/v1beta1`, whichever the client sent; what is
read of it here is the same in both. The Pod's name stands in the question, for clients may leave it
out of the object. Whether it is a dry run stands in either.

Nothing of it is trusted to be of any type. Whatever is no question at all gets the same kind of
answer as one that may not pass yet, with an empty uid, which the API server takes for no answer:
then its `failurePolicy` counts, as if nobody had been there.
"""

from __future__ import annotations

import json

from incumbent.audit.objects import Object, at, listing
from incumbent.consent.decision import Asked, Verdict, Why

__all__ = ["GREATEST_BYTES", "Unreadable", "answer", "asked_of", "not_yet"]

GREATEST_BYTES = 1024 * 1024
"""A question is as large as an Eviction and the user's groups; more than this is something else."""
_VERSION = "admission.k8s.io/v1"
_RETRY_S = 5


class Unreadable(Exception):
    """It is no question about an eviction; `review` is its uid, if it has one."""

    def __init__(self, review: str, text: str) -> None:
        super().__init__(text)
        self.review = review


def asked_of(body: bytes) -> Asked:
    """Return what is asked.

    Raises:
        Unreadable: it is something else.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("", "it is not JSON") from None
    request = at(told, "request")
    review = _text(request, "uid")
    if at(told, "kind") != "AdmissionReview" or not review:
        raise Unreadable(review, "it is no AdmissionReview with a request")
    resource = (_text(request, "resource", "resource"), _text(request, "subResource"))
    if resource != ("pods", "eviction") or _text(request, "operation") != "CREATE":
        raise Unreadable(review, f"it is not about a new eviction but about {'/'.join(resource)}")
    eviction = at(request, "object")
    name = _text(request, "name") or _text(eviction, "metadata", "name")
    namespace = _text(request, "namespace")
    if not name or not namespace:
        raise Unreadable(review, "it names no Pod")
    dry = listing(at(eviction, "deleteOptions", "dryRun"))
    return Asked(
        review=review,
        namespace=namespace,
        name=name,
        user=_text(request, "userInfo", "username"),
        dry_run=at(request, "dryRun") is True or bool(dry),
        uid=_text(eviction, "deleteOptions", "preconditions", "uid"),
        version=_text(eviction, "deleteOptions", "preconditions", "resourceVersion"),
    )


def answer(review: str, verdict: Verdict) -> Object:
    """Return the answer: yes, or 429."""
    response: Object = {"uid": review, "allowed": verdict.allowed}
    if not verdict.allowed:
        response["status"] = {
            "code": 429,
            "reason": "TooManyRequests",
            "message": verdict.text,
            "details": {
                "retryAfterSeconds": max(1, verdict.retry_s),
                "causes": [{"reason": kind, "message": text} for kind, text in verdict.causes],
            },
        }
    return {"apiVersion": _VERSION, "kind": "AdmissionReview", "response": response}


def not_yet(why: Why, text: str) -> Verdict:
    """Return the refusal of what could not be decided."""
    return Verdict(False, why, text, _RETRY_S)


def _text(value: object, *path: str) -> str:
    found = at(value, *path)
    return found if isinstance(found, str) else ""
