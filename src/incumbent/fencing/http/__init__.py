"""Fencing over HTTP: a leader sends its token with each request, and the service refuses old ones.

    requests.post(url, json=bill, headers=term.fence("ledger").http())        # who leads

    app = asgi.FencingMiddleware(app, resource="ledger")                      # who receives
    app = wsgi.FencingMiddleware(app, resource="ledger")

    def pay(request):
        fence = request.scope["incumbent.fence"]       # WSGI: request.environ["incumbent.fence"]
        with connection:
            fence.sql(connection)
            ... read, and write ...

`received`  the fence of a request, and which answer an outcome has; what both kinds share
`asgi`      for Starlette, FastAPI, Django, Litestar, Quart, …
`wsgi`      for Flask, Django, Bottle, …

Theory
------
A middleware that compared the token by itself, before the handler runs, would protect nothing: a
request that was let through can wait as long as it likes before it writes. So it does not. It hands
the handler a fence, which the handler puts into its own transaction, as a leader does that writes
to a database; what is remembered there is durable, and shared by all workers and replicas, because
the data are. The middleware sees to the rest: that a token is there, that it is one, that a refusal
becomes an answer, and that no handler forgets to ask.

What is answered, as `application/problem+json` (RFC 9457):

| 428 | a request that may change something carries no token (RFC 6585) |
| 400 | the header is not one positive whole number |
| 412 | a later leader was here, and nothing was changed |
| 500 | the handler answered with success, and has never asked the fence |

A refusal that the handler's framework has made something else of is 412 all the same.
"""

from incumbent.fencing.http.received import HEADER, KEY, ReceivedFence

__all__ = ["HEADER", "KEY", "ReceivedFence"]
