"""Builds the Java members of `tests/partners/java`, once per machine, into the servers' cache.

A folder there is one program: `pom.xml` names what it needs in exact versions, beside it are its
sources, all in the unnamed package, with a class `Main`; any other file is put on the class path as
it is. `java/common` belongs to every program. Maven only fetches the jars, which is the part that
needs the network; the sources are compiled by the JDK. The result is a folder with `jars` and
`classes`, under a hash of all that it was made of.

    java.ensure("shedlock")                  # the folder
    java.command("shedlock", url, "jobs")    # the words that run it: for Member, for a subprocess

A server that comes as jars has a `pom.xml` alone, in `tests/servers/modules`: `java.jars("kafka")`.

`python -m tests.servers.build` builds them all, so that no test waits for it.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from pathlib import Path

from tests.servers import cache

JAVA_DIR = Path(__file__).resolve().parents[1] / "partners" / "java"
COMMON_DIR = JAVA_DIR / "common"
MODULES_DIR = Path(__file__).resolve().parent / "modules"

_FETCH = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_JVM = (
    # A member lives for seconds, several at once on a small machine: start quickly, stay small.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xmx192m",
    "-Dfile.encoding=UTF-8",
)


def programs() -> list[str]:
    """Return the names of all programs."""
    return sorted(path.parent.name for path in JAVA_DIR.glob("*/pom.xml"))


@functools.cache
def ensure(name: str) -> Path:
    """Return the folder with the program's `jars` and `classes`, building it first if need be.

    Raises:
        BuildError: there is no such program, or it could not be built.
    """
    if name not in programs():
        raise cache.BuildError(f"there is no Java program {name!r}; known: {', '.join(programs())}")
    path = cache.place(f"java-{name}", cache.hash_of(_sources(name)))
    cache.once(path, f"java-{name}", functools.partial(_build, name))
    return path


def servers() -> list[str]:
    """Return the names of the servers that come as jars."""
    return sorted(path.parent.name for path in MODULES_DIR.glob("*/pom.xml"))


@functools.cache
def jars(name: str) -> Path:
    """Return the folder with the jars of a server, fetching them first if need be.

    Raises:
        BuildError: there is no such server, or it could not be fetched.
    """
    if name not in servers():
        raise cache.BuildError(f"there is no server {name!r} of jars; known: {servers()}")
    pom = MODULES_DIR / name / "pom.xml"
    path = cache.place(name, cache.hash_of([pom]))
    cache.once(path, name, functools.partial(_fetch_server, name, pom))
    return path


def command(name: str, *arguments: str, jvm: tuple[str, ...] = ()) -> list[str]:
    """Return the words that run a program; `jvm` are more options of the virtual machine."""
    path = ensure(name)
    return [
        _tool("java", name),
        *_JVM,
        *jvm,
        "-cp",
        f"{path / 'classes'}:{path / 'jars'}/*",
        "Main",
        *arguments,
    ]


def _sources(name: str) -> list[Path]:
    folders = (JAVA_DIR / name, COMMON_DIR)
    return [path for folder in folders for path in folder.iterdir() if path.is_file()]


def _build(name: str, path: Path) -> None:
    label = f"building java-{name} {path.name}"
    started_s = time.monotonic()
    cache.say(f"{label}: once per machine, typically 20 s on two cores")
    with tempfile.TemporaryDirectory(prefix="build-", dir=path.parent) as temporary:
        built = Path(temporary) / "built"
        (built / "jars").mkdir(parents=True)
        (built / "classes").mkdir()
        _fetch_jars(JAVA_DIR / name / "pom.xml", built / "jars", label, name)
        code = [str(source) for source in _sources(name) if source.suffix == ".java"]
        compile_ = [
            _tool("javac", name),
            *("--release", "17", "-encoding", "UTF-8", "-proc:none", "-Werror"),
            *("-cp", f"{built / 'jars'}/*", "-d", str(built / "classes"), *code),
        ]
        cache.run(compile_, label, Path(temporary))
        for source in _sources(name):
            if source.suffix != ".java" and source.name != "pom.xml":
                shutil.copy(source, built / "classes")
        built.replace(path)
    cache.say(f"{label}: done in {cache.duration(time.monotonic() - started_s)}")


def _fetch_server(name: str, pom: Path, path: Path) -> None:
    label = f"fetching {name} {path.name}"
    started_s = time.monotonic()
    cache.say(f"{label}: once per machine, typically 10 s")
    with tempfile.TemporaryDirectory(prefix="build-", dir=path.parent) as temporary:
        folder = Path(temporary) / "jars"
        folder.mkdir()
        _fetch_jars(pom, folder, label, name)
        folder.replace(path)
    cache.say(f"{label}: done in {cache.duration(time.monotonic() - started_s)}")


def _fetch_jars(pom: Path, folder: Path, label: str, name: str) -> None:
    words = [
        _tool("mvn", name),
        "--batch-mode",
        "--quiet",
        "--file",
        str(pom),
        _FETCH,
        f"-DoutputDirectory={folder}",
        "-DincludeScope=runtime",
    ]
    cache.run(words, label, folder.parent)


def _tool(tool: str, name: str) -> str:
    found = shutil.which(tool)
    if found is None:
        raise cache.BuildError(
            f"java-{name}: there is no `{tool}` on PATH. On Debian: "
            "apt-get install maven default-jdk-headless"
        )
    return found
