"""What can be checked of a Markdown file without a network: its links, and its Python code."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from posixpath import normpath

from tests.style.checks import Finding, Source

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>\w*)[^\n]*$")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)")
_CODE = re.compile(r"`[^`]*`")


def broken_links(source: Source, existing: Collection[PurePosixPath]) -> Iterator[Finding]:
    """Links within the project lead to a file or folder of the project."""
    folders = {folder for path in existing for folder in path.parents}
    for number, line in _prose(source):
        for match in _LINK.finditer(_CODE.sub("", line)):
            target = match["target"].partition("#")[0]
            if not target or re.match(r"[a-z]+:", target):
                continue
            path = PurePosixPath(normpath(source.path.parent / target))
            if path not in existing and path not in folders:
                yield source.found(number, f"there is no {path}")


def broken_python(source: Source) -> Iterator[Finding]:
    """Code blocks marked as Python can be compiled."""
    for number, language, code in _blocks(source):
        if language in {"python", "py"}:
            try:
                compile(code, str(source.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            except SyntaxError as error:
                yield source.found(number + (error.lineno or 0), f"no Python: {error.msg}")


def _prose(source: Source) -> Iterator[tuple[int, str]]:
    fence = ""
    for number, line in enumerate(source.lines, start=1):
        match = _FENCE.match(line)
        if match and not fence:
            fence = match["fence"]
        elif fence and line.strip() == fence:
            fence = ""
        elif not fence:
            yield number, line


def _blocks(source: Source) -> Iterator[tuple[int, str, str]]:
    """The line of each opening fence, its language, and what is between the fences."""
    start, fence, language = 0, "", ""
    for number, line in enumerate(source.lines, start=1):
        match = _FENCE.match(line)
        if match and not fence:
            start, fence, language = number, match["fence"], match["language"]
        elif fence and line.strip() == fence:
            code = textwrap.dedent("\n".join(source.lines[start : number - 1]))
            yield start, language, code
            fence = ""
