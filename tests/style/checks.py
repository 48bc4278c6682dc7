"""The house rules as functions: a file goes in, findings come out.

Rules that a linter already has (unused names, order of imports, types) are left to the linter. What
is here is about this project: names that carry their unit, clocks that nobody may read, sleeping
tests. A check counts once it has been seen to fail, so `test_style` plants a violation for each.

A line may be excused by a comment that names the rule and gives a reason of two words or more,
as in `# sleep: the kernel timer has no event to wait for`; `PRAGMAS` lists which rules allow it.
The comment stands on the line of the finding.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import PurePosixPath

from incumbent.stores.api import Capabilities

GREATEST_LINE_CHARACTERS = 100
GREATEST_MODULE_LINES = 450
LEAST_DOCSTRING_WORDS = 8

DURATION_WORDS = frozenset({"timeout", "ttl", "interval", "delay", "grace", "period"})

PRAGMAS = {
    "durations_name_their_unit": "foreign name",
    "no_wall_clock": "wall clock",
    "no_sleep_in_tests": "sleep",
    "no_print": "print",
    "no_bind_to_every_address": "bind",
}

# The brackets around single letters keep these patterns from matching themselves.
_LEFT_OVERS = re.compile(r"\b(?:[T]ODO|[F]IXME|[X]XX)\b")
_MACHINE_PATHS = re.compile(r"(?<![\w.-])/(?:[w]ork|[r]oot)(?![\w-])")
_REGISTRY_HOSTS = re.compile(
    r"\b(?:[p]ypi|[p]ythonhosted|(?:[p]roxy|[s]um)\.golang|deb\.[d]ebian)\.org\b|[r]epo1?\.maven\b"
)
_EVERY_ADDRESS = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d./])")


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation, printed so that an editor can jump to it."""

    path: PurePosixPath
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Source:
    """A text file of the project; the path is relative to the project's root."""

    path: PurePosixPath
    text: str

    @property
    def is_python(self) -> bool:
        return self.path.suffix == ".py"

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @cached_property
    def comments(self) -> dict[int, str]:
        """The comment of each line that has one, of a Python file."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    def within(self, *folders: str) -> bool:
        return any(self.path.is_relative_to(folder) for folder in folders)

    def found(self, line: int, message: str) -> Finding:
        return Finding(self.path, line, message)


Check = Callable[[Source], Iterator[Finding]]


def findings(check: Check, source: Source) -> list[Finding]:
    """Run one check on one file, and drop what a comment with a reason excuses."""
    word = PRAGMAS.get(check.__name__)
    return [
        finding
        for finding in check(source)
        if word is None or not _is_excused(source, finding.line, word)
    ]


def _is_excused(source: Source, line: int, word: str) -> bool:
    if source.is_python:
        comment = source.comments.get(line, "")
    else:
        comment = source.lines[line - 1]
    return re.search(rf"(?:#|//) (?:.*; )?{word}: \S+ \S+", comment) is not None


# ---- any text


def lines_fit(source: Source) -> Iterator[Finding]:
    """Lines of code and settings have at most 100 characters, unless they cannot be broken."""
    if source.path.suffix not in {".py", ".toml", ".sh", ""} or source.path.name == "LICENSE":
        return
    for number, line in enumerate(source.lines, start=1):
        unbreakable = " " not in line.strip().removeprefix("# ")
        if len(line) > GREATEST_LINE_CHARACTERS and not unbreakable:
            yield source.found(number, f"{len(line)} characters; break it after 100 at most")


def nothing_left_over(source: Source) -> Iterator[Finding]:
    """What remains to be done is an issue, and not a marker that everybody learns to overlook."""
    yield from _matches(source, _LEFT_OVERS, "do it, or open an issue")


def no_machine_paths(source: Source) -> Iterator[Finding]:
    """Paths of the machine on which something was written mean nothing elsewhere."""
    yield from _matches(source, _MACHINE_PATHS, "a path of one machine")


def no_registry_hosts(source: Source) -> Iterator[Finding]:
    """Packages are used by name; which registry they come from is the user's setting."""
    if source.path.suffix != ".sum":
        yield from _matches(source, _REGISTRY_HOSTS, "name the package and not the registry")


def no_bind_to_every_address(source: Source) -> Iterator[Finding]:
    """What listens, listens on the loopback address, or says why others must reach it."""
    message = "listen on 127.0.0.1, or add `# bind: <reason>`"
    if not source.is_python:
        yield from _matches(source, _EVERY_ADDRESS, message)
        return
    docstrings = set(map(id, _docstring_nodes(source.tree)))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            everywhere = node.value == ":" * 2 or _EVERY_ADDRESS.search(node.value)
            if everywhere and id(node) not in docstrings:
                yield source.found(node.lineno, message)


def _matches(source: Source, pattern: re.Pattern[str], message: str) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, start=1):
        for match in pattern.finditer(line):
            yield source.found(number, f"{match.group()!r}: {message}")


# ---- modules


def modules_are_short(source: Source) -> Iterator[Finding]:
    """A module of more than 450 lines of code answers more than one question.

    Its rules, theory and warnings do not count: reasons may be long.
    """
    if not (source.is_python and source.within("src")):
        return
    length = len(_lines_of_code(source))
    if length > GREATEST_MODULE_LINES:
        text = f"{length} lines of code; split the module by question"
        yield source.found(length, f"{text} (at most {GREATEST_MODULE_LINES})")


def _lines_of_code(source: Source) -> list[str]:
    prose: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(source.text.splitlines(), start=1)
    return [
        line
        for number, line in lines
        if line.strip() and not line.lstrip().startswith("#") and number not in prose
    ]


