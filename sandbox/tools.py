"""The programs of a cluster: pinned in `tools/*/go.mod`, built once per machine, or taken from a folder of the user's.

A built program lies in `<cache>/tools/<module>-<key>/`, where the key covers the module's go.mod, go.sum and own
sources and the flags of the build: a changed pin builds anew, everything else is found. Only what is asked for is
built.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandbox.errors import UnavailableError
from sandbox.golang import UNFINISHED, environment, find_go, remove_unfinished
from sandbox.locking import locked

MODULES = Path(__file__).parent / "tools"
READY_PROGRAMS = "DOVETAIL_SANDBOX_BIN"
"""Environment variable: a folder whose programs are used instead of built ones."""
ANSWER_S = 30.0
"""How long a program may take to tell its version."""
BUILD_MIB = 11_000
"""Free disk that a first build of everything needs: module and build caches of Go, and the programs."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of a ready program are taken, and the flag that makes it tell its own."""

    product: str
    oldest: tuple[int, int]
    newest: tuple[int, int]
    text: str
    flag: str


KUBERNETES = Versions("Kubernetes", (1, 34), (1, 37), "1.34 to 1.37", "--version")
# Its configuration is of version 4 (`nodeconfig`), which begins with containerd 2.3 (RELEASES.md of containerd).
CONTAINERD = Versions("containerd", (2, 3), (2, sys.maxsize), "2.3 and later 2.x", "-v")


@dataclass(frozen=True, slots=True)
class Tool:
    """Where a program comes from, and what is asked of a ready one."""

    module: str
    package: str
    versions: Versions | None = None
    """None: whatever the user's folder has."""


def _kubernetes(name: str) -> Tool:
    return Tool("kubernetes", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES)


def _containerd(name: str) -> Tool:
    return Tool("containerd", f"github.com/containerd/containerd/v2/cmd/{name}", CONTAINERD)


