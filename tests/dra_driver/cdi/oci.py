"""Containers by runc alone, with a CDI file applied as runtimes apply it (container-edits.go of CDI's Go library)."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.dra_driver.cdi.cdirules import Json, applied

RUNC = shutil.which("runc", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
SHELL = shutil.which("busybox", path="/bin:/usr/bin")
RUN_S = 60.0


def run(folder: Path, script: str, spec: Json, *devices: str, user: int = 0) -> str:
    """Run a shell script in a new container that was handed these CDI devices, and return what it printed."""
    assert RUNC is not None
    bundle = folder / f"bundle-{uuid.uuid4().hex[:8]}"
    _make_rootfs(bundle / "rootfs")
    subprocess.run([RUNC, "spec", "--bundle", bundle], check=True, timeout=RUN_S)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/sh", "-c", script], "user": {"uid": user, "gid": user}}
    for kind in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][kind] = ["CAP_MKNOD", "CAP_DAC_OVERRIDE"]
    _apply(config, applied(spec, *devices))
    (bundle / "config.json").write_text(json.dumps(config))
    name = f"dovetail-{bundle.name}"
    command = [RUNC, "--root", folder / "runc", "run", "--bundle", bundle, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _make_rootfs(root: Path) -> None:
    assert SHELL is not None
    (root / "bin").mkdir(parents=True)
    shutil.copy(SHELL, root / "bin/busybox")
    for applet in ("sh", "cat", "env", "ls", "mknod", "rm", "touch"):
        (root / "bin" / applet).symlink_to("busybox")
    for empty in ("tmp", "proc", "sys", "dev", "usr"):
        (root / empty).mkdir()


def _apply(config: dict[str, Any], edits: Mapping[str, Any]) -> None:
    config["process"]["env"] += edits["env"]
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]})
    linux = config["linux"]
    for node in edits["deviceNodes"]:
        numbers = {key: node[key] for key in ("type", "major", "minor")}
        linux.setdefault("devices", []).append({"path": node["path"], **numbers})
        linux["resources"]["devices"].append({"allow": True, "access": node["permissions"], **numbers})
    config["mounts"] += [
        {
            "destination": mount["containerPath"],
            "type": "none",
            "source": mount["hostPath"],
            "options": mount["options"],
        }
        for mount in edits["mounts"]
    ]
