"""`python -m tests.partners [WORD...]`: play, and print what both sides said. See the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.partners.passing import ALL_DIALOGUES

if __name__ == "__main__":
    os.environ[ALL_DIALOGUES] = "yes"
    words = " and ".join(sys.argv[1:])
    here = str(Path(__file__).parent)
    sys.exit(
        pytest.main([here, "-q", "-s", "-p", "no:cacheprovider", *(["-k", words] * bool(words))])
    )