TOOLS = {
    "etcd": Tool("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kwok": Tool("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "kubelet": _kubernetes("kubelet"),
    "containerd": _containerd("containerd"),
    "containerd-shim-runc-v2": _containerd("containerd-shim-runc-v2"),
    "ctr": _containerd("ctr"),
    "kubectl": Tool("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "helm": Tool("helm", "helm.sh/helm/v3/cmd/helm"),
    "promtool": Tool("prometheus", "github.com/prometheus/prometheus/cmd/promtool"),
    "prometheus": Tool("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
    "celgolden": Tool("celgolden", "dovetail.dev/sandbox/tools/celgolden"),
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr")


class Progress(Protocol):
    """Hears how far a build is."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """`done` of `total` Go packages of `what` are compiled."""


def silent(what: str, done: int, total: int) -> None:
    """Ignore progress."""


def provide(names: Iterable[str], *, progress: Progress = silent) -> dict[str, Path]:
    """Return the named programs, by name; missing ones are built.

    Raises UnavailableError when one cannot be had or the machine is no Linux, ValueError for a name not in TOOLS.
    """
    wanted = list(dict.fromkeys(names))
    if unknown := sorted(set(wanted) - set(TOOLS)):
        raise ValueError(f"unknown tools {', '.join(unknown)}; there are: {', '.join(TOOLS)}")
    if sys.platform != "linux":  # namespaces, cgroups and death signals: nothing else has them
        raise UnavailableError(f"the sandbox needs Linux, this is {sys.platform}", "use a virtual machine with Linux")
    found = {name: path for name in wanted if (path := _ready_program(name))}
    for module in dict.fromkeys(TOOLS[name].module for name in wanted if name not in found):
        ours = [name for name in wanted if name not in found and TOOLS[name].module == module]
        found |= _built(module, ours, progress)
    return {name: found[name] for name in wanted}


def cache_folder() -> Path:
    """Where built programs live, outside any checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dovetail"


def kubernetes_version(program: Path) -> str:
    """Ask a Kubernetes program for its version, such as "1.36.3".

    Raises UnavailableError for versions that Dovetail does not support.
    """
    return _version(program, KUBERNETES)


def _version(program: Path, wanted: Versions) -> str:
    """Return the version that a program tells. Raises UnavailableError when it is none of those wanted."""
    try:
        run = subprocess.run(  # noqa: S603
            [program, wanted.flag], capture_output=True, text=True, errors="replace", check=False, timeout=ANSWER_S
        )
        said = (run.stdout or run.stderr).strip()
    except (OSError, subprocess.TimeoutExpired) as fault:
        said = str(fault)
    found = re.search(r"\bv?((\d+)\.(\d+)\.\S+)", said)
    if found is None or not wanted.oldest <= (int(found[2]), int(found[3])) <= wanted.newest:
        raise UnavailableError(
            f"{program} {wanted.flag} says {said[:200]!r}, and Dovetail supports {wanted.product} {wanted.text}",
            f"let {READY_PROGRAMS} name a folder with programs of such a version, or unset it",
        )
    return found[1]


def _ready_program(name: str) -> Path | None:
    """Return the user's own program, if there is one. Raises UnavailableError for one of a wrong version."""
    folder = os.environ.get(READY_PROGRAMS)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise UnavailableError(f"{READY_PROGRAMS}={folder} is not a folder", "correct it, or unset it to build")
    program = Path(folder).absolute() / name
    if not (os.access(program, os.X_OK) and program.is_file()):
        return None
    if versions := TOOLS[name].versions:
        _version(program, versions)
    return program


def _flags(module: str) -> list[str]:
    links = "-s -w"
    if module == "kubernetes":
        version = _pinned("k8s.io/kubernetes")
        major, minor, _ = version.removeprefix("v").split(".", 2)
        variables = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        links += "".join(f" -X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())
    if module == "containerd":
        links += (
            f" -X github.com/containerd/containerd/v2/version.Version={_pinned('github.com/containerd/containerd/v2')}"
        )
    return ["-trimpath", "-ldflags", links]


def _pinned(path: str) -> str:
    """Return the version of a Go module that the tools pin."""
    for pins in sorted(MODULES.glob("*/go.mod")):
        if found := re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", pins.read_text(), re.MULTILINE):
            return found[1]
    raise AssertionError(f"no go.mod requires {path}")


def home(module: str) -> Path:
    """Return the folder of a module's programs; a change of its pins or flags makes it another one."""
    sources = sorted((MODULES / module).glob("*.go"))  # of a tool of our own
    content = [path.read_bytes() for path in (MODULES / module / "go.mod", MODULES / module / "go.sum", *sources)]
    key = hashlib.sha256(b"\0".join([*content, " ".join(_flags(module)).encode()])).hexdigest()[:16]
    return cache_folder() / "tools" / f"{module}-{key}"


def _built(module: str, names: list[str], progress: Progress) -> dict[str, Path]:
    place = home(module)
    programs = {name: place / name for name in names}
    if all(path.exists() for path in programs.values()):
        return programs
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / ".lock"):  # another process may be at it
        remove_unfinished(place)
        missing = [name for name, path in programs.items() if not path.exists()]
        if missing:
            _build(module, missing, place, progress)
    return programs


def _build(module: str, names: list[str], place: Path, progress: Progress) -> None:
    needed = re.search(r"^go (\S+)", (MODULES / module / "go.mod").read_text(), re.MULTILINE)
    assert needed is not None
    progress(f"{', '.join(names)}: modules", 0, 0)
    go = find_go(needed[1], cache_folder())
    packages = [TOOLS[name].package for name in names]
    listed = _go([go, "list", *_flags(module), "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *packages], module)
    stale = len(listed.split())
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=place) as folder:
        command = [str(go), "build", "-v", *_flags(module), "-o", f"{folder}/", *packages]
        said: list[str] = []
        own = {**environment(), "GOTMPDIR": folder}  # else a killed `go` leaves its work in the temporary folder
        with subprocess.Popen(  # noqa: S603
            command, cwd=MODULES / module, env=own, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line.rstrip())
                progress(", ".join(names), min(len(said), stale), stale)
        if process.returncode != 0:
            raise UnavailableError(f"go build of {', '.join(names)} failed: {' | '.join(said[-5:])}", _remedy())
        for name, package in zip(names, packages, strict=True):
            (Path(folder) / _output(package)).rename(place / name)


def _output(package: str) -> str:
    """Return what `go build` calls a package's program: the last element of its path that is not a major version."""
    return [part for part in package.split("/") if not re.fullmatch(r"v\d+", part)][-1]


def _go(command: list[str | Path], module: str) -> str:
    done = subprocess.run(  # noqa: S603
        command, cwd=MODULES / module, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UnavailableError(f"go {command[1]} in {module} failed: {done.stderr.strip()[-500:]}", _remedy())
    return done.stdout


def _remedy() -> str:
    return (
        f"the build needs the Go module proxy (GOPROXY) and {BUILD_MIB} MiB of disk; "
        f"or let {READY_PROGRAMS} name a folder with ready programs"
    )
