"""The HTTPS server around the desk, and certificates that are replaced while it runs.

uvicorn, because it is kept, speaks nothing but what is needed here, and stands on `h11` and
`click`, which are there already. The application is a dozen lines of ASGI, so no framework.

    POST /evict?timeout=5s    an AdmissionReview; the API server says how long it waits
    GET /healthz              200 as long as this process answers
    GET /metrics              until when its certificate is good, for Prometheus

Every POST is answered with 200 and a review, for any other status would be an error 500 of
whoever evicts (or, with `failurePolicy: Ignore`, no answer).

A certificate in a Secret is replaced under a running server, by cert-manager or by hand. So the
files are looked at every few seconds, and new ones are taken for the connections that come. A pair
that does not match, which is what one sees in the middle of a change, is left alone.

**A certificate that ends is an end without a sign**: nothing here fails, the API server just does
not ask any more. So it is said in time, in the log once a day and as a metric all the time. It is
no matter of health: to restart it would renew nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from incumbent.clock import boottime
from incumbent.consent.certificates import Validity, validity_of
from incumbent.consent.desk import Desk
from incumbent.consent.review import GREATEST_BYTES
from incumbent.errors import ConfigError, MissingExtra

try:
    import uvicorn
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "the webhook is served with the package 'uvicorn', which is not installed: "
        "pip install 'incumbent[cli,webhook]'"
    ) from missing

__all__ = ["ENDS", "EVICT", "HEALTH", "METRICS", "serve"]

_log = logging.getLogger("incumbent.consent")

EVICT = "/evict"
HEALTH = "/healthz"
METRICS = "/metrics"
ENDS = "incumbent_consent_certificate_end_timestamp_seconds"
RELOAD_S = 5.0
SAID_EVERY_S = 86_400.0
MARGIN_S = 1.0
"""What is left of the API server's time for the answer to get back."""
_LIMIT_S = 4.0
_LONGEST_S = 29.0
_GRACE_S = 5
_IDLE_S = 120
"""Longer than the API server keeps an idle connection (90 s): it shall be the one that closes. What
it sends on one that is just being closed here would be lost, and its `failurePolicy` count.
"""

_Message = dict[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_Receive = Callable[[], Awaitable[_Message]]


async def serve(
    desk: Desk, host: str, port: int, certificate: Path, key: Path, ready: Callable[[], None]
) -> None:
    """Answer until SIGTERM or SIGINT comes, then finish what has begun.

    Raises:
        ConfigError: the certificate, or the address, cannot be used.
    """
    in_use = _InUse(certificate, key)
    config = uvicorn.Config(
        _application(desk, in_use),
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=str(key),
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    config.load()
    server = _Server(config, ready)
    # uvicorn raises what it caught once more when it has ended; to us it is an ordinary end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    watching = asyncio.create_task(_renew(config, in_use))
    try:
        await server.serve()
    except SystemExit:  # What uvicorn makes of an address that is taken.
        raise ConfigError(f"cannot listen on {host}, port {port}") from None
    finally:
        watching.cancel()


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: Any = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def _application(desk: Desk, in_use: _InUse) -> Any:
    async def application(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if (method, path) == ("GET", HEALTH):
            await _respond(send, 200, b"ok\n", b"text/plain")
        elif (method, path) == ("GET", METRICS):
            await _respond(send, 200, in_use.metrics(), b"text/plain; version=0.0.4")
        elif (method, path) == ("POST", EVICT):
            body = await _body(receive)
            if body is not None:
                said = await desk.answer(body, _limit_s(scope["query_string"]))
                await _respond(send, 200, json.dumps(said).encode(), b"application/json")
        else:
            await _respond(send, 404, b"POST /evict, GET /healthz, GET /metrics\n", b"text/plain")

    return application


async def _body(receive: _Receive) -> bytes | None:
    """Return the body, cut where it is too long to be a question; None if the client is gone."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part: bytes = message.get("body", b"")
        if size <= GREATEST_BYTES:
            parts.append(part)
        size += len(part)
        if not message.get("more_body", False):
            return b"".join(parts)[: GREATEST_BYTES + 1]


def _limit_s(query: bytes) -> float:
    told = parse_qs(query.decode("ascii", "replace")).get("timeout", [""])[0]
    found = re.fullmatch(r"(\d{1,3})s", told)
    limit_s = float(found[1]) - MARGIN_S if found else _LIMIT_S
    return min(max(limit_s, MARGIN_S), _LONGEST_S)


async def _respond(send: _Send, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# -- certificates ---------------------------------------------------------------------------------


class _InUse:
    """The certificate that is in use, and until when.

    Raises:
        ConfigError: it cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate, self.key = certificate, key
        self.validity = _loaded(certificate, key)
        self._said_s: float | None = None

    def take(self, context: ssl.SSLContext | None) -> None:
        """Take what lies there now for the connections of this context.

        Raises:
            ConfigError: it cannot be used.
        """
        validity = _loaded(self.certificate, self.key)
        if context is not None:
            context.load_cert_chain(self.certificate, self.key)
        self.validity, self._said_s = validity, None

    def warn(self) -> None:
        """Say that it ends, once a day, if its end is near."""
        # wall clock: a certificate counts on it
        now, now_s = datetime.now(UTC), boottime()
        if not self.validity.is_near_its_end(now):
            return
        if self._said_s is None or now_s - self._said_s >= SAID_EVERY_S:
            self._said_s = now_s
            over = self.validity.ends <= now
            _log.warning(
                "the certificate %s %s: nobody is asked about evictions from then on. Print the "
                "manifests again (incumbent consent-webhook --manifests) and apply them, or see "
                "why cert-manager has not renewed it",
                "was good until" if over else "ends on",
                self.validity.ends.strftime("%Y-%m-%d %H:%M UTC"),
            )

    def metrics(self) -> bytes:
        """Return until when it is good, as Prometheus reads it."""
        about = f"# HELP {ENDS} Until when the certificate is good.\n# TYPE {ENDS} gauge\n"
        return f"{about}{ENDS} {self.validity.ends.timestamp():.0f}\n".encode()


async def _renew(config: uvicorn.Config, in_use: _InUse) -> None:
    """Take new certificates as they come, and say when there should be one."""
    paths = (in_use.certificate, in_use.key)
    seen = _marks_of(*paths)
    while True:
        in_use.warn()
        await asyncio.sleep(RELOAD_S)
        found = _marks_of(*paths)
        if found == seen:
            continue
        try:
            in_use.take(config.ssl)
        except (ConfigError, OSError) as error:
            _log.warning("the new certificate is not taken: %s", error)
        else:
            seen = found
            _log.warning("took a new certificate from %s", in_use.certificate)


def _loaded(certificate: Path, key: Path) -> Validity:
    """Try the pair on a context of its own, so that a wrong one spoils none that is in use."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        return validity_of(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{certificate} and {key} are no certificate and key: {error}") from None


def _marks_of(*paths: Path) -> list[tuple[int, int, int] | None]:
    """Return by what a replaced file is known; a Secret's are links that change at once."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            told = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((told.st_ino, told.st_mtime_ns, told.st_size))
    return found
