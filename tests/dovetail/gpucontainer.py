"""The example of a real container with a GPU, as a person tries it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sandbox.waiting import NotYet, wait_for
from tests.sandbox.children import ROOT

EXAMPLE = ROOT / "examples" / "sandbox" / "gpu-container.yaml"
WANTED = ("NVIDIA_VISIBLE_DEVICES=void\n", "/dev/nvidiactl\n", "/libcuda.so.1\n")


def check_gpu_container(sandbox: Callable[..., str], folder: Path) -> None:
    """It runs, by the cluster's own scheduler, and says what our driver gave it. `sandbox` runs a command of ours."""
    manifest = folder / EXAMPLE.name
    manifest.write_text(EXAMPLE.read_text().replace("  schedulerName: dovetail\n", ""))
    sandbox("kubectl", "apply", "-f", str(manifest))
    sandbox("kubectl", "wait", "pod/gpu-container", "--for=condition=Ready", "--timeout=60s")

    def look() -> bool | NotYet:
        said = sandbox("kubectl", "logs", "gpu-container")
        return all(each in said for each in WANTED) or NotYet(said)

    wait_for("what the container says", look)
