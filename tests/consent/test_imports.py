"""What an owner's machine and a candidate's Pod need not have installed, they do not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

_WEBHOOKS = {"cronsim", "cryptography", "uvicorn"}


@pytest.mark.parametrize(
    "module",
    ["cli.run", "cli.consent_webhook", "consent.asking", "consent.handover"],
)
def test_the_webhooks_packages_are_for_the_webhook(module: str) -> None:
    program = f"import sys, incumbent.{module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert not _WEBHOOKS & set(done.stdout.split())
