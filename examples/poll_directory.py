"""Files of a folder, each handled by one of all processes that have this. End it with Ctrl-C."""

import sys
import tempfile
from pathlib import Path

import incumbent

inbox = Path(tempfile.mkdtemp())
(inbox / "order-1.txt").write_text("two of these")


def handle(file: incumbent.File) -> None:
    """Act, if the term is still ours."""
    file.check()
    print("handling", file.name, "with token", file.token, file.path.read_text(), flush=True)


try:
    incumbent.Directory(inbox, handle, name="inbox").run()
except KeyboardInterrupt:
    sys.exit(130)
