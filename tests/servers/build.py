"""Builds the servers that the tests run against, once per machine, into a cache outside the tree.

The servers come as Go modules because that is the one channel that offers every one of them in an
exact version, without a container daemon, and with hashes to check against (`modules/*/go.sum`,
written by `pin`). A cold build takes minutes, hence the cache: `$INCUMBENT_CACHE`, else
`$XDG_CACHE_HOME/incumbent-servers`, else `~/.cache/incumbent-servers`, with one folder per target
and version, so that several checkouts and several versions share it without disturbing each other.

Consul comes from an older suite of Debian, because it is no Go module that can be built by itself.
The machine's own source of Debian packages is asked for that suite, in a folder of its own, so that
nothing is installed and the machine's package lists stay as they are. What runs containers is
unpacked in the same way, from the machine's own suite: installed, it would be a service of the
machine.

RabbitMQ and the Erlang that it runs on are unpacked so, too: installed, they would be started.

What the cache promises is in `cache`; the Java programs beside our members, and the servers that
come as jars, are had by `java`.
There is no way to skip: a target that cannot be built raises `BuildError` with the compiler's own
words.

Runs as `python -m tests.servers.build [target ...]`, and prints the path of each binary. Without a
target it builds what the tests need, the Java programs and environments included.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import environments, java
from tests.servers.cache import BuildError, cache_dir, duration, hash_of, once, place, run, say

__all__ = [
    "BUNDLES",
    "CONSUL_VERSION",
    "COREDNS_VERSION",
    "ETCD_VERSION",
    "KUBERNETES_VERSION",
    "MODULES_DIR",
    "PACKAGES",
    "TARGETS",
    "BuildError",
    "Bundle",
    "Package",
    "Target",
    "cache_dir",
    "ensure",
]

SERVERS_DIR = Path(__file__).resolve().parent
TESTS_DIR = SERVERS_DIR.parent
MODULES_DIR = SERVERS_DIR / "modules"

KUBERNETES_VERSION = "v1.36.3"
ETCD_VERSION = "v3.6.5"
CONSUL_VERSION = "1.8.7"
COREDNS_VERSION = "v1.14.7"
DAPR_VERSION = "v1.16.0"
HELM_VERSION = "v4.2.4"
KUBE_SCORE_VERSION = "v1.20.0"


@dataclass(frozen=True, slots=True)
class Target:
    """One binary: a package within a committed Go module, and the version it is cached under.

    `version` is None for a program of our own, which is cached under a hash of its sources.
    `typical_s` is the time of a cold build on two cores, downloads included; whoever has to wait is
    told.
    """

    name: str
    module_dir: Path
    package: str
    version: str | None
    typical_s: int
    by_default: bool = False
    string_variables: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        return self.version if self.version is not None else _source_hash(self.module_dir)

    @property
    def path(self) -> Path:
        return place(self.name, self.key) / self.name


def _kubernetes(program: str, *, typical_s: int, by_default: bool = False) -> Target:
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    return Target(
        name=program,
        module_dir=MODULES_DIR / "kubernetes",
        package=f"k8s.io/kubernetes/cmd/{program}",
        version=KUBERNETES_VERSION,
        typical_s=typical_s,
        by_default=by_default,
        string_variables=(
            (f"{package}.gitVersion", KUBERNETES_VERSION),
            (f"{package}.gitMajor", major),
            (f"{package}.gitMinor", minor),
            (f"{package}.gitTreeState", "clean"),
        ),
    )


def _etcd(program: str, package: str, *, typical_s: int, by_default: bool = False) -> Target:
    return Target(
        name=program,
        module_dir=MODULES_DIR / "etcd",
        package=package,
        version=ETCD_VERSION,
        typical_s=typical_s,
        by_default=by_default,
    )


def _own(program: str, module_dir: Path, *, typical_s: int, by_default: bool = True) -> Target:
    return Target(
        name=program,
        module_dir=module_dir,
        package=".",
        version=None,
        typical_s=typical_s,
        by_default=by_default,
    )


_KUBE_SCORE = Target(
    name="kube-score",
    module_dir=MODULES_DIR / "kube-score",
    package="github.com/zegl/kube-score/cmd/kube-score",
    version=KUBE_SCORE_VERSION,
    typical_s=45,
    by_default=True,
)


@dataclass(frozen=True, slots=True)
class Package:
    """One binary of a Debian package, from a suite that need not be this machine's.

    `version` is what the package's own version has to begin with.
    """

    name: str
    suite: str
    program: str
    version: str
    by_default: bool = True

    @property
    def key(self) -> str:
        return self.version

    @property
    def path(self) -> Path:
        return place(self.name, self.key) / self.name


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of several Debian packages of this machine's own suite, in one folder."""

    name: str
    packages: tuple[str, ...]
    by_default: bool = False

    @property
    def key(self) -> str:
        digest = hashlib.sha256(" ".join(self.packages).encode()).hexdigest()
        return f"{_codename()}-{digest[:8]}"

    @property
    def path(self) -> Path:
        return place(self.name, self.key) / "content"


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        _kubernetes("kube-apiserver", typical_s=240, by_default=True),
        _kubernetes("kubectl", typical_s=60, by_default=True),
        _kubernetes("kube-controller-manager", typical_s=90, by_default=True),
        _kubernetes("kube-scheduler", typical_s=30, by_default=True),
        _kubernetes("kubelet", typical_s=90),
        _kubernetes("kube-proxy", typical_s=60),
        _etcd("etcd", "go.etcd.io/etcd/server/v3", typical_s=45, by_default=True),
        _etcd("etcdctl", "go.etcd.io/etcd/etcdctl/v3", typical_s=15, by_default=True),
        _KUBE_SCORE,
        _own("helm", MODULES_DIR / "helm", typical_s=45),
        _own("clientgo-candidate", TESTS_DIR / "clientgo", typical_s=60),
        _own("certificates", MODULES_DIR / "certificates", typical_s=15),
        _own("daprd", MODULES_DIR / "daprd", typical_s=180),
        _own("coredns", MODULES_DIR / "coredns", typical_s=120, by_default=False),
    )
}

