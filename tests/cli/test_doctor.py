from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from incumbent.cli import host
from incumbent.stores.api import Finding
from tests.cli.conftest import Start
from tests.cli.processes import run, run_in_terminal


def by_check(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{found['group']}: {found['check']}": found for found in document["findings"]}


def test_a_good_host_and_store(url: str) -> None:
    done = run("doctor", "--store", url, "--json")
    found = by_check(done.json)
    wrong = [finding for finding in found.values() if finding["ok"] is False]
    assert (done.code, done.json["ok"], wrong) == (0, True, [])
    for check in (
        "host: python",
        "host: dead-man",
        "host: containment",
        "clock: clock rate",
        "clock: time daemon",
        "settings: store URL",
        "settings: timing",
        "store: connection",
        "store: file system",
        "store: renewal",
    ):
        assert check in found
    assert "W = 15 x (1-0.1)/(1+0.1) - 0.1 = 12.173 s" in found["settings: timing"]["found"]
    assert set(found["host: python"]) == {"group", "check", "ok", "found", "fix"}


def test_the_table_for_people(url: str) -> None:
    done = run("doctor", "--store", url)
    assert done.code == 0
    assert done.out.splitlines()[0].split()[:2] == ["check", "verdict"]
    assert "Nothing here breaks the promise" in done.out
    assert "not ok" not in done.out


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_a_terminal(url: str, columns: int) -> None:
    code, screen = run_in_terminal("doctor", "--store", url, columns=columns)
    assert code == 0
    assert "…" not in screen


def test_settings_that_cannot_work(url: str) -> None:
    done = run("doctor", "--ttl", "1", "--grace", "1", "--store", url)
    assert done.code == 1
    assert "raise --ttl" in done.out
    assert "1 not ok" in done.out
    quiet = run("doctor", "--ttl", "1", "--grace", "1", "--store", url, "-q").out
    assert "settings: timing" in quiet
    assert "host: python" not in quiet
    done = run("doctor", "--store", url, "--json", extra={"INCUMBENT_TTL": "30"})
    assert "W = 30" in by_check(done.json)["settings: timing"]["found"]
    done = run("doctor", "--store", url, extra={"INCUMBENT_TTL": "soon"})
    assert done.code == 2


def test_a_container_has_no_default_store() -> None:
    done = run("doctor", "--json", extra={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    found = by_check(done.json)
    assert done.code == 1
    assert found["settings: store URL"]["ok"] is False
    assert "a Kubernetes Pod" in found["settings: store URL"]["found"]
    assert "store: connection" not in found


def test_a_store_that_is_not_there_yet(tmp_path: Path, new_url: str) -> None:
    done = run("doctor", "bill", "--json", "--store", new_url)
    found = by_check(done.json)["store: connection"]
    assert (done.code, found["ok"]) == (0, None)
    assert "there is no database at" in found["found"]
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 20)
    done = run("doctor", "--json", "--store", f"sqlite://{tmp_path}/file")
    assert done.code == 1
    assert by_check(done.json)["store: connection"]["ok"] is False


def test_an_election(url: str, candidate: Start) -> None:
    done = run("doctor", "bill", "--store", url, "--json")
    assert by_check(done.json)["election: bill"]["ok"] is None
    assert done.code == 0
    a = candidate("a")
    a.event("elected")
    done = run("doctor", "bill", "--store", url, "--json")
    assert by_check(done.json)["election: bill"]["ok"] is True
    assert by_check(done.json)["election: TTL"]["fix"] == "check with --ttl 2"
    a.process.kill()
    a.wait()
    done = run("doctor", "bill", "--store", url, "--json")
    found = by_check(done.json)["election: bill"]
    assert (done.code, found["ok"]) == (1, False)
    assert found["found"].endswith(", and everything that held its lease is gone")
    assert found["fix"] == "start a candidate: it takes over at once"


def test_a_holder_that_is_silent(url: str, candidate: Start) -> None:
    a = candidate("a", ttl_s=3, how="deaf")
    a.event("elected")
    a.process.send_signal(signal.SIGSTOP)
    found = by_check(run("doctor", "bill", "--store", url, "--json").json)["election: bill"]
    assert found["ok"] is False
    assert found["found"].endswith("which gave no sign of life within its TTL")


# -- the host, as others have it -------------------------------------------------------------------


def only(findings: list[Finding]) -> Finding:
    (found,) = findings
    return found


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_default_rho_covers_every_daemon(tmp_path: Path) -> None:
    write(tmp_path, "etc/chrony.conf", "maxslewrate 100000\n")
    assert only(host.daemons(0.1, tmp_path)).ok is True


@pytest.mark.parametrize(
    ("text", "rho", "ok"),
    [
        ("pool a iburst\n", 0.09, True),
        ("pool a iburst\n", 0.05, False),
        ("# maxslewrate 100\n", 0.05, False),
        ("maxslewrate 1000\n", 0.05, True),
        ("MaxSlewRate 1000\n", 0.0005, False),
        ("maxslewrate much\n", 0.05, False),
    ],
)
def test_chrony_may_slew_faster_than_rho(tmp_path: Path, text: str, rho: float, ok: bool) -> None:
    write(tmp_path, "etc/chrony/chrony.conf", text)
    found = only(host.daemons(rho, tmp_path))
    assert found.ok is ok
    assert bool(found.fix) is not ok


def test_a_later_file_of_chrony_counts(tmp_path: Path) -> None:
    write(tmp_path, "etc/chrony/chrony.conf", "pool a\n")
    write(tmp_path, "etc/chrony/conf.d/slew.conf", "maxslewrate 500\n")
    assert only(host.daemons(0.01, tmp_path)).ok is True


def test_chrony_that_runs_without_a_configuration_in_sight(tmp_path: Path) -> None:
    write(tmp_path, "proc/77/comm", "chronyd\n")
    assert only(host.daemons(0.05, tmp_path)).ok is False


def test_ntpd_and_daemons_that_tell_nothing(tmp_path: Path) -> None:
    write(tmp_path, "etc/ntp.conf", "server a\n")
    assert only(host.daemons(0.01, tmp_path)).ok is True
    assert only(host.daemons(0.0001, tmp_path)).ok is False
    write(tmp_path, "proc/77/comm", "systemd-timesyn\n")
    assert [found.ok for found in host.daemons(0.01, tmp_path)] == [True, None]


def test_no_daemon_in_sight_is_no_proof(tmp_path: Path) -> None:
    assert only(host.daemons(0.01, tmp_path)).ok is None


def test_what_the_kernel_does_now_is_compared_with_rho() -> None:
    state = host.Timex(tick=10_000, freq=0)
    assert host.rate(0.01, state).ok is True
    state.tick = 10_833
    assert host.rate(0.01, state).ok is False
    assert host.rate(0.1, state).ok is True
    state.tick, state.freq = 10_000, -500 * 65536
    assert host.rate(0.0004, state).ok is False
    assert host.rate(0.0006, state).ok is True
    assert host.rate(0.1, "Operation not permitted").ok is None


def test_the_kernel_answers_here() -> None:
    state = host.read_timex()
    assert isinstance(state, host.Timex), state
    assert 9_000 <= state.tick <= 11_000
    assert state.rate_error < 0.11


def test_a_clock_source_that_is_not_the_processors(tmp_path: Path) -> None:
    folder = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    for text, ok in (("tsc\n", True), ("hpet\n", None)):
        write(tmp_path, folder, text)
        findings = host.clock(0.1, tmp_path, host.Timex(tick=10_000))
        assert {found.check: found.ok for found in findings}["clock source"] is ok
