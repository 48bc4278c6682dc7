"""Reading manifests: files, folders and streams become objects that know their lines.

Rules
-----
1. YAML is read as Kubernetes reads it: version 1.1 as Go's library has it. `yes`, `on` and `y` are
   booleans; `1:30` and a date are strings.
2. A `kind: List` is its items. A document that is no Kubernetes object (values, a kustomization) is
   left out and counted, never guessed at.
3. A file that is a template (`{{`) cannot be read; the error says how to render it. In a folder it
   ends the run too: what is not looked at must not look clean.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, ClassVar

from incumbent.audit.objects import Manifest, Object, Origin, Path, at
from incumbent.errors import ConfigError, MissingExtra

try:
    import yaml
except ModuleNotFoundError as missing:
    raise MissingExtra("audit needs PyYAML: pip install 'incumbent[kubernetes]'") from missing

__all__ = ["STDIN", "File", "InFile", "Read", "data_of", "document", "parsed", "read", "read_text"]

STDIN = "-"
_GREATEST_NODES = 2_000_000
_DEEPEST = 200
_SUSPICIOUS = 5000
_SUFFIXES = (".yaml", ".yml", ".json")
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # whichever of the two there is
    """Reads plain scalars as Go's YAML library does."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE"), True),
    **dict.fromkeys(("on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE"), False),
    **dict.fromkeys(("off", "Off", "OFF"), False),
}


def _bool(_: Any, node: Any) -> bool:
    return _BOOLEANS[node.value]


def _int(_: Any, node: Any) -> int:
    text = node.value.replace("_", "")
    if re.fullmatch(r"[-+]?0[0-7]+", text):
        return int(text, 8)
    return int(text, 0)


