"""What the command line of the benchmarks refuses."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import DOCS, main


@pytest.mark.parametrize("more", [["--only", "check"], ["--stores", "sqlite"]])
def test_results_that_are_not_measured_are_not_thrown_away(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = DOCS.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["--write-docs", "--quick", *more])
    assert ended.value.code == 2
    assert "takes neither --only nor --stores" in capsys.readouterr().err
    assert DOCS.read_bytes() == before
