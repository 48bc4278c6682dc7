"""What an owner's machine and a candidate's Pod need not have installed, they do not import."""

from __future__ import annotations

import subprocess
import sys

_WEBHOOKS = {"cronsim", "cryptography", "uvicorn"}
_OTHERS = ("cli.run", "cli.consent", "cli.consent_webhook", "consent.asking", "consent.handover")


def test_the_webhooks_packages_are_for_the_webhook() -> None:
    modules = ", ".join(f"incumbent.{module}" for module in _OTHERS)
    program = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "incumbent.consent.handover" in done.stdout.split()
    assert not _WEBHOOKS & set(done.stdout.split())
