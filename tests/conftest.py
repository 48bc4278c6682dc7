"""What every test has: the real servers, and the profiles of Hypothesis.

`HYPOTHESIS_PROFILE=long` runs a hundred times as many examples; every profile prints the blob with
which a failure is reproduced. No example has a deadline of its own: a busy machine is no failure.
"""

from __future__ import annotations

import os
import signal
import time

import hypothesis
import pytest

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the time of the whole CI run before pytest's closing line, which stays the last."""
    started = os.environ.get("INCUMBENT_STARTED_S")
    if started:
        terminalreporter.write_line(f"{time.time() - float(started):.0f} s since .ci/run started")
