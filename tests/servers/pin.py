"""Writes the Go modules that the servers are built from.

`go build k8s.io/kubernetes/cmd/kube-apiserver@v1.36.3` does not exist: Kubernetes' own go.mod
replaces its sibling modules by folders of its repository, which a module download does not
contain, and Go ignores the replace lines of a dependency anyway. Each sibling is published on its
own under a parallel version (v1.36.3 is v0.36.3 there), so a module of ours that requires
Kubernetes and replaces every sibling by its published version builds the same program. The
siblings are read from the downloaded go.mod rather than listed here, because they come and go
between minor versions.

The results (`modules/*/go.mod` and `go.sum`) are committed: a build then needs no resolution, and
checks every dependency against the hashes seen when the versions were chosen. Run this after
changing a version in `build`, as `python -m tests.servers.pin`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.servers.build import (
    COREDNS_VERSION,
    DAPR_VERSION,
    ETCD_VERSION,
    HELM_VERSION,
    KUBE_SCORE_VERSION,
    KUBERNETES_VERSION,
    MODULES_DIR,
)

_SIBLINGS = re.sub(r"^v1\.", "v0.", KUBERNETES_VERSION)
_OF_HELM = ("api", "apiextensions-apiserver", "apimachinery", "client-go")
_GO_LINE = re.compile(r"^go \S+$", re.MULTILINE)
_REPLACEMENT = re.compile(r"^\s*(?P<line>[^\s/]\S* => [^.\s]\S* v\S+)$", re.MULTILINE)
_STAGING_REPLACEMENT = re.compile(r"^\s*(?P<module>\S+) => \./staging/", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PinnedModule:
    """One committed go.mod: what it requires (the main module first), and the programs it builds.

    The programs are written as `tool` lines, which is what makes `go mod tidy` keep their
    dependencies in a module that has no Go file of its own. Where there are none, it has one.
    """

    name: str
    requirements: tuple[tuple[str, str], ...]
    programs: tuple[str, ...]


MODULES = (
    PinnedModule(
        name="kubernetes",
        requirements=(("k8s.io/kubernetes", KUBERNETES_VERSION),),
        programs=(
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
        ),
    ),
    PinnedModule(
        name="coredns",
        requirements=(("github.com/coredns/coredns", COREDNS_VERSION),),
        programs=(),
    ),
    PinnedModule(
        name="etcd",
        requirements=(
            ("go.etcd.io/etcd/server/v3", ETCD_VERSION),
            ("go.etcd.io/etcd/etcdctl/v3", ETCD_VERSION),
        ),
        programs=("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3"),
    ),
    PinnedModule(
        name="helm",
        requirements=(
            ("helm.sh/helm/v4", HELM_VERSION),
            # Those that the API server is built from, which need not be compiled twice then.
            *((f"k8s.io/{name}", _SIBLINGS) for name in _OF_HELM),
        ),
        programs=(),
    ),
    PinnedModule(
        name="kube-score",
        requirements=(("github.com/zegl/kube-score", KUBE_SCORE_VERSION),),
        programs=("github.com/zegl/kube-score/cmd/kube-score",),
    ),
    PinnedModule(
        name="daprd",
        requirements=(
            ("github.com/dapr/dapr", DAPR_VERSION),
            ("github.com/dapr/components-contrib", DAPR_VERSION),
        ),
        programs=(),
    ),
)


def _go(*arguments: str, cwd: Path) -> str:
    completed = subprocess.run(
        ["go", *arguments], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
    )
    return completed.stdout


def _go_mod_text(module: PinnedModule, cwd: Path) -> str:
    main_path, main_version = module.requirements[0]
    download = json.loads(_go("mod", "download", "-json", f"{main_path}@{main_version}", cwd=cwd))
    upstream = Path(download["GoMod"]).read_text(encoding="utf-8")
    go_line = _GO_LINE.search(upstream)
    if go_line is None:
        raise ValueError(f"no go line in the go.mod of {main_path} {main_version}")
    lines = [f"module incumbent.test/servers/{module.name}", "", go_line.group(0), ""]
    lines += [f"tool {program}" for program in module.programs] + [""]
    lines += [f"require {path} {version}" for path, version in module.requirements]
    siblings = _STAGING_REPLACEMENT.findall(upstream)
    if others := _REPLACEMENT.findall(upstream):
        lines += ["", "replace (", *(f"\t{line}" for line in others), ")"]
    if siblings:
        lines += ["", "replace ("]
        lines += [f"\t{sibling} => {sibling} {_SIBLINGS}" for sibling in siblings]
        lines += [")"]
    return "\n".join(lines) + "\n"


def pin(module: PinnedModule) -> None:
    """Resolve a module in a temporary folder and replaces its committed files by the result."""
    with tempfile.TemporaryDirectory(prefix="incumbent-pin-") as temporary:
        work_dir = Path(temporary)
        text = _go_mod_text(module, work_dir)
        (work_dir / "go.mod").write_text(text, encoding="utf-8")
        destination = MODULES_DIR / module.name
        destination.mkdir(parents=True, exist_ok=True)
        for source in destination.glob("*.go"):
            (work_dir / source.name).write_bytes(source.read_bytes())
        _go("mod", "tidy", cwd=work_dir)
        for name in ("go.mod", "go.sum"):
            (destination / name).write_bytes((work_dir / name).read_bytes())


def main() -> int:
    for module in MODULES:
        print(f"resolving {module.name}", file=sys.stderr, flush=True)
        pin(module)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
