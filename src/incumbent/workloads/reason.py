"""What is said of an error, wherever it is kept: in a dead letter, a header, a record, a log line.

A failure is the user's, so its text may be anything: megabytes, half of a character that no UTF-8
can hold, a `__str__` that raises itself. Each of these would be refused by whatever is to keep it,
and then the failure could never be settled, and would hold up everything behind it.
"""

from __future__ import annotations

__all__ = ["LONGEST", "said"]

LONGEST = 2_000
"""How many characters of a text are kept, at most."""


def said(error: BaseException) -> str:
    """Return the kind of an error and its text, as UTF-8 can hold it and no longer than `LONGEST`.

    It raises nothing, and holds no NUL, which PostgreSQL keeps in no text.
    """
    kind = type(error).__name__
    try:
        text = f"{kind}: {error}"
    except Exception:
        text = f"{kind} (its text cannot be had: __str__ raises)"
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    safe = cut.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return safe if len(safe) <= LONGEST else f"{safe[: LONGEST - 1]}…"
