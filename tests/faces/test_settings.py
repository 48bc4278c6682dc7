"""What is refused before anything is touched, and which store somebody gets who names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from incumbent import ConfigError, Election, aio
from incumbent.errors import (
    ImpossibleTiming,
    InvalidName,
    StoreRequired,
    UnknownScheme,
    UnsupportedPlatform,
)
from incumbent.runtime import deadman
from incumbent.runtime.settings import Settings
from incumbent.stores import default_url, open_store
from incumbent.stores.memory import MemoryStore
from incumbent.stores.sqlite import SqliteStore

BAD_NAMES = ["", "Billing", "a/b", "-a", "a.", "a b", "ä", "a" * 201, "a\n", "a\0", "../a"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_some_store_could_not_carry(name: str, memory: MemoryStore) -> None:
    for face in (Election, aio.Election):
        with pytest.raises(InvalidName, match="use 1 to 200"):
            face(name, store=memory)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"ttl_s": 0}, "ttl_s=0 must be greater"),
        ({"ttl_s": -1}, "ttl_s=-1 must be greater"),
        ({"ttl_s": float("nan")}, "ttl_s=nan"),
        ({"ttl_s": float("inf")}, "ttl_s=inf"),
        ({"ttl_s": 1e9}, "a day"),
        ({"rho": 0.6}, "between 0 and 0.5"),
        ({"rho": -0.1}, "between 0 and 0.5"),
        ({"grace_s": -1}, "grace_s=-1"),
        (
            {"ttl_s": 10, "grace_s": 9},
            r"W = 10 x \(1-0\.1\)/\(1\+0\.1\) - 0\.1 .*raise ttl_s above",
        ),
    ],
)
def test_timing_that_cannot_be_safe(
    settings: dict[str, float], wanted: str, memory: MemoryStore
) -> None:
    for face in (Election, aio.Election):
        with pytest.raises(ImpossibleTiming, match=wanted):
            face("e", store=memory, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"ttl_s": "15"}, "ttl_s='15' must be a number"),
        ({"ttl_s": True}, "ttl_s=True must be a number"),
        ({"grace_s": "1"}, "grace_s='1' must be a number"),
        ({"rho": "0.1"}, "rho='0.1' must be a number"),
        ({"name": b"x"}, "name=b'x' must be a str"),
        ({"name": None}, "name=None must be a str"),
        ({"as_": 7}, "as_=7 must be a str"),
        ({"require": None}, "require=None is not known"),
        (
            {"require": "tokens"},
            "require='tokens' is not known: use 'token', 'exclusive' or 'renewal'",
        ),
        ({"require": "exclusive"}, "one process only"),
        ({"observer": "log"}, "observer='log' must be a function"),
        ({"store": 7}, "store=7 is neither a URL, such as 'sqlite:///"),
        ({"store": b"sqlite:///x"}, "is neither a URL"),
        (
            {"store": Path("/var/lib/my app/i.db")},
            "is a path, and a store is named by a URL: 'sqlite:///var/lib/my%20app/i.db'",
        ),
        ({"store": "sqlite:///var/lib/app#1/i.db"}, "has a fragment, '#1/i.db': .* %23"),
    ],
)
def test_what_is_of_the_wrong_kind_is_said_at_once(
    settings: dict[str, object], wanted: str, memory: MemoryStore
) -> None:
    for face in (Election, aio.Election):
        with pytest.raises(ConfigError, match=wanted):
            face(**{"name": "e", "store": memory, **settings})  # type: ignore[arg-type]


def test_a_relative_path_is_shown_as_the_url_that_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        Election("e", store=Path("x.db"))  # type: ignore[arg-type]
    url = str(refused.value).rpartition(": ")[2].strip("'")
    store = open_store(url)
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "x.db"


def test_the_way_out_that_is_named_is_one(memory: MemoryStore) -> None:
    with pytest.raises(ImpossibleTiming) as refused:
        Election("e", store=memory, ttl_s=10, grace_s=9)
    enough = float(str(refused.value).split("raise ttl_s above ")[1].split(",")[0])
    Election("e", store=memory, ttl_s=enough + 0.1, grace_s=9)


def test_the_environment_counts_and_an_argument_counts_more(memory: MemoryStore) -> None:
    environ = {
        "INCUMBENT_STORE": "memory://from-the-environment",
        "INCUMBENT_TTL": "20",
        "INCUMBENT_GRACE": "1",
        "INCUMBENT_RHO": "0.05",
        "INCUMBENT_IDENTITY": "pod 7!",
    }
    found = Settings.resolve("e", environ=environ)
    assert found.store.url == "memory://from-the-environment"
    assert (found.timing.ttl_s, found.timing.grace_s, found.timing.rho) == (20, 1, 0.05)
    assert found.candidate == "pod-7"
    found = Settings.resolve(
        "e", store=memory, ttl_s=30, grace_s=0, rho=0, as_="me", environ=environ
    )
    assert found.store is memory
    assert (found.timing.ttl_s, found.timing.grace_s, found.timing.rho) == (30, 0, 0)
    assert found.candidate == "me"
    assert Settings.resolve("e", store=memory, environ={"INCUMBENT_TTL": ""}).timing.ttl_s == 15


@pytest.mark.parametrize("variable", ["INCUMBENT_TTL", "INCUMBENT_GRACE", "INCUMBENT_RHO"])
def test_a_number_that_is_none_names_its_variable(variable: str, memory: MemoryStore) -> None:
    with pytest.raises(ConfigError, match=f"{variable}='soon' is not a number"):
        Settings.resolve("e", store=memory, environ={variable: "soon"})
    with pytest.raises(ImpossibleTiming):
        Settings.resolve("e", store=memory, environ={variable: "-0.5"})


def test_zero_seconds_from_the_environment_are_no_default(memory: MemoryStore) -> None:
    with pytest.raises(ImpossibleTiming, match="greater than 0"):
        Settings.resolve("e", store=memory, environ={"INCUMBENT_TTL": "0"})


def test_what_a_store_cannot_do_is_refused_when_it_is_required(
    memory: MemoryStore, tmp_path: Path
) -> None:
    file = f"sqlite://{tmp_path}/incumbent.db"
    with pytest.raises(ConfigError, match="is not known"):
        Settings.resolve("e", store=memory, require="everything")
    with pytest.raises(ConfigError, match="one process only"):
        Settings.resolve("e", store=memory, armed=True, require="exclusive")
    with pytest.raises(ConfigError, match="kernel's timer"):
        Settings.resolve("e", store=file, require="exclusive")
    Settings.resolve("e", store=file, require="exclusive", armed=True)
    Settings.resolve("e", store=file, require="exclusive", isolated=True)
    Settings.resolve("e", store=memory, require="token")


def test_where_there_is_no_kernel_timer_it_is_refused_and_isolation_is_not(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadman, "supported", lambda: "this process is PID 1")
    with pytest.raises(UnsupportedPlatform, match="PID 1"):
        Election("e", store=memory).lead(lambda term: None)
    with pytest.raises(UnsupportedPlatform, match="PID 1"):
        Election("e", store=memory).hold(deadman=True).__enter__()
    Settings.resolve("e", store=memory, armed=True, isolated=True)


# ---- the store for somebody who named none


@pytest.mark.parametrize(
    ("variable", "where"),
    [
        ("KUBERNETES_SERVICE_HOST", "a Kubernetes Pod"),
        ("ECS_CONTAINER_METADATA_URI_V4", "an ECS task"),
        ("NOMAD_ALLOC_ID", "a Nomad allocation"),
        ("container", "a container"),
    ],
)
def test_in_a_container_there_is_no_default(variable: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(StoreRequired) as refused:
        default_url({variable: "x", "HOME": "/home/me"}, root=tmp_path)
    text = str(refused.value)
    assert where in text
    for choice in ("INCUMBENT_STORE", "--store", "kubernetes://", "sqlite:///PATH"):
        assert choice in text
    chosen = {variable: "x", "INCUMBENT_STORE": "memory://a"}
    assert default_url(chosen, root=tmp_path) == "memory://a"


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_is_known_by_its_mark(mark: str, tmp_path: Path) -> None:
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    with pytest.raises(StoreRequired, match="every replica would lead"):
        default_url({"HOME": "/home/me"}, root=tmp_path)


def test_elsewhere_it_is_a_file_of_the_user(tmp_path: Path) -> None:
    url = default_url({"HOME": "/home/me"}, root=tmp_path)
    assert url == "sqlite:///home/me/.local/state/incumbent/incumbent.db"
    url = default_url({"HOME": "/home/me", "XDG_STATE_HOME": "/s"}, root=tmp_path)
    assert url == "sqlite:///s/incumbent/incumbent.db"


@pytest.mark.parametrize("folder", ["with space", "a#b", "a?b=c", "100%25", "a%2fb", "grün"])
def test_a_folder_of_any_name_is_that_folder(folder: str, tmp_path: Path) -> None:
    home = tmp_path / folder
    store = open_store(default_url({"XDG_STATE_HOME": str(home)}, root=tmp_path))
    assert isinstance(store, SqliteStore)
    assert store.path == home / "incumbent" / "incumbent.db"


OTHER_STORES = [
    "postgresql://app:a@db/jobs",
    "postgresql://app:b@db/jobs",
    "postgresql://app:a@/jobs?host=/run/a",
    "postgresql://app:a@/jobs?host=/run/b",
    "postgresql://app:a@db/jobs?hostaddr=10.0.0.1",
    "mysql://app:a@db/jobs",
    "mysql://app:b@db/jobs",
    "mysql://app:a@db/jobs?socket=/run/mysql",
    "etcd://db:2379/jobs",
    "etcd://db:2379/jobs?tls=0",
    "zookeeper://db:2181/jobs",
    "zookeeper://app:a@db:2181/jobs",
    "redis://:a@db",
    "redis://:b@db",
]


def test_stores_are_shared_by_the_whole_url_and_not_by_what_is_shown_of_it() -> None:
    """Else whoever names the second one is elected in the first, and so is somebody in each."""
    keys = [Settings.resolve("e", store=url).store_key for url in OTHER_STORES]
    assert len(set(keys)) == len(OTHER_STORES)
    assert keys == [Settings.resolve("other", store=url).store_key for url in OTHER_STORES]


def test_a_url_is_handed_on_as_it_was_given_and_never_shown() -> None:
    settings = Settings.resolve("e", store="postgresql://app:secret@/jobs?host=/run/a")
    assert settings.store_url == "postgresql://app:secret@/jobs?host=/run/a"
    assert "secret" not in repr(settings)


def test_an_unknown_scheme_is_told_what_there_is() -> None:
    with pytest.raises(UnknownScheme, match=r"installed: .*kubernetes, .*memory, .*sqlite"):
        Election("e", store="memcached://somewhere")
    for url in ("sqlite://", "sqlite://host/x", "sqlite:///", "sqlite:///x?y=1", "nothing"):
        with pytest.raises(ConfigError):
            Election("e", store=url)
