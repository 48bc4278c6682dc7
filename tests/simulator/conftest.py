from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _leave_no_processes_behind() -> Iterator[None]:
    """Take away what simulated processes leave in the middle of things when they die.

    Their coroutines end when they are collected, and say so in the log. In some later test that
    may be in the middle of `ast.parse`, which does not stand a traceback being formatted meanwhile.
    """
    yield
    gc.collect()
