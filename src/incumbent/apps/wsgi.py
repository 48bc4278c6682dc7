"""Who leads, for applications that speak WSGI (PEP 3333): Flask, Bottle, Django's own handler.

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/work": status(report)})

Work in such an application begins by `background=True`, in every worker of the server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from incumbent.apps.crew import Crew
from incumbent.sync.work import Work

__all__ = ["status"]

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def status(*works: Work) -> App:
    """Return an application that tells, as JSON, what each work is doing in this process.

    It answers with 200 to every GET, whoever leads; see `incumbent.apps`.

    Raises:
        ConfigError: one of them is no work, or two have the same name.
    """
    crew = Crew(works)

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        good = method in ("GET", "HEAD")
        body = json.dumps(crew.told() if good else {"error": "use GET"}).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        if not good:
            headers.append(("Allow", "GET, HEAD"))
        start_response("200 OK" if good else "405 Method Not Allowed", headers)
        return [] if method == "HEAD" else [body]

    return app
