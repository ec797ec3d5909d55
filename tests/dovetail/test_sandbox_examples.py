"""The examples of the sandbox: whatever node a pod of theirs lands on can run it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sandbox.objects import IMAGE

EXAMPLES = sorted((Path(__file__).parents[2] / "examples/sandbox").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_pods_need_no_image_from_elsewhere(path: Path) -> None:
    """The real node pulls nothing: a pod with another image waits there for ever, and holds its GPUs."""
    pods = [each for each in yaml.safe_load_all(path.read_text()) if each["kind"] == "Pod"]
    assert pods
    assert {container["image"] for pod in pods for container in pod["spec"]["containers"]} == {IMAGE}