for _tag, _pattern, _first in (
    ("bool", "|".join(_BOOLEANS), "yYnNtTfFoO"),
    ("int", r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )
_Loader.add_constructor("tag:yaml.org,2002:bool", _bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


@dataclass(frozen=True, eq=False)
class File:
    """A text that was read, and each of its documents as nodes."""

    name: str
    text: str
    documents: list[Any] = field(default_factory=list)


class InFile(Origin):
    """An object that stands in a file.

    Attributes:
        file: the file.
        node: the node of the whole object.
        prefix: the path of the object within its document, which is a List or the object itself.
        document: the number of the document in the file.
    """

    def __init__(self, file: File, document: int, prefix: Path) -> None:
        super().__init__(file.name)
        self.file = file
        self.document = document
        self.prefix = prefix

    def line(self, path: Path) -> int:
        """Return the line of what stands at `path`, or of the nearest thing above it."""
        node = self.file.documents[self.document]
        line: int = node.start_mark.line
        for step in (*self.prefix, *path):
            found = _below(node, step)
            if found is None:
                break
            line, node = found
        return line + 1


def _below(node: Any, step: str | int) -> tuple[int, Any] | None:
    """Return the line on which an entry of a node begins, and the entry's node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    return None


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes:
        manifests: the objects, in the order in which they stand.
        files: the texts, for who repairs them.
        left_out: the names of documents that are no objects, `FILE:LINE`.
    """

    manifests: list[Manifest]
    files: list[File]
    left_out: list[str]


def read(names: Iterable[str], *, namespace: str = "") -> Read:
    """Read files, folders, and `-` for the standard input.

    Raises:
        ConfigError: one cannot be read; the message says what to do.
    """
    files = []
    for name in names:
        if name == STDIN:
            files.append(parsed("<stdin>", sys.stdin.read()))
        else:
            files += [parsed(str(path), _text(path)) for path in _files(FilePath(name))]
    return _gathered(files, namespace)


def read_text(text: str, name: str = "<text>", *, namespace: str = "") -> Read:
    """Read a text."""
    return _gathered([parsed(name, text)], namespace)


def document(path: FilePath) -> Any:
    """Read a file of one document that is no Kubernetes object.

    Raises:
        ConfigError: it cannot be read.
    """
    file = parsed(str(path), _text(path))
    return data_of(file.documents[0], file.name) if file.documents else None


def _files(path: FilePath) -> list[FilePath]:
    if not path.is_dir():
        return [path]
    found = sorted(
        each
        for each in path.rglob("*")
        if each.suffix in _SUFFIXES
        and each.is_file()
        and not any(part.startswith(".") for part in each.relative_to(path).parts)
    )
    if not found:
        raise ConfigError(f"{path} has no file that ends in {', '.join(_SUFFIXES)}")
    return found


def _text(path: FilePath) -> str:
    try:
        # Line ends stay as they are: whoever repairs the file writes them back.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def parsed(name: str, text: str) -> File:
    """Return the documents of a text as nodes.

    Raises:
        ConfigError: it is no YAML, or a template.
    """
    documents = []
    loader = _Loader(text)
    try:
        _check_depth(text, name)
        while loader.check_node():
            documents.append(loader.get_node())
    except yaml.YAMLError as error:
        _refuse_template(name, text)
        raise ConfigError(f"{name} is not YAML: {_said(error)}") from None
    finally:
        loader.dispose()
    return File(name, text, documents)


def _refuse_template(name: str, text: str) -> None:
    """Say of a text that cannot be read that it is a template, if it is one.

    Raises:
        ConfigError: it is.
    """
    if "{{" in text:
        raise ConfigError(
            f"{name} is a template; render it first: helm template . | incumbent audit -"
        ) from None


def _said(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def _check_depth(text: str, name: str) -> None:
    """Make sure that the composer, which is C and calls itself, does not run out of its stack.

    Raises:
        ConfigError: the text is nested more deeply than any manifest is.
    """
    if sum(map(text.count, ("[", "{", "- -", "? ?"))) < _SUSPICIOUS:
        return
    loader, depth = _Loader(text), 0
    try:
        while loader.check_event():
            event = loader.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ConfigError(f"{name} is nested too deeply")
    finally:
        loader.dispose()


def _check_size(node: Any, name: str) -> None:
    """Make sure that what aliases repeat has an end, and no absurd one.

    Raises:
        ConfigError: it has not.
    """
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(one: Any) -> int:
        if not isinstance(one, yaml.CollectionNode):
            return 1
        if id(one) in open_:
            raise ConfigError(f"{name}: an alias contains itself")
        if len(open_) > _DEEPEST:
            raise ConfigError(f"{name} is nested too deeply")
        if id(one) not in sizes:
            open_.add(id(one))
            pairs = isinstance(one, yaml.MappingNode)
            below = (part for each in one.value for part in (each if pairs else (each,)))
            sizes[id(one)] = 1 + sum(map(size, below))
            open_.remove(id(one))
        return sizes[id(one)]

    if size(node) > _GREATEST_NODES:
        raise ConfigError(f"{name}: aliases blow it up to more than {_GREATEST_NODES} values")


def data_of(node: Any, name: str = "") -> Any:
    """Return what a node says.

    Raises:
        ConfigError: it cannot be understood.
    """
    _check_size(node, name or "the text")
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        line = node.start_mark.line + 1
        raise ConfigError(f"{name or 'the text'}: the document of line {line}: {error}") from None
    finally:
        loader.dispose()


def _gathered(files: list[File], namespace: str) -> Read:
    found: list[tuple[Object, InFile]] = []
    left_out = []
    for file in files:
        for number, node in enumerate(file.documents):
            try:
                document = data_of(node, file.name)
            except ConfigError:
                # `replicas: {{ .Values.n }}` is a map in a map to a parser, and no error yet.
                _refuse_template(file.name, file.text)
                raise
            objects = list(_objects(document, ()))
            if not objects and document is not None and not _is_empty_list(document):
                left_out.append(f"{file.name}:{node.start_mark.line + 1}")
            found += [(body, InFile(file, number, prefix)) for body, prefix in objects]
    home = namespace or home_of([body for body, _ in found])
    return Read([Manifest(body, origin, home) for body, origin in found], files, left_out)


def _is_empty_list(document: Any) -> bool:
    return isinstance(document, dict) and str(document.get("kind", "")).endswith("List")


def _objects(document: Any, prefix: Path) -> Iterator[tuple[Object, Path]]:
    if not isinstance(document, dict):
        return
    kind, items = document.get("kind"), document.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for number, item in enumerate(items):
            yield from _objects(item, (*prefix, "items", number))
    elif isinstance(kind, str) and isinstance(document.get("apiVersion"), str):
        yield document, prefix


def home_of(bodies: list[Object]) -> str:
    """Return the namespace of objects that name none: the only one that others name, or default.

    Charts often leave it out in some templates and not in others. Where few objects name one, it is
    another one: a rule in `kube-system`, say.
    """
    named = [str(at(body, "metadata", "namespace") or "") for body in bodies]
    places = {each for each in named if each}
    if len(places) == 1 and named.count("") < len(named) / 2:
        return places.pop()
    return "default"
