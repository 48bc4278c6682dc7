"""Fencing over HTTP: a leader sends its token with each request, and the service refuses old ones.

    fence = term.fence("ledger")                                              # who leads
    answer = httpx.post(url, json=bill, headers=fence.http())
    fence.http_result(answer.status_code, answer.content)                     # raises StaleToken

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

How the token stands in the header is in `incumbent.fencing.header`.

Theory
------
A middleware that compared the token by itself, before the handler runs, would protect nothing: a
request that was let through can wait as long as it likes before it writes. So it does not, and it
remembers nothing either. It hands the handler a fence, which the handler puts into its own
transaction, as a leader does that writes to a database; what is remembered there is durable, and
shared by all workers and replicas, because the data are. The middleware sees to the rest: that a
token is there, that it is one, that it is for this resource, that a refusal becomes an answer, and
that no handler answers with success that has not asked.

What is answered, as `application/problem+json` (RFC 9457):

| 428 | a request that may change something carries no token (RFC 6585) |
| 400 | the header is not exactly one token, or it is for another resource |
| 412 | a later leader was here |
| 500 | the handler answered with success, and has never asked the fence |

412 and not 409: the token is a condition in the request's header, and it did not hold (RFC 9110,
15.5.13). 409 asks the client to resolve a conflict and send again, and an old leader must not.

A refusal that the handler's framework has made something else of is 412 all the same.

Warnings
--------
Let only those send a token who may lead. A token that nobody was given, 2^63 - 1 say, is one that
every leader is behind. Since only the fence remembers, and only the handler calls it, it does not
matter whether who calls is found out before this middleware, behind it, or in the handler: before
the fence is asked.

Do not catch `StaleToken` inside the transaction: leaving it with the exception is what undoes the
rest.
"""

from incumbent.fencing.http.received import KEY, ReceivedFence

__all__ = ["KEY", "ReceivedFence"]
