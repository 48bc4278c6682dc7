"""What is demanded of a store is met, or refused before anything is started: over all stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from incumbent import Election, aio
from incumbent.cli.app import main
from incumbent.errors import ConfigError
from incumbent.stores import OURS, open_store
from incumbent.stores.api import Grade
from tests.cli.processes import run_python

URLS = {
    "consul": "consul://127.0.0.1:1",
    "dapr": "dapr://127.0.0.1:1/locks",
    "etcd": "etcd://127.0.0.1:1?tls=0",
    "file": "file://{folder}/elections.d",
    "kubernetes": "kubernetes://default?kubeconfig={folder}/kubeconfig",
    "mariadb": "mariadb://u:p@127.0.0.1:1/d",
    "memory": "memory://demands",
    "mysql": "mysql://u:p@127.0.0.1:1/d",
    "postgres": "postgres://127.0.0.1:1/d",
    "postgresql": "postgresql://127.0.0.1:1/d",
    "redis": "redis://127.0.0.1:1",
    "rediss": "rediss://127.0.0.1:1",
    "sqlite": "sqlite://{folder}/incumbent.db",
    "valkey": "valkey://127.0.0.1:1",
    "valkeys": "valkeys://127.0.0.1:1",
    "zookeeper": "zookeeper://127.0.0.1:1",
}
"""A set-up of each scheme. Nobody is at these addresses: what is refused is refused unasked."""
REPLICATED = ("redis", "rediss", "valkey", "valkeys")
NOT_RENEWING = ["dapr"]
"""Those have no token either."""
NOT_EXCLUSIVE = ["memory", *NOT_RENEWING, *(f"{scheme} with replicas" for scheme in REPLICATED)]
SET_UPS = {
    **URLS,
    **{f"{scheme} with replicas": f"{URLS[scheme]}?replicas=accept" for scheme in REPLICATED},
}
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
"""


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    return SET_UPS[request.param].format(folder=tmp_path)


def test_no_store_is_left_out() -> None:
    assert URLS.keys() == OURS.keys()


@pytest.mark.parametrize(
    ("url", "grade"),
    [
        (
            name,
            Grade.EFFICIENCY_ONLY
            if "replicas" in name or name in NOT_RENEWING
            else Grade.EXCLUSIVE_WITH_FENCING,
        )
        for name in SET_UPS
    ],
    indirect=["url"],
)
def test_the_grade_is_that_of_the_set_up(url: str, grade: Grade) -> None:
    store = open_store(url)
    assert store.capabilities.grade is grade
    assert store.capabilities.token == store.capabilities.renews


@pytest.mark.parametrize("what", ["token", "renewal"])
@pytest.mark.parametrize("url", sorted(SET_UPS.keys() - set(NOT_RENEWING)), indirect=True)
def test_a_token_and_renewal_may_be_demanded_of_nearly_every_store(url: str, what: str) -> None:
    Election("e", store=url, require=what)


@pytest.mark.parametrize("what", ["token", "renewal", "exclusive"])
@pytest.mark.parametrize("url", NOT_RENEWING, indirect=True)
def test_what_a_store_does_not_have_is_refused(
    url: str, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = {"renewal": "cannot renew"}.get(what, "no fencing token")
    for election in (Election, aio.Election):
        with pytest.raises(ConfigError, match=f"{missing}.*sqlite:///PATH"):
            election("e", store=url, ttl_s=60, require=what)
    words = ["run", "e", "--store", url, "--require", what, "--", "/no/such/command"]
    assert main(words) == 2
    assert missing in capfd.readouterr().err


@pytest.mark.parametrize("url", NOT_RENEWING, indirect=True)
def test_how_long_a_term_is_has_to_be_said_where_it_is_not_renewed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"renews nothing.*by ttl_s or INCUMBENT_TTL"):
        Election("e", store=url)
    Election("e", store=url, ttl_s=60)
    monkeypatch.setenv("INCUMBENT_TTL", "60")
    Election("e", store=url)


@pytest.mark.parametrize("url", sorted(SET_UPS.keys() - set(NOT_EXCLUSIVE)), indirect=True)
def test_exclusion_is_promised_with_the_kernels_timer_only(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    election = Election("e", store=url, require="exclusive")
    with pytest.raises(ConfigError, match="needs the kernel's timer"):
        election.hold().__enter__()
    # It is not refused: what comes last is looked at, and that is the command.
    words = ["run", "e", "--store", url, "--require", "exclusive", "--", "/no/such/command"]
    assert main(words) == 127
    assert "command not found" in capfd.readouterr().err


@pytest.mark.parametrize("url", NOT_EXCLUSIVE, indirect=True)
def test_exclusion_is_refused_where_it_is_not_promised(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = r"etcd://.* sqlite:///PATH"  # What would meet it.
    if "replicas" in url:
        wanted = "leave .replicas=accept out.*redis.md.*" + wanted
    with pytest.raises(ConfigError, match=wanted):
        Election("e", store=url, require="exclusive")
    with pytest.raises(ConfigError, match=r"one process only|for efficiency only|no fencing token"):
        aio.Election("e", store=url, require="exclusive")
    words = ["run", "e", "--store", url, "--require", "exclusive", "--", "/no/such/command"]
    assert main(words) == 2
    assert "sqlite:///PATH" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("module", "package", "url", "extra"),
    [
        ("redis", "redis", "redis://h", "redis"),
        ("redis.exceptions", "redis", "valkeys://h", "redis"),
        ("pymysql", "PyMySQL", "mariadb://h/d", "mysql"),
        ("kazoo.client", "kazoo", "zookeeper://h", "zookeeper"),
        ("h11", "h11", "consul://h", "consul"),
        ("h11", "h11", "dapr://h/s", "dapr"),
        ("grpclib.client", "grpclib", "dapr://h/s?protocol=grpc", "dapr"),
        ("h11", "h11", "etcd://h", "etcd"),
        ("psycopg", "psycopg", "postgresql://h/d", "postgresql"),
    ],
)
def test_what_is_missing_is_named_as_it_is_installed(
    module: str, package: str, url: str, extra: str
) -> None:
    done = run_python(
        f"import sys; sys.modules[{module!r}] = None\n"
        "from incumbent.cli.__main__ import main\n"
        f"sys.exit(main(['status', '--store', {url!r}]))"
    )
    assert done.code == 2, done.err
    assert f"needs the package {package!r}, " in done.err
    assert f"pip install 'incumbent[{extra}]'" in done.err


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://h?prefix=a&prefix=b", "prefix"),
        ("postgresql://h/d?schema=a&sslmode=require&schema=a", "schema"),
        ("etcd://h?tls=0&tls=1", "tls"),
    ],
)
def test_an_option_that_is_given_twice_is_refused(url: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"the option '{name}' more than once"):
        open_store(url)
