"""What the shows on a real cluster reckon with, by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.live import kit


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 10.0), (0.95, 19.0), (1.0, 20.0), (0.01, 1.0)])
def test_a_percentile_is_a_value_that_was_measured(share: float, wanted: float) -> None:
    assert kit.percentile([float(n) for n in range(20, 0, -1)], share) == wanted
    assert kit.percentile([7.0], share) == 7.0


def test_marks_of_client_go_are_read_by_their_terms(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    assert kit._theirs(path) == []
    path.write_text("0 100 1\n0 200 1\n1 400 1\n1 300 1\n1 5")  # The last is being written.
    first, second = kit._theirs(path)
    assert (first.token, first.first_ns, first.last_ns) == (0, 100, 200)
    assert (second.token, second.first_ns, second.last_ns) == (1, 300, 400)


def test_a_process_is_found_by_the_pod_that_it_is_told_of() -> None:
    with pytest.raises(Exception, match="no process of the Pod"):
        kit.first_process("00000000-0000-0000-0000-000000000000")
