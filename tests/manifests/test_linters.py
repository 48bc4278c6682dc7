"""kube-score on what is written: it would repair no singleton, and each waiver is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from incumbent.manifests.objects import objects_of
from tests.manifests.kit import EVERY
from tests.manifests.linters import KUBE_SCORE, stripped, waived


@pytest.mark.parametrize("name", EVERY)
def test_kube_score_would_repair_nothing_and_each_waiver_is_needed(
    kube_score: Path, name: str
) -> None:
    objects = objects_of(EVERY[name])
    assert KUBE_SCORE.findings(kube_score, objects) == set()
    without = KUBE_SCORE.findings(kube_score, stripped(KUBE_SCORE, objects))
    assert without == waived(KUBE_SCORE, objects)
