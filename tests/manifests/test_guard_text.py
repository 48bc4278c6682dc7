"""What `incumbent guard` prints, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from incumbent.errors import ConfigError
from incumbent.manifests.guard import Settings, policies, quota
from tests.cli.processes import run, run_python


def test_yaml_and_json_are_what_the_library_returns() -> None:
    made = policies()
    assert list(yaml.safe_load_all(run("guard").out)) == made
    assert run("guard", "--json").json == {"apiVersion": "v1", "kind": "List", "items": made}


def test_expressions_stand_in_yaml_as_they_were_written() -> None:
    lines = [line.strip() for line in run("guard").out.splitlines()]
    for made in policies():
        for check in made["spec"].get("validations", ()):
            for line in check["expression"].splitlines():
                assert any(line.strip() in printed for printed in lines)


def test_every_option_is_a_setting() -> None:
    done = run(
        "guard",
        *("--json", "--warn", "--no-pod-gc", "--prefix=ours"),
        *("--exempt=system:serviceaccount:ops:fencer", "--custom=argoproj.io/rollouts"),
        *("--namespace-selector=incumbent.dev/guard=enforce", "--namespace-selector=tier=prod"),
    )
    settings = Settings(
        prefix="ours",
        namespaces={"incumbent.dev/guard": "enforce", "tier": "prod"},
        warn=True,
        exempt=("system:serviceaccount:ops:fencer",),
        pod_gc=False,
        custom=("argoproj.io/rollouts",),
    )
    assert done.json["items"] == policies(settings)
    assert policies(settings) != policies()


def test_the_quota_is_printed_instead() -> None:
    assert list(yaml.safe_load_all(run("guard", "--quota", "billing").out)) == [quota("billing")]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--namespace-selector", "tier"], "write KEY=VALUE"),
        (["--namespace-selector", "a b=c"], "write KEY=VALUE"),
        (["--namespace-selector", "a=b", "--namespace-selector", "a=c"], "two values of a"),
        (["--prefix", "Ours"], "prefix: 'Ours'"),
        (["--prefix", ""], "prefix: ''"),
        (["--exempt", ""], "no name of a user"),
        (["--custom", "rollouts"], "write GROUP/PLURAL"),
        (["--quota", "Billing"], "namespace 'Billing'"),
        (["--quota", "billing", "--warn"], "leave the other options out"),
    ],
)
def test_bad_input_is_one_line_and_two(arguments: list[str], text: str) -> None:
    done = run("guard", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("incumbent: error: ")
    assert text in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("settings", [{"namespaces": {}}, {"exempt": ("a\nb",)}])
def test_the_library_refuses_what_would_guard_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        policies(Settings(**settings))


def test_a_name_of_a_user_cannot_end_the_expression() -> None:
    quoted = '"a\\"] || true || user in [\\""'
    made = policies(Settings(exempt=('a"] || true || user in ["',)))
    conditions = [c["expression"] for o in made for c in o["spec"].get("matchConditions", ())]
    assert any(quoted in expression for expression in conditions)


def test_without_pyyaml_the_message_says_what_to_install() -> None:
    done = run_python(
        "import sys; sys.modules['yaml'] = None\n"
        "from incumbent.cli.__main__ import main\n"
        "print(main(['guard']), main(['guard', '--quota', 'x', '--json']))"
    )
    assert done.out.endswith("2 0\n")
    assert "pip install 'incumbent[cli,kubernetes]'" in done.err
