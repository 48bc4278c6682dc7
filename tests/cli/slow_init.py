"""`incumbent run …` whose second tree is not ready before a file exists.

`python -m tests.cli.slow_init GATE run NAME …`: as on a machine that is too busy to start an
interpreter. Prints "preparing" when it begins to wait.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from incumbent.cli.app import main
from incumbent.runtime.contain import Tree

_LIMIT_S = 60.0
_PAUSE_S = 0.01


def _gated(gate: Path) -> None:
    prepare = Tree.prepare
    made = 0

    def prepare_late(mode: str = "auto") -> Tree:
        nonlocal made
        made += 1
        if made == 2:
            print("preparing", flush=True)
            never = threading.Event()
            for _ in range(int(_LIMIT_S / _PAUSE_S)):
                if gate.exists():
                    break
                never.wait(_PAUSE_S)
            else:
                raise SystemExit("the gate was not opened")
        return prepare(mode)

    Tree.prepare = staticmethod(prepare_late)  # type: ignore[method-assign]


if __name__ == "__main__":
    _gated(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
