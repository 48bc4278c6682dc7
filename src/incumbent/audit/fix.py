"""Repairs in the text of a file: a few characters change, and every other one stays.

Why not a YAML writer
---------------------
ruamel.yaml, the library that keeps comments, writes the whole file anew: lists get one indentation,
long lines are broken, spaces before comments and quotes change. A diff of two lines becomes one of
two hundred, which nobody reads. The nodes that the parser returns know where they stand, so an edit
is made there.

What makes it safe
------------------
After each edit the new text is parsed, and every document in it has to be what the old one is with
that change and no other. If it is not (an alias, a block scalar, something not thought of), the
text stays as it was and the edit is reported as not made.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from incumbent.audit.edits import Edit, Remove, Set
from incumbent.audit.finding import Finding
from incumbent.audit.objects import Path, at
from incumbent.audit.source import File, InFile, data_of, parsed
from incumbent.errors import ConfigError

__all__ = ["Repair", "diff", "repair"]

_PLAIN = re.compile(r"[A-Za-z][\w./-]*")


@dataclass
class Repair:
    """What became of one file.

    Attributes:
        file: the file, as it was read.
        text: its new text.
        made: the findings that were mended.
        refused: those whose edit could not be made in the text.
    """

    file: File
    text: str
    made: list[Finding] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)


def repair(findings: list[Finding]) -> list[Repair]:
    """Make the edits of all findings that are not waived; nothing is written."""
    repairs: dict[int, Repair] = {}
    for finding in findings:
        origin, edits = finding.manifest.origin, finding.sighting.edits
        if finding.waived or not edits or not isinstance(origin, InFile):
            continue
        found = repairs.setdefault(id(origin.file), Repair(origin.file, origin.file.text))
        # What is set first keeps a map from becoming empty when something is taken out of it.
        ordered = sorted(edits, key=lambda edit: isinstance(edit, Remove))
        text: str | None = found.text
        for edit in ordered:
            if text is not None:
                text = edited(text, origin.document, origin.prefix, edit)
        if text is None:
            found.refused.append(finding)
        else:
            found.text = text
            found.made.append(finding)
    return list(repairs.values())


def diff(repair: Repair) -> str:
    """Return what changes, as `diff -u` shows it."""
    name = repair.file.name
    old, new = (text.splitlines(keepends=True) for text in (repair.file.text, repair.text))
    return "".join(difflib.unified_diff(old, new, name, name))


def edited(text: str, document: int, prefix: Path, edit: Edit) -> str | None:
    """Return the text with one edit made; None if it cannot be made safely."""
    before = parsed("", text).documents
    data = [data_of(each) for each in before]
    wanted = [_unshared(each) for each in data]
    parent = at(wanted[document], *prefix, *edit.path[:-1])
    if not isinstance(parent, dict):
        return None
    if isinstance(edit, Remove):
        parent.pop(edit.path[-1], None)
    else:
        parent[edit.path[-1]] = edit.value
    if wanted == data:
        return text
    node = _node(before[document], (*prefix, *edit.path[:-1]))
    made = None if node is None else _changed(text, node, edit)
    if made is None:
        return None
    try:
        after = [data_of(each) for each in parsed("", made).documents]
    except ConfigError:
        return None
    return made if after == wanted else None


def _unshared(value: Any) -> Any:
    """Return a copy in which what an alias repeats is there several times."""
    if isinstance(value, dict):
        return {key: _unshared(each) for key, each in value.items()}
    return [_unshared(each) for each in value] if isinstance(value, list) else value


def _node(node: Any, path: Path) -> Any:
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step] if step < len(node.value) else None
        else:
            return None
    return node


def _changed(text: str, parent: Any, edit: Edit) -> str | None:
    if not isinstance(parent, yaml.MappingNode):
        return None
    keys = [key.value for key, _ in parent.value]
    name = str(edit.path[-1])
    number = keys.index(name) if name in keys else None
    if isinstance(edit, Remove):
        return None if number is None else _without(text, parent, number)
    if number is None:
        return _with(text, parent, f"{_scalar(name)}: {_flow(edit)}")
    value = parent.value[number][1]
    if not isinstance(value, yaml.ScalarNode) or value.start_mark.index == value.end_mark.index:
        return None
    return text[: value.start_mark.index] + _flow(edit) + text[value.end_mark.index :]


# -- adding an entry ------------------------------------------------------------------------------


def _with(text: str, parent: Any, entry: str) -> str:
    """Return the text with an entry more, after the last one that is a line of its own."""
    if not parent.value:
        return text[: parent.start_mark.index] + f"{{{entry}}}" + text[parent.end_mark.index :]
    mark = parent.value[0][0].start_mark
    first, indentation = int(mark.index), " " * int(mark.column)
    if parent.flow_style:
        return text[:first] + f"{entry}, " + text[first:]
    end = "\r\n" if "\r\n" in text else "\n"
    for key, value in reversed(parent.value):
        line_end = text.find("\n", value.end_mark.index)
        rest = text[value.end_mark.index : line_end].strip()
        single = isinstance(value, yaml.ScalarNode) and value.style not in ("|", ">")
        one_line = value.start_mark.line == key.start_mark.line == value.end_mark.line
        if single and one_line and line_end >= 0 and (not rest or rest.startswith("#")):
            at_ = line_end + 1
            return text[:at_] + indentation + entry + end + text[at_:]
    return text[:first] + entry + end + indentation + text[first:]


# -- taking an entry out --------------------------------------------------------------------------


def _without(text: str, parent: Any, number: int) -> str | None:
    entries = parent.value
    key, value = entries[number]
    start, stop = key.start_mark.index, value.end_mark.index
    following = entries[number + 1][0].start_mark.index if number + 1 < len(entries) else None
    if parent.flow_style:
        if following is not None:
            return text[:start] + text[following:]
        previous = entries[number - 1][1].end_mark.index if number else start
        return text[:previous] + text[stop:]
    line_start = text.rfind("\n", 0, start) + 1
    if text[line_start:start].strip():
        return None if following is None else text[:start] + text[following:]
    lines = text[start:stop].rstrip().splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    last = start + len("".join(lines).rstrip())
    line_end = text.find("\n", last)
    return text[:line_start] + (text[line_end + 1 :] if line_end >= 0 else "")


# -- values ---------------------------------------------------------------------------------------


def _flow(edit: Set) -> str:
    value = edit.value
    if isinstance(value, dict):
        inner = ", ".join(f"{_scalar(key)}: {_scalar(each)}" for key, each in value.items())
        return f"{{{inner}}}"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