def modules_say_what_they_are(source: Source) -> Iterator[Finding]:
    """A public module opens with a docstring that says more than its name does."""
    private = source.path.stem.startswith("_") and not source.path.stem.endswith("__")
    if private or not (source.is_python and source.within("src")):
        return
    words = (ast.get_docstring(source.tree) or "").split()
    if len(words) < LEAST_DOCSTRING_WORDS:
        yield source.found(1, f"{len(words)} words of docstring; say what the module is for")


# ---- names


def durations_name_their_unit(source: Source) -> Iterator[Finding]:
    """Parameters and attributes that hold a duration end in its unit: `ttl_s`, `delay_ms`."""
    if not (source.is_python and source.within("src")):
        return
    for name, line in _parameters_and_attributes(source.tree):
        if name.lower().rsplit("_", maxsplit=1)[-1] in DURATION_WORDS:
            yield source.found(line, f"{name!r} has no unit; call it {name}_s, _ms or _ns")


def _parameters_and_attributes(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.arg():
                yield node.arg, node.lineno
            case ast.ClassDef():
                yield from _class_attributes(node)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                yield node.attr, node.lineno


def _class_attributes(node: ast.ClassDef) -> Iterator[tuple[str, int]]:
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, statement.lineno
            case ast.Assign(targets=targets):
                for target in targets:
                    if isinstance(target, ast.Name):
                        yield target.id, statement.lineno
            case ast.FunctionDef(name=name, decorator_list=decorators):
                if any("property" in ast.unparse(decorator) for decorator in decorators):
                    yield name, statement.lineno


# ---- calls


def no_wall_clock(source: Source) -> Iterator[Finding]:
    """No decision reads a wall clock: one of them steps, and two of them disagree."""
    if not (source.is_python and source.within("src/incumbent/core", "src/incumbent/runtime")):
        return
    forbidden = {
        "time.time",
        "time.time_ns",
        "time.localtime",
        "time.gmtime",
        "time.CLOCK_REALTIME",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
    }
    for name, line, _ in _foreign_names(source.tree):
        if name in forbidden:
            yield source.found(line, f"{name} is a wall clock; use incumbent.clock")


def no_sleep_in_tests(source: Source) -> Iterator[Finding]:
    """A test waits for an event; a sleep is too short on a busy machine and too long elsewhere."""
    if not (source.is_python and source.within("tests")):
        return
    sleeps = {"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep"}
    for name, line, call in _foreign_names(source.tree):
        gives_way = call is not None and [ast.unparse(value) for value in call.args] == ["0"]
        if name in sleeps and not gives_way:
            yield source.found(line, f"{name}: wait for an event, or add `# sleep: <reason>`")


def no_shell(source: Source) -> Iterator[Finding]:
    """Programs are started with a list of arguments, so that no name is ever read as a command."""
    if not source.is_python:
        return
    shells = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
    shells |= {"asyncio.create_subprocess_shell", "asyncio.subprocess.create_subprocess_shell"}
    for name, line, _ in _foreign_names(source.tree):
        if name in shells:
            yield source.found(line, f"{name} goes through a shell")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            yield source.found(node.value.lineno, "shell= may go through a shell; leave it out")


def no_print(source: Source) -> Iterator[Finding]:
    """A library is silent; what there is to say goes to the log or to the command's output."""
    if not (source.is_python and source.within("src")) or source.within("src/incumbent/cli"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield source.found(node.lineno, "print belongs into incumbent.cli")


def _foreign_names(tree: ast.Module) -> Iterator[tuple[str, int, ast.Call | None]]:
    """Every use of an imported name, spelled from its package, with the call that it is in.

    `from time import sleep as nap` makes `nap(1)` a use of `time.sleep`. The import itself counts,
    too: whoever imports `time.time` by name means to use it.
    """
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                origins[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            if first in origins:
                yield f"{origins[first]}{dot}{rest}", node.lineno, calls.get(id(node))


# ---- statements


def assertions_can_fail(source: Source) -> Iterator[Finding]:
    """An assertion of a constant has never been seen to fail."""
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            constant = isinstance(node.test, ast.Constant) and bool(node.test.value)
            if constant or (isinstance(node.test, ast.Tuple) and node.test.elts):
                yield source.found(node.lineno, "this assertion cannot fail")


def no_bare_except(source: Source) -> Iterator[Finding]:
    """A bare except swallows the request to stop."""
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield source.found(node.lineno, "name the exceptions")


def recipes_say_every_cell(source: Source) -> Iterator[Finding]:
    """What has a partner inherits no capability in silence: each recipe says every cell.

    A default, or what the native store says, may be wrong for it, and nobody would look.
    """
    if not (source.is_python and source.within("src")):
        return
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        said = {keyword.arg for keyword in node.keywords}
        if node.func.id not in ("Capabilities", "replace") or "partner" not in said:
            continue
        missing = sorted({field.name for field in fields(Capabilities)} - said)
        if missing:
            yield source.found(node.lineno, f"say {', '.join(missing)}")


def _docstring_nodes(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every string that stands alone as a statement: docstrings, and those below an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


CHECKS: tuple[Check, ...] = (
    lines_fit,
    nothing_left_over,
    no_machine_paths,
    no_registry_hosts,
    no_bind_to_every_address,
    modules_are_short,
    modules_say_what_they_are,
    durations_name_their_unit,
    no_wall_clock,
    no_sleep_in_tests,
    no_shell,
    no_print,
    assertions_can_fail,
    no_bare_except,
    recipes_say_every_cell,
)
