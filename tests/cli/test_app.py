"""The command line as a whole: usage, exit codes, what is missing, how fast it starts."""

from __future__ import annotations

import os
import subprocess

import click
import pytest

from incumbent import __version__, errors
from incumbent.cli import codes
from incumbent.cli.app import COMMANDS, command_line
from incumbent.core.records import absent
from tests.cli.processes import ROOT, command, environment, run, run_python


def test_the_version_needs_nothing_heavy() -> None:
    done = run_python(
        "import sys; from incumbent.cli.__main__ import main; code = main(['--version'])\n"
        "print(code, [m for m in ('asyncio', 'rich', 'sqlite3', 'ctypes') if m in sys.modules])"
    )
    assert done.out.splitlines() == [f"incumbent {__version__}", "0 []"]


def test_help_lists_every_command_without_importing_it() -> None:
    done = run("--help")
    assert done.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.out
    assert run("-h").out == done.out


def test_the_package_is_a_program() -> None:
    done = run_python(
        "import subprocess, sys\n"
        "sys.exit(subprocess.run([sys.executable, '-m', 'incumbent', '--version']).returncode)"
    )
    assert (done.code, done.out) == (0, f"incumbent {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: incumbent {name} ")
    assert "--json" in done.out


def test_every_command_in_the_table_is_there() -> None:
    context = command_line.make_context("incumbent", [], resilient_parsing=True)
    for name in COMMANDS:
        found = command_line.get_command(context, name)
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["stats"], "did you mean 'status'?"),
        (["frobnicate"], "there are: run, "),
        (["--frobnicate"], "--frobnicate"),
        (["status", "a", "b"], "unexpected extra argument"),
        (["status", "Bill"], "election name 'Bill': use 1 to 200 of"),
        (["status", "--store", "nonsense"], "has no scheme"),
        (["status", "--store", "memcached://a"], "no store answers to memcached://"),
        (["status", "--store", "sqlite://relative/x.db"], "three slashes"),
        (["status", "--store", "sqlite:///a%00b"], "three slashes"),
        (["status", "--store", "sqlite:///x?y=1"], "does not know the option 'y'"),
        (["watch", "--for", "-1"], "is not a number of seconds"),
        (["watch", "--for", "inf"], "is not a number of seconds"),
        (["watch", "--for", "5x"], "write it as in '30s', '0.5s', '5m' or '1h30m', or as a"),
        (["watch", "--count", "0"], "--count"),
    ],
)
def test_bad_input_is_one_line_and_two(arguments: list[str], text: str) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("incumbent: error: ")
    assert text in done.err
    assert len(done.err.splitlines()) == 1


def test_a_password_is_not_shown() -> None:
    done = run("status", "--store", "memcached://me:secret@host/x")
    assert done.code == 2
    assert "secret" not in done.err


def test_no_store_where_a_default_would_be_wrong() -> None:
    done = run("status", extra={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert done.code == 2
    assert "a Kubernetes Pod" in done.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.InvalidName("x"), 2),
        (errors.MissingExtra("x"), 2),
        (errors.UnsupportedPlatform("x"), 2),
        (errors.StoreUnavailable("x"), 69),
        (errors.OutcomeUnknown("x"), 69),
        (errors.StoreUnusable("x"), 69),
        (errors.StoreFull("x"), 69),
        (errors.PermissionDenied("x"), 77),
        (errors.NotElected("x"), 75),
        (errors.Refused(absent("x")), 1),
        (errors.ForeignRecord("x"), 1),
        (errors.LeadershipLost("x"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (RuntimeError("x"), 1),
    ],
)
def test_one_table_of_exit_codes(error: BaseException, code: int) -> None:
    assert codes.code_of(error) == code


def test_without_click_the_message_says_what_to_install() -> None:
    done = run_python(
        "import sys; sys.modules['click'] = None\n"
        "from incumbent.cli.__main__ import main; sys.exit(main(['status']))"
    )
    assert done.code == 2
    assert "pip install 'incumbent[cli]'" in done.err
    assert "Traceback" not in done.err
    done = run_python(
        "import runpy, sys; sys.modules['click'] = None; sys.argv = ['incumbent', 'status']\n"
        "runpy.run_module('incumbent', run_name='__main__')"
    )
    assert done.code == 2
    assert done.err.startswith("incumbent: error: the command line needs click")
    done = run_python(
        "import sys; sys.modules['click'] = None\n"
        "from incumbent.errors import MissingExtra\n"
        "try:\n    import incumbent.cli.app\nexcept MissingExtra as error:\n    print(error)"
    )
    assert "pip install 'incumbent[cli]'" in done.out


@pytest.mark.parametrize("name", ["status", "watch", "doctor", "stores", "demo"])
def test_without_rich_nothing_is_begun(name: str, url: str) -> None:
    store = [] if name in ("stores", "demo") else ["--store", url]
    done = run_python(
        "import sys; sys.modules['rich'] = None\n"
        f"from incumbent.cli.app import main; sys.exit(main({[name, *store]!r}))"
    )
    assert (done.code, done.out) == (2, "")
    assert "pip install 'incumbent[cli]'" in done.err
    assert len(done.err.splitlines()) == 1


def test_json_needs_no_rich(url: str) -> None:
    done = run_python(
        "import sys; sys.modules['rich'] = None\n"
        "from incumbent.cli.app import main\n"
        f"sys.exit(main(['status', '--json', '--store', {url!r}]))"
    )
    assert (done.code, done.json) == (0, {"elections": []})


def test_a_reader_that_goes_away_is_no_crash() -> None:
    done = run_python(
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'incumbent.cli', 'stores', '--json'],\n"
        "    stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.close(); text = p.stderr.read(); print(p.wait(), text)"
    )
    assert done.out == "141 b''\n"


PRINTING = [
    ["status", "bill"],
    ["status", "bill", "--json"],
    ["stores"],
    ["stores", "--json"],
    ["doctor"],
    ["doctor", "--json"],
    ["--help"],
    ["--version"],
    ["status", "--help"],
    ["watch", "bill", "--for", "1"],
    ["watch", "bill", "--for", "1", "--json"],
]


def printing(arguments: list[str], out: int, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=environment({"INCUMBENT_STORE": url}),
    )


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_disk_is_one_line(arguments: list[str], url: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = printing(arguments, full, url)
    finally:
        os.close(full)
    text = "incumbent: error: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, text)


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], url: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = printing(arguments, writer, url)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_options_of_all_commands_are_those_of_all_but_what_the_page_names() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    section = page.partition("## Options of all commands")[2].partition("\n## ")[0]
    context = click.Context(command_line)
    lacking = {}
    for name in COMMANDS:
        found = command_line.get_command(context, name)
        assert found is not None
        known = {option for each in found.params for option in each.opts}
        if missing := {"--json", "-v", "-q"} - known:
            lacking[name] = missing
    assert set(lacking) == {"probe"}
    assert "`probe` has `--json`, and none of the others" in section
