"""The one image of a cluster: this machine's Python and our package, where this machine has them.

There is no registry and nothing is downloaded. The interpreter that runs the tests, its libraries
as the dynamic linker finds them, its standard library and the packages that a member needs are put
into one layer of an OCI layout, in a tar archive, under the paths that they have here: so a command
is the same in a Pod as on the machine. Started without a command it waits for ever, which makes it
the image of Pods' sandboxes as well.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.site import HERE, LAUNCHER, ROOT
from tests.servers import build

__all__ = ["REFERENCE", "write"]

REFERENCE = "incumbent.test/cluster:1"
_PACKAGES = ("_cffi_backend", "click", "cronsim", "cryptography", "h11", "uvicorn")
_SOURCES = ("__init__.py", "marks.py", "poller.py", "serve.py")
_LEFT_OUT = {"ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "unittest"}
_LEFT_OUT |= {"site-packages", "dist-packages", "turtledemo"}
_LEFT_OUT_FILES = (".opt-", "_tkinter.")
_LIBRARY = re.compile(r"(/\S+) \(0x")
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write(folder: Path) -> Path:
    """Write the archive into a folder and return its path."""
    layer = folder / "layer.tar"
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as archive:
        _fill(archive)
    busybox = str(build.ensure("containers") / "bin/busybox")
    path = folder / "image.tar"
    _lay_out(path, layer, {"Cmd": [busybox, "sleep", "2147483647"]})
    layer.unlink()
    return path


def _fill(archive: tarfile.TarFile) -> None:
    done: set[Path] = set()
    for name in ("/bin", "/dev", "/etc", "/proc", "/sys", "/tmp"):
        _folder(archive, Path(name), done)
    busybox = build.ensure("containers") / "bin/busybox"
    _add(archive, busybox, done)
    _link(archive, Path("/bin/sh"), busybox, done)
    for path in _interpreter():
        _add(archive, path, done)
    for path in _libraries():
        _add(archive, path, done)
    for root in (Path(sysconfig.get_path("stdlib")), *map(_package, _PACKAGES)):
        for path in _files(root):
            _add(archive, path, done)
    for path in _files(ROOT / "src/incumbent"):
        _add(archive, path, done)
    _launcher(archive, done)
    for path in (ROOT / "tests/__init__.py", *(HERE / name for name in _SOURCES)):
        _add(archive, path, done)


def _interpreter() -> Iterator[Path]:
    """The interpreter, and what says that it is one of a virtual environment."""
    path = Path(sys.executable)
    while True:
        yield path
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / path.readlink()))
    yield _base()
    settings = Path(sys.prefix) / "pyvenv.cfg"
    if settings.exists():
        yield settings


def _base() -> Path:
    """The interpreter itself, which a virtual environment only leads to."""
    base: str = sys._base_executable  # type: ignore[attr-defined]
    return Path(os.path.realpath(base))


def _libraries() -> list[Path]:
    """What the interpreter and its extensions are linked with, the dynamic linker included."""
    roots = (Path(sysconfig.get_path("stdlib")) / "lib-dynload", *map(_package, _PACKAGES))
    extensions = [path for root in roots for path in _files(root) if path.suffix == ".so"]
    words = ["ldd", str(_base()), *map(str, extensions)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return sorted({Path(found) for found in _LIBRARY.findall(done.stdout)})


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the image needs the package {name}, which is not installed")
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, names, files in os.walk(root):
        names[:] = sorted(
            name for name in names if name not in _LEFT_OUT and not name.startswith("config-")
        )
        kept = (name for name in files if not any(part in name for part in _LEFT_OUT_FILES))
        yield from (Path(folder) / name for name in sorted(kept))


def _add(archive: tarfile.TarFile, path: Path, done: set[Path]) -> None:
    """Add a file under the path that it has here; a link as what it is, with what it leads to."""
    place = _place(archive, path, done)
    if place in done:
        return
    done.add(place)
    entry = archive.gettarinfo(str(place))
    if place.is_symlink():
        archive.addfile(entry)
        _add(archive, Path(os.path.normpath(place.parent / place.readlink())), done)
        return
    # Compiled modules are believed by the time of their source, which is kept here.
    entry.type, entry.mode = tarfile.REGTYPE, 0o755 if os.access(place, os.X_OK) else 0o644
    entry.size = place.stat().st_size
    entry.uid = entry.gid = 0
    with place.open("rb") as file:
        archive.addfile(entry, file)


def _launcher(archive: tarfile.TarFile, done: set[Path]) -> None:
    path = Path("/usr/local/bin/incumbent")
    _folder(archive, path.parent, done)
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    text = LAUNCHER.encode()
    entry.mode, entry.size = 0o755, len(text)
    archive.addfile(entry, io.BytesIO(text))


def _link(archive: tarfile.TarFile, path: Path, target: Path, done: set[Path]) -> None:
    place = _place(archive, path, done)
    entry = tarfile.TarInfo(str(place).lstrip("/"))
    entry.type, entry.linkname = tarfile.SYMTYPE, str(target)
    archive.addfile(entry)
    done.add(place)


def _place(archive: tarfile.TarFile, path: Path, done: set[Path]) -> Path:
    """Add the folders of a path, and return it without links: no entry is put behind one."""
    _folder(archive, path.parent, done)
    place = Path(os.path.realpath(path.parent)) / path.name
    _folder(archive, place.parent, done)
    return place


def _folder(archive: tarfile.TarFile, path: Path, done: set[Path]) -> None:
    """Add a folder and those above it. `/lib` and the like may be links, and stay so."""
    if path in done or path == Path("/"):
        return
    _folder(archive, path.parent, done)
    done.add(path)
    if path.parent != Path(os.path.realpath(path.parent)):
        return
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        entry.type, entry.linkname = tarfile.SYMTYPE, str(target)
        archive.addfile(entry)
        _folder(archive, target, done)
        return
    entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == Path("/tmp") else 0o755
    archive.addfile(entry)


def _lay_out(path: Path, layer: Path, run: dict[str, Any]) -> None:
    digest = _digest(layer)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], **run},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [
                {
                    "mediaType": _LAYER,
                    "digest": f"sha256:{digest}",
                    "size": layer.stat().st_size,
                }
            ],
        }
    ).encode()
    names = {
        "io.containerd.image.name": REFERENCE,
        "org.opencontainers.image.ref.name": REFERENCE.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [{**_descriptor(_MANIFEST, manifest), "annotations": names}],
    }
    with tarfile.open(path, "w") as archive:
        _text(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _text(archive, "index.json", json.dumps(index).encode())
        for content in (config, manifest):
            _text(archive, f"blobs/sha256/{hashlib.sha256(content).hexdigest()}", content)
        archive.add(layer, f"blobs/sha256/{digest}")


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
