"""Style as a test: every check on every file, and every check seen to fail."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath

import pytest

from incumbent.stores.api import Capabilities
from tests.style import checks
from tests.style.checks import CHECKS, PRAGMAS, Check, Source, findings
from tests.style.project import paths, sources

CORE = "src/incumbent/core/example.py"
STORE = "src/incumbent/stores/example.py"
TEST = "tests/test_example.py"

# What a check forbids is put together here, because these files are checked, too.
PLACE, HOME = "/" + "work", "/" + "root"
EVERYWHERE = ".".join("0000")
DOCSTRING = '"""Says in eight words what it is for."""\n'
CELLS = ", ".join(f"{cell.name}=x" for cell in fields(Capabilities))


@pytest.fixture(scope="module")
def project() -> list[Source]:
    found = sources()
    assert any(source.path == PurePosixPath("src/incumbent/errors.py") for source in found)
    return found


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_project_keeps(check: Check, project: list[Source]) -> None:
    found = [finding for source in project for finding in findings(check, source)]
    assert not found, "\n".join([check.__doc__ or "", *map(str, found)])


@dataclass(frozen=True, slots=True)
class Planted:
    """A violation that the check must find, and its neighbours that it must not find."""

    check: Check
    path: str
    bad: tuple[str, ...]
    good: tuple[str, ...]


PLANTED = (
    Planted(
        checks.lines_fit,
        CORE,
        bad=("x = 1  # " + "long " * 20, "\n" + "word " * 21),
        good=("x" * 100, "# " + "unbreakable" * 10),
    ),
    Planted(
        checks.lines_fit,
        "Makefile",
        bad=("\t" + "word " * 21,),
        good=("\tword",),
    ),
    Planted(
        checks.nothing_left_over,
        "README.md",
        bad=("TO" + "DO: write", "x = 1  # FIX" + "ME", "X" + "XX"),
        good=("mktemp -t " + "X" * 6, "a mastodon"),
    ),
    Planted(
        checks.no_machine_paths,
        "docs/example.md",
        bad=(f"see {PLACE}/main", f"cd {HOME}/x", f"`{HOME}`", f"ls {PLACE} ."),
        good=("docs/work/x", "a/root/b", "/workspace/x", "/var/lib/root", "/root-of-it"),
    ),
    Planted(
        checks.no_registry_hosts,
        "Makefile",
        bad=("https://pypi" + ".org/simple", "GOPROXY=https://proxy.golang" + ".org"),
        good=("pip install incumbent", "go.etcd.io/etcd", "golang.org/x/sys"),
    ),
    Planted(
        checks.no_bind_to_every_address,
        STORE,
        bad=(f"listen('{EVERYWHERE}')", f"x = 'http://{EVERYWHERE}:80'", f"listen('{':' * 2}')"),
        good=(
            "listen('127.0.0.1')",
            "x = '10.0.0.0/24', '0.0.0.0/0'",
            f'"""Never {EVERYWHERE}."""',
            f"listen('{EVERYWHERE}')  # bind: the kubelet probes it",
        ),
    ),
    Planted(
        checks.no_bind_to_every_address,
        "tests/server.yaml",
        bad=(f"listen: {EVERYWHERE}:80", f"listen: {EVERYWHERE}  # bind:"),
        good=("range: 10.0.0.0/24", f"listen: {EVERYWHERE}  # bind: inside a namespace"),
    ),
    Planted(
        checks.modules_are_short,
        CORE,
        bad=("x = 1\n" * 451,),
        good=("x = 1\n" * 450, "x = 1\n" * 450 + "# why\n\n" * 100 + '"""Why."""\n'),
    ),
    Planted(
        checks.modules_say_what_they_are,
        "src/incumbent/example/__init__.py",
        bad=("", '"""Example."""', "x = 1", "# Says in eight words what it is for."),
        good=(DOCSTRING,),
    ),
    Planted(
        checks.modules_say_what_they_are,
        "src/incumbent/_private.py",
        bad=(),
        good=("",),
    ),
    Planted(
        checks.durations_name_their_unit,
        STORE,
        bad=(
            "def f(timeout): ...",
            "def f(*, lease_ttl=1): ...",
            "async def f(grace: float): ...",
            "f = lambda delay: delay",
            "class A:\n    interval: float",
            "class A:\n    RETRY_PERIOD = 3",
            "class A:\n    @property\n    def ttl(self): ...",
            "class A:\n    def f(self):\n        self.timeout = 1",
            "class A:\n    def f(self):\n        self.ttl: float = 1",
            "def f(timeout): ...  # foreign name:",
        ),
        good=(
            "def f(timeout_s, lease_ttl_ms, delay_ns): ...",
            "client(timeout=3)",
            "x = client.timeout",
            "def f(timeout): ...  # foreign name: the interface of logging",
            "class A:\n    grace_s: float",
        ),
    ),
    Planted(
        checks.no_wall_clock,
        CORE,
        bad=(
            "import time\ntime.time()",
            "import time as t\nt.time_ns()",
            "from time import time\ntime()",
            "from datetime import datetime as d\nd.now()",
            "import datetime\ndatetime.datetime.utcnow()",
            "import time\nf(clock=time.time)",
            "import time\ntime.clock_gettime(time.CLOCK_REALTIME)",
            "import time\ntime.time()  # wall clock:",
        ),
        good=(
            "import time\ntime.monotonic()",
            "import time\ntime.clock_gettime(time.CLOCK_BOOTTIME)",
            "self.time()",
            "import time\ntime.time()  # wall clock: shown to people",
            "import time\ntime.time()  # noqa: X; wall clock: shown to people",
        ),
    ),
    Planted(
        checks.no_wall_clock,
        "src/incumbent/runtime/example.py",
        bad=("import time\ntime.time()",),
        good=(),
    ),
    Planted(
        checks.no_sleep_in_tests,
        TEST,
        bad=(
            "import time\ntime.sleep(1)",
            "import asyncio\nasync def f():\n    await asyncio.sleep(0.1)",
            "from time import sleep as nap\nnap(1)",
            "import time\ntime.sleep(1)  # sleep: yes",
        ),
        good=(
            "import asyncio\nasync def f():\n    await asyncio.sleep(0)",
            "import time\ntime.sleep(1)  # sleep: the lease has to expire",
            "clock.sleep(1)",
            "text = 'time.sleep(1)'",
        ),
    ),
    Planted(
        checks.no_shell,
        TEST,
        bad=(
            "import subprocess\nsubprocess.run('ls', shell=True)",
            "import subprocess\nsubprocess.run('ls', shell=anything)",
            "import os\nos.system('ls')",
            "from os import popen\npopen('ls')",
            "import asyncio\nasyncio.create_subprocess_shell('ls')",
        ),
        good=("import subprocess\nsubprocess.run(['ls'])", "system('ls')"),
    ),
    Planted(
        checks.no_print,
        STORE,
        bad=("print(1)", "def f():\n    print()"),
        good=("self.print(1)", "pprint(1)", "print(1)  # print: a development command"),
    ),
    Planted(
        checks.no_print,
        "src/incumbent/cli/example.py",
        bad=(),
        good=("print(1)",),
    ),
    Planted(
        checks.assertions_can_fail,
        TEST,
        bad=("assert True", "assert 1", "assert (x, 'message')", "assert 'x', y"),
        good=("assert x", "assert x is True", "assert False, 'unreachable'"),
    ),
    Planted(
        checks.no_bare_except,
        TEST,
        bad=("try:\n    f()\nexcept:\n    pass",),
        good=("try:\n    f()\nexcept OSError:\n    pass",),
    ),
    Planted(
        checks.recipes_say_every_cell,
        STORE,
        bad=(
            "X = Capabilities(scheme='a', partner='theirs')",
            "X = replace(NATIVE, partner='theirs')",
            f"X = Capabilities({CELLS.replace('bars=x, ', '')})",
        ),
        good=(
            "X = Capabilities(scheme='a')",
            "X = replace(NATIVE, assumes='more')",
            f"X = Capabilities({CELLS})",
        ),
    ),
)


def _cases(kind: str) -> list[object]:
    return [
        pytest.param(
            planted.check,
            Source(PurePosixPath(planted.path), text),
            id=f"{planted.check.__name__}-{text[:50]}",
        )
        for planted in PLANTED
        for text in getattr(planted, kind)
    ]


@pytest.mark.parametrize(("check", "source"), _cases("bad"))
def test_a_planted_violation_is_found(check: Check, source: Source) -> None:
    assert findings(check, source)


@pytest.mark.parametrize(("check", "source"), _cases("good"))
def test_its_lawful_neighbour_is_not(check: Check, source: Source) -> None:
    assert not findings(check, source)


def test_every_check_has_a_planted_violation() -> None:
    assert {planted.check for planted in PLANTED if planted.bad} == set(CHECKS)


def test_every_excuse_belongs_to_a_check_and_is_tried() -> None:
    excused = {
        planted.check.__name__
        for planted in PLANTED
        for text in planted.good
        if f"# {PRAGMAS.get(planted.check.__name__)}: " in text
    }
    assert excused == set(PRAGMAS)
    assert excused <= {check.__name__ for check in CHECKS}


def test_files_are_those_that_git_would_add(tmp_path: Path) -> None:
    for name in ("tracked.py", "new.py", "ignored.py", "deleted.py"):
        (tmp_path / name).write_text("", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("ignored.py\n", encoding="utf-8")
    for command in (["init", "--quiet"], ["add", "tracked.py", "deleted.py"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "deleted.py").unlink()
    assert list(map(str, paths(tmp_path))) == [".gitignore", "new.py", "tracked.py"]


def test_files_without_git_are_those_outside_of_caches(tmp_path: Path) -> None:
    for name in ("src/a.py", ".ci/run", ".venv/b.py", ".mypy_cache/c.py", "src/__pycache__/d.pyc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    assert list(map(str, paths(tmp_path))) == [".ci/run", "src/a.py"]


def test_a_binary_file_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG\0")
    (tmp_path / "text").write_text("ρ", encoding="utf-8")
    assert [source.text for source in sources(tmp_path)] == ["ρ"]
