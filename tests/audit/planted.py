"""Mistakes in how the audit reads a cluster, and the test on a real API server that finds each.

They are tried like those of `tests.simulator.mutants`. Nothing of incumbent is imported here: who
tries a mistake has to be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED"]

LIVE = "incumbent.audit.live"
_TESTS = "tests/audit/test_live.py::test_"
_AGAIN = f"{_TESTS}a_list_that_the_server_has_forgotten_is_begun_again"

PLANTED: tuple[Mutant, ...] = (
    planted(
        "audit: the first page is taken for all there is",
        LIVE,
        "        if not after:\n",
        "        if True:\n",
        test=f"{_TESTS}a_cluster_is_read_page_by_page",
    ),
    planted(
        "audit: pages of two versions are put together",
        LIVE,
        "            found, after = await client.page(_PAGE_OBJECTS, after)\n",
        "            try:\n"
        "                found, after = await client.page(_PAGE_OBJECTS, after)\n"
        "            except Expired:\n"
        "                found, after = await client.page(_PAGE_OBJECTS)\n",
        test=f"{_AGAIN}[1]",
    ),
    planted(
        "audit: a list that was forgotten is one that is empty",
        LIVE,
        '    raise StoreUnavailable(\n        f"the API server {client.url} forgot',
        '    return []\n    raise StoreUnavailable(\n        f"the API server {client.url} forgot',
        test=f"{_AGAIN}[3]",
    ),
)
