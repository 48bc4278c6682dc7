from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from incumbent.cli import stores
from incumbent.errors import MissingExtra
from incumbent.stores.api import StoreURL
from incumbent.stores.memory import CAPABILITIES
from tests.cli.processes import run, run_in_terminal


def test_the_table_for_programs() -> None:
    done = run("stores", "--json")
    assert done.code == 0
    found = {store["scheme"]: store for store in done.json["stores"]}
    assert found["sqlite"] == {
        "scheme": "sqlite",
        "available": True,
        "problem": None,
        "grade": "exclusive with a fencing resource",
        "assumes": found["sqlite"]["assumes"],
        "token": True,
        "sessions": True,
        "one_host": True,
        "whole_seconds": False,
        "absent_is_vacant": True,
        "judged_by": "observers",
        "confirmed_by": "a committed transaction",
        "wakes_by": "inotify on a bell file",
        "evidence": "a kernel file lock that the holder's process tree inherits",
    }
    assert found["memory"]["evidence"] is None


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_for_people(columns: int) -> None:
    done = run("stores")
    assert done.code == 0
    assert "sqlite://" in done.out.splitlines()[0]
    code, screen = run_in_terminal("stores", columns=columns)
    assert code == 0
    assert "…" not in screen


def test_a_store_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("odd_store")

    def opener(url: StoreURL) -> object:
        raise MissingExtra("odd:// needs driver: pip install 'incumbent[odd]'")

    class OddStore:
        capabilities = replace(CAPABILITIES, scheme="odd")

    opener.__module__ = "odd_store"
    vars(module).update(open=opener, OddStore=OddStore)
    monkeypatch.setitem(sys.modules, "odd_store", module)
    found = stores._json(stores._inspect(EntryPoint("odd", "odd_store:open", stores.GROUP)))
    assert found["available"] is False
    assert found["problem"].startswith("needs extra odd: odd:// needs driver: pip install")
    assert found["grade"] == CAPABILITIES.grade.value


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no_such_driver:open", "needs extra odd (no_such_driver)"),
        ("incumbent.stores.sqlite:nothing", "cannot be loaded"),
        ("incumbent.stores:open_store", "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_says_why(target: str, problem: str) -> None:
    found = stores._inspect(EntryPoint("odd", target, stores.GROUP))
    assert found.capabilities is None
    assert found.problem.startswith(problem)
    assert stores._json(found)["available"] is False