PACKAGES: dict[str, Package] = {
    "consul": Package("consul", "bullseye", "usr/bin/consul", CONSUL_VERSION),
}

BUNDLES: dict[str, Bundle] = {
    "containers": Bundle(
        "containers",
        (
            *("containerd", "runc", "containernetworking-plugins", "busybox-static", "nftables"),
            # What these are linked with, of which a small machine has only a part.
            *("libbsd0", "libedit2", "libjansson4", "libmnl0", "libnftables1", "libnftnl11"),
            *("libseccomp2", "libxtables12"),
        ),
    ),
    "rabbitmq": Bundle(
        "rabbitmq",
        (
            "rabbitmq-server",
            *("erlang-asn1", "erlang-base", "erlang-crypto", "erlang-eldap", "erlang-inets"),
            *("erlang-mnesia", "erlang-os-mon", "erlang-parsetools", "erlang-public-key"),
            *("erlang-runtime-tools", "erlang-ssl", "erlang-syntax-tools", "erlang-tools"),
            "erlang-xmerl",
        ),
        by_default=True,
    ),
}


def ensure(name: str) -> Path:
    """Return the path of a target's binary, building it first when the cache lacks it.

    Of a bundle it is the folder into which its packages were unpacked.
    """
    target = _known().get(name)
    if target is None:
        raise BuildError(f"there is no server named {name!r}; known: {', '.join(_known())}")
    path = target.path
    if isinstance(target, Package):
        once(path, name, functools.partial(_unpack, target))
    elif isinstance(target, Bundle):
        once(path, name, functools.partial(_unpack_all, target))
    else:
        once(path, name, functools.partial(_build, target))
    return path


def _known() -> dict[str, Target | Package | Bundle]:
    return {**TARGETS, **PACKAGES, **BUNDLES}


def _source_hash(module_dir: Path) -> str:
    sources = [path for path in module_dir.iterdir() if path.suffix in {".go", ".mod", ".sum"}]
    if not sources:
        raise BuildError(f"no Go sources in {module_dir}")
    return hash_of(sources)


def _build(target: Target, path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise BuildError(
            f"cannot build {target.name}: there is no `go` on PATH. Install Go (1.26 or newer), "
            f"or put a finished binary at {path}"
        )
    label = f"building {target.name} {target.key}"
    say(f"{label}: once per machine, typically {duration(target.typical_s)} on two cores")
    variables = [f"-X {name}={value}" for name, value in target.string_variables]
    with tempfile.TemporaryDirectory(prefix="build-", dir=path.parent.parent) as temporary:
        built = Path(temporary) / target.name
        command = [
            go,
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            " ".join(["-s", "-w", *variables]),
            "-o",
            str(built),
            target.package,
        ]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        started_s = time.monotonic()
        run(command, label, target.module_dir, environment)
        path.parent.mkdir(exist_ok=True)
        built.replace(path)
    say(f"{label}: done in {duration(time.monotonic() - started_s)}")


def _unpack(package: Package, path: Path) -> None:
    """Download a Debian package, and take its one binary out of it."""
    started_s = time.monotonic()
    label = f"fetching {package.name} {package.version} of Debian {package.suite}"
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent.parent) as temporary:
        folder = Path(temporary)
        (archive,) = _download((package.name,), package.suite, folder, label)
        version = _command(["dpkg-deb", "--field", archive, "Version"], label, folder).strip()
        if not version.startswith(package.version):
            raise BuildError(f"{label}: there is only {version}")
        _command(["dpkg-deb", "--extract", archive, "content"], label, folder)
        path.parent.mkdir(exist_ok=True)
        (folder / "content" / package.program).replace(path)
    say(f"{label}: done in {duration(time.monotonic() - started_s)}")


