"""`python -m incumbent`: the `incumbent` command, where its script is not on the PATH."""

from __future__ import annotations

import sys

from incumbent.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
