"""`incumbent run` without TLS where nothing will ever speak it: a tenth of its memory.

asyncio imports `ssl`, and with it the whole of OpenSSL, unless Python was built without: 4 MiB that
a store on a local disk never uses, beside each wrapped command of a host. So the import is made to
fail while asyncio is loaded, as it does in such a build, and for nothing else: whoever imports
`ssl` later gets it. asyncio's own TLS is what is missing then, so this is done only if no word of
the command line names any other store than such a one, and the environment names none.

This must happen before the first import of asyncio, hence before the command line is understood;
what cannot be told for certain keeps TLS.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

__all__ = ["forgo_tls", "needs_no_tls"]

_WITHOUT = ("file://", "sqlite://")


def needs_no_tls(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Tell whether `incumbent run` with these arguments certainly uses a store on a local disk."""
    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    if any(word.startswith("--hand-over-on") for word in words):
        return False  # An API server is asked about the Pod, wherever the election is.
    urls = [word.removeprefix("--store=") for word in words if "://" in word]
    named = environment.get("INCUMBENT_STORE")
    return all(url.startswith(_WITHOUT) for url in (*urls, *([named] if named else ())))


def forgo_tls() -> None:
    """Load asyncio without TLS, if neither of the two is there yet."""
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # an import then fails, by definition
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]
