"""Starlette behind the middleware for ASGI, to be run by uvicorn."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from incumbent.fencing.http import KEY
from incumbent.fencing.http.asgi import FencingMiddleware
from tests.fencing.services import SECRET
from tests.fencing.services.ledger import book, book_async, booked

_PR_SET_PDEATHSIG = 1
# Workers of uvicorn would outlive a server that is killed.
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def _book(request: Request) -> Response:
    if request.headers.get("Authorization") != SECRET["Authorization"]:
        return Response(status_code=401)
    fence, database = request.scope[KEY], request.path_params["database"]
    if database == "postgresql":
        await book_async(fence)
    else:
        await run_in_threadpool(book, database, fence)
    return Response(status_code=201)


def _booked(request: Request) -> Response:
    return JSONResponse(booked(request.path_params["database"]))


_starlette = Starlette(
    routes=[
        Route("/{database}/entries", _book, methods=["POST"]),
        Route("/{database}/entries", _booked, methods=["GET"]),
    ],
    middleware=[Middleware(FencingMiddleware, resource="ledger")],
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer, and add which worker does."""

    async def named(message: Any) -> None:
        if message["type"] == "http.response.start":
            worker = (b"worker", str(os.getpid()).encode())
            message = {**message, "headers": [*message["headers"], worker]}
        await send(message)

    await _starlette(scope, receive, named)
