"""What the command line of the benchmarks refuses."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import DOCS, _options, main
from tests.faults import losses
from tests.faults.__main__ import parse
from tests.faults.forgetful import LOSSES, SERVERS


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


def test_what_is_named_twice_is_added() -> None:
    """In all programs alike: `--only a --only b` is `--only a b`."""
    found = _options(["--only", "handover", "--stores", "etcd", "--only", "check", "crash"])
    assert (found.only, found.stores) == (["handover", "check", "crash"], ["etcd"])
    assert parse(["--store", "file", "--store", "sqlite"]).store == ["file", "sqlite"]
    assert parse(["--faults", "kill", "--faults", "stop"]).faults == ["kill", "stop"]
    assert losses.parse(["--loss", "emptied", "--loss", "promoted"]).loss == ["emptied", "promoted"]


def test_what_is_not_named_is_everything() -> None:
    assert (_options([]).only, _options([]).stores) == ([], [])
    assert losses.parse([]).store == list(SERVERS)
    assert losses.parse([]).loss == list(LOSSES)
