"""Links and code of the project's Markdown files, and both checks seen to fail."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.style.checks import Source
from tests.style.documents import broken_links, broken_python
from tests.style.project import paths, sources

EXISTING = {PurePosixPath("docs/start.md"), PurePosixPath("README.md")}


@pytest.fixture(scope="module")
def documents() -> list[Source]:
    return [source for source in sources() if source.path.suffix == ".md"]


def test_links_lead_somewhere(documents: list[Source]) -> None:
    existing = set(paths())
    found = [finding for source in documents for finding in broken_links(source, existing)]
    assert not found, "\n".join(map(str, found))


def test_python_blocks_compile(documents: list[Source]) -> None:
    found = [finding for source in documents for finding in broken_python(source)]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    "text", ["[a](no.md)", "x ![a](no.png)", "[a](../no.md#b)", "```sh\nx\n```\n[a](no.md)"]
)
def test_a_broken_link_is_found(text: str) -> None:
    assert list(broken_links(Source(PurePosixPath("docs/x.md"), text), EXISTING))


@pytest.mark.parametrize(
    "text",
    [
        "[a](start.md)",
        "[a](../README.md#b)",
        "[a](../docs)",
        "[a](#here)",
        "[a](https://example.org/no.md)",
        "`[a](no.md)`",
        "```sh\n[a](no.md)\n```",
    ],
)
def test_other_links_are_not(text: str) -> None:
    assert not list(broken_links(Source(PurePosixPath("docs/x.md"), text), EXISTING))


@pytest.mark.parametrize("text", ["```python\nx = (\n```", "- a\n  ```py\n  else: x\n  ```"])
def test_broken_python_is_found(text: str) -> None:
    assert list(broken_python(Source(PurePosixPath("x.md"), text)))


@pytest.mark.parametrize(
    "text",
    [
        "```python\nasync with lead('x') as term:\n    term.check()\n```",
        "- a\n  ```py\n  x = 1\n  ```",
        "```sh\nx = (\n```",
        "```\nx = (\n```",
    ],
)
def test_other_code_is_not(text: str) -> None:
    assert not list(broken_python(Source(PurePosixPath("x.md"), text)))
