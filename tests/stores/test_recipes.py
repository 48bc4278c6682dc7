"""How a lock of another library is named in a store's URL."""

from __future__ import annotations

import pytest

from incumbent.errors import ConfigError
from incumbent.stores.recipes import LockName, recipe_of

KNOWN = ("shedlock", "spring")


def test_a_lock_is_called_as_the_election_is() -> None:
    assert LockName().of("jobs") == "jobs"
    assert LockName("/app/{name}/leader").of("jobs") == "/app/jobs/leader"


def test_one_lock_is_of_one_election() -> None:
    name = LockName("ReportCleanup_run")
    assert name.of("jobs") == "ReportCleanup_run"
    assert name.of("jobs") == "ReportCleanup_run"
    with pytest.raises(ConfigError, match=r"election 'jobs' has it: for 'others' as well, write"):
        name.of("others")
    with pytest.raises(ConfigError, match="lock= is empty"):
        LockName("")


def test_the_recipe_is_one_that_is_known() -> None:
    assert recipe_of("mysql", {}, KNOWN) == ""
    assert recipe_of("mysql", {"recipe": "spring", "lock": "x"}, KNOWN) == "spring"
    with pytest.raises(ConfigError, match=r"no recipe='quartz'; it knows: shedlock, spring"):
        recipe_of("mysql", {"recipe": "quartz"}, KNOWN)
    with pytest.raises(ConfigError, match=r"lock= names the lock of another library: say which"):
        recipe_of("mysql", {"lock": "x"}, KNOWN)
