"""Flask behind the middleware for WSGI, to be run by gunicorn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import flask

from incumbent.fencing.http import KEY
from incumbent.fencing.http.wsgi import FencingMiddleware
from tests.fencing.services import SECRET
from tests.fencing.services.ledger import book, booked

_flask = flask.Flask(__name__)
_fenced = FencingMiddleware(_flask, resource="ledger")


@_flask.post("/<database>/entries")
def _book(database: str) -> tuple[str, int]:
    if flask.request.headers.get("Authorization") != SECRET["Authorization"]:
        return "", 401
    book(database, flask.request.environ[KEY])
    return "", 201


@_flask.get("/<database>/entries")
def _booked(database: str) -> flask.Response:
    return flask.jsonify(booked(database))


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer, and add which worker does."""

    def named(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        return start_response(status, [*headers, ("worker", str(os.getpid()))], *more)

    return _fenced(environ, named)