def _unpack_all(bundle: Bundle, path: Path) -> None:
    """Download Debian packages, and unpack all of them into one folder."""
    started_s = time.monotonic()
    label = f"fetching {bundle.name} of Debian {_codename()}"
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent.parent) as temporary:
        folder = Path(temporary)
        for archive in _download(bundle.packages, _codename(), folder, label):
            _command(["dpkg-deb", "--extract", archive, "content"], label, folder)
        path.parent.mkdir(exist_ok=True)
        (folder / "content").replace(path)
    say(f"{label}: done in {duration(time.monotonic() - started_s)}")


def _download(names: Sequence[str], suite: str, folder: Path, label: str) -> list[Path]:
    """Download Debian packages of a suite into a folder, which also holds apt's own files."""
    for name in ("sources", "lists/partial", "cache/archives/partial", "content"):
        (folder / name).mkdir(parents=True)
    (folder / "sources/debian.sources").write_text(_sources(suite), encoding="utf-8")
    apt = [
        "apt-get",
        "-qq",
        *("-o", "Dir::Etc::sourcelist=/dev/null"),
        *("-o", f"Dir::Etc::sourceparts={folder / 'sources'}"),
        *("-o", f"Dir::State::lists={folder / 'lists'}"),
        *("-o", f"Dir::Cache={folder / 'cache'}"),
        # The folder is ours alone, and apt would give up its rights to read it.
        *("-o", "APT::Sandbox::User="),
    ]
    _command([*apt, "update"], label, folder)
    _command([*apt, "download", *names], label, folder)
    return sorted(folder.glob("*.deb"))


def _sources(suite: str, etc: Path = Path("/etc")) -> str:
    """Return where this machine has its Debian packages from, as a source of another suite."""
    own = _codename(etc)
    if own:
        folder = etc / "apt/sources.list.d"
        for path in sorted(folder.glob("*.sources")):
            for stanza in re.split(r"\n\s*\n", _text(path)):
                suites = re.search(r"^Suites:(.*)$", stanza, re.MULTILINE)
                if suites is not None and own in suites[1].split():
                    return stanza.replace(suites[0], f"Suites: {suite}").strip() + "\n"
        for path in (etc / "apt/sources.list", *sorted(folder.glob("*.list"))):
            line = re.search(rf"^deb (?:\[.*\] )?(\S+) {own} (.+)$", _text(path), re.MULTILINE)
            if line is not None:
                return f"Types: deb\nURIs: {line[1]}\nSuites: {suite}\nComponents: {line[2]}\n"
    raise BuildError(
        f"cannot fetch a package of Debian {suite}: this machine has no source of Debian packages "
        "that could be asked for it"
    )


def _codename(etc: Path = Path("/etc")) -> str:
    """Return the name of this machine's own suite of Debian, or "" elsewhere."""
    found = re.search(r"^VERSION_CODENAME=(\S+)$", _text(etc / "os-release"), re.MULTILINE)
    return found[1] if found else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _command(command: Sequence[str | Path], label: str, folder: Path) -> str:
    try:
        done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise BuildError(
            f"{label}: there is no `{command[0]}`; it needs a Debian machine"
        ) from None
    if done.returncode != 0:
        raise BuildError(f"{label}: {command[0]} failed:\n{done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tests.servers.build", description="Builds the servers that the tests run against."
    )
    default = [target.name for target in _known().values() if target.by_default]
    parser.add_argument(
        "target",
        nargs="*",
        help=f"one of {', '.join(_known())}; without any: {', '.join(default)} and all of Java",
    )
    names: list[str] = parser.parse_args(arguments).target
    try:
        for name in names or default:
            print(ensure(name), flush=True)
        for name in [] if names else java.servers():
            print(java.jars(name), flush=True)
        for name in [] if names else java.programs():
            print(java.ensure(name), flush=True)
        for name in [] if names else environments.NAMES:
            print(environments.ensure(name), flush=True)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
