"""A script that has imported its application, and has uvicorn start the processes that serve it.

The work is one that its children import before they have been told what they are for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from tests.apps.programs import beside

__all__: list[str] = []

if __name__ == "__main__":
    uvicorn.run(
        f"{beside.__name__}:app",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        workers=2 if sys.argv[2] == "workers" else None,
        reload=sys.argv[2] == "reload",
        reload_dirs=[str(Path(__file__).parent)] if sys.argv[2] == "reload" else None,
    )
