"""The settings of the package agree with one another and with the tree."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.style.project import ROOT


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_store_is_in_the_contract_that_keeps_stores_apart(settings: dict[str, Any]) -> None:
    entry_points = settings["project"]["entry-points"]["incumbent.stores"]
    modules = {target.partition(":")[0] for target in entry_points.values()}
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "stores")
    assert modules == set(re.findall(r"[\w.]+", layers[0]))


def test_the_readme_is_part_of_the_package_once_there_is_one(settings: dict[str, Any]) -> None:
    declared = settings["project"].get("readme")
    there = "README.md" if (ROOT / "README.md").exists() else None
    assert declared == there, "pyproject.toml, [project]: readme ="


def test_requirements_are_pinned_exactly() -> None:
    lines = (ROOT / "requirements/dev.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_named_requirement_has_a_pin() -> None:
    def names(path: str) -> set[str]:
        text = (ROOT / "requirements" / path).read_text(encoding="utf-8")
        found = re.findall(r"^[\w.-]+(?===|$)", text, re.MULTILINE)
        return {re.sub(r"[-_.]+", "-", name).lower() for name in found}

    assert names("dev.in") | names("demo.txt") <= names("dev.txt")
