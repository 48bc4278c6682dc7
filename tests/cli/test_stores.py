from __future__ import annotations

import re
import sys
from dataclasses import fields, replace
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from incumbent.cli import stores
from incumbent.errors import MissingExtra
from incumbent.stores.api import Capabilities, Fault, StoreURL
from incumbent.stores.memory import CAPABILITIES
from tests.cli.processes import ROOT, run, run_in_terminal


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
        "survives": ["holder killed", "holder paused"],
        "one_process": False,
        "unseen_ttls": 0.0,
        "takeover_trips": 2,
        "bars": True,
        "checkpoints": True,
        "renews": True,
        "queue": False,
        "label_names": False,
        "reads": True,
        "partner": None,
        "partner_breaks": None,
    }
    assert found["memory"]["evidence"] is None
    cells = {cell.name for cell in fields(Capabilities)}
    for store in found.values():
        assert store.keys() == cells | {"available", "problem"}


def test_the_tables_for_people_are_no_wider_than_80_columns() -> None:
    done = run("stores")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 79
    assert [line.split()[0] for line in lines if line.startswith("redis ")] == ["redis", "redis"]
    code, screen = run_in_terminal("stores", columns=80)
    assert code == 0
    assert "…" not in screen
    assert [line.rstrip() for line in plain(screen)] == lines


def test_below_the_tables_stands_what_each_column_means() -> None:
    columns = {label for cells in (stores._SHORT, stores._COMPAT) for label, _ in cells}
    assert set(stores._LEGEND) == columns
    legend = run("stores").out.rpartition("\n\n")[2]
    for label in (*columns, "survives"):
        assert f"\n{label}  " in f"\n{legend}"
    told = " ".join(legend.split())
    for fault, word in stores._FAULTS.items():
        assert f"{word} = {fault.value}" in told
    assert len(run("stores", "-q").out.rpartition("\n\n")[2].splitlines()) == 1


def test_the_documentation_shows_what_is_printed() -> None:
    page = (ROOT / "docs/stores/README.md").read_text(encoding="utf-8")
    shown = run("stores").out.rpartition("\n\n")[0]
    assert f"    $ incumbent stores\n{indented(shown)}\n" in page
    for fault, word in stores._FAULTS.items():
        assert f"| `{word}` | {fault.value}" in page


def plain(screen: str) -> list[str]:
    """Return the lines without what is said to the terminal."""
    return re.sub("\x1b\\[[0-9;]*m", "", screen).splitlines()


def indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def test_each_short_cell_has_a_word_for_each_value() -> None:
    assert set(stores._FAULTS) == set(Fault)
    assert len(set(stores._FAULTS.values())) == len(Fault)
    assert set(stores._GRADES) == set(type(CAPABILITIES.grade))


@pytest.mark.parametrize("name", ["redis", "valkeys", "redis://", "REDIS"])
def test_everything_about_one(name: str) -> None:
    done = run("stores", name)
    assert done.code == 0
    assert "one server without replicas" in done.out
    assert "exclusive with a fencing resource" in done.out
    code, screen = run_in_terminal("stores", name, columns=80)
    assert code == 0
    assert "…" not in screen
    assert max(map(len, plain(screen))) <= 80


def test_a_set_up_that_is_worth_less_says_so() -> None:
    url = "redis://h?replicas=accept"
    for words in (["stores", url], ["--store", url, "stores"]):
        done = run(*words)
        assert (done.code, "efficiency only" in done.out) == (0, True)
    (found,) = run("stores", url, "--json").json["stores"]
    assert found["grade"] == "efficiency only"
    (found,) = run("stores", "redis", "--json").json["stores"]
    assert found["grade"] == "exclusive with a fencing resource"


@pytest.mark.parametrize(("name", "said"), [("nix", "installed: consul"), ("nix://h", "nix://")])
def test_a_store_that_is_none(name: str, said: str) -> None:
    done = run("stores", name)
    assert done.code == 2
    assert said in done.err


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


def test_a_set_up_with_other_capabilities_is_listed() -> None:
    found = {store["scheme"]: store for store in run("stores", "--json").json["stores"]}
    one, other = found["kubernetes"], found["kubernetes?session=1"]
    assert (one["sessions"], other["sessions"]) == (False, True)
    assert other["available"] is True
    done = run("stores", "kubernetes?session=1")
    assert (done.code, "kubernetes://?session=1" in done.out) == (0, True)
    assert "yes: all elections of a process" in done.out
    done = run("stores", "kubernetes?session=2")
    assert done.code == 2
