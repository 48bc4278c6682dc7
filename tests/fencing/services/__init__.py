"""Services that several workers of a real server run: one for ASGI, one for WSGI.

Each books what it is sent under the fence of the request, for callers that know the secret, at
`/sqlite/entries` and at `/postgresql/entries`. Each answer names the worker that gave it. They are
apart, since each worker imports its own.
"""

SECRET = {"Authorization": "Bearer 6f1a"}
"""What whoever may lead sends."""
