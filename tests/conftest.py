"""What every test has: the real servers, the profiles of Hypothesis, and its turn among workers.

`HYPOTHESIS_PROFILE=long` runs a hundred times as many examples; every profile prints the blob with
which a failure is reproduced. No example has a deadline of its own: a busy machine is no failure.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest

from tests.workers import in_turn, path_of, unit_of

pytest_plugins = ["tests.servers.fixtures"]

# Under nohup, or behind a shell's `&`, some are ignored, and that is inherited: by every program
# that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)

hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "long",
    hypothesis.settings.get_profile("default"),
    max_examples=10_000,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each worker know the tests in the order in which they are given out."""
    if hasattr(config, "workerinput"):
        files = in_turn([path_of(item.nodeid) for item in items])
        items.sort(key=lambda item: files.index(path_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give out files as `--dist loadfile` does, but in our order and with our exception."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    config.option.loadscopereorder = False
    scheduling = LoadFileScheduling(config, log)
    scheduling._split_scope = unit_of
    return scheduling


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have reports go from a worker as UTF-8, also of tests whose log has what is no text."""
    report = yield
    report.sections = [(title, _as_text(content)) for title, content in report.sections]
    return report


def _as_text(content: str) -> str:
    return content.encode("utf-8", "backslashreplace").decode()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the time of the whole CI run before pytest's closing line, which stays the last."""
    started = os.environ.get("INCUMBENT_STARTED_S")
    if started:
        terminalreporter.write_line(f"{time.time() - float(started):.0f} s since .ci/run started")
