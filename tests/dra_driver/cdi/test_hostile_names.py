"""HI-8, HI-9: no name of a claim, device, share or GPU becomes a path, a variable or a line of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dra_driver.cdi.names import CdiNameError, device_name, file_name, uid_of_file
from tests.dra_driver.cdi.hostile import FRAGMENTS, attack, names, request_limits
from tests.dra_driver.cdi.hosts import UID, Host, gpu

SEED = 7
ROOT = Path(__file__).parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount namespace")


def everything_below(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_hi8_hi9_no_name_writes_elsewhere_or_says_more_than_it_should(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.roots.cdi.mkdir()
    before = everything_below(tmp_path)
    tally = attack(host.files(request_limits), host.roots.cdi, 2_000, SEED)
    assert tally.faults == []
    assert (tally.tried, tally.refused + tally.written) == (2_000, 2_000)
    assert min(tally.refused, tally.written) > 200
    assert everything_below(tmp_path) == before


def confined(tmp_path: Path, count: int, seed: int) -> dict[str, object]:
    command = ["unshare", "--mount", sys.executable, "-B", "-m", "tests.dra_driver.cdi.hostile"]
    run = subprocess.run(
        [*command, str(count), str(seed), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, object] = json.loads(run.stdout)
    assert result["faults"] == []
    assert result["left"] == []
    assert result["tried"] == count
    return result


@needs_root
def test_hi8_nothing_is_written_elsewhere_where_all_else_is_read_only(tmp_path: Path) -> None:
    confined(tmp_path, 5_000, SEED + 1)


@needs_root
@pytest.mark.soak
def test_hi8_a_million_names(tmp_path: Path) -> None:
    result = confined(tmp_path, 1_000_000, SEED)
    sys.stdout.write(
        f"seed {SEED}: {result['tried']} names, {result['written']} written, {result['refused']} refused\n"
    )


@pytest.mark.parametrize("fragment", FRAGMENTS[:40])
def test_hi8_a_valid_name_with_anything_added_is_refused(fragment: str) -> None:
    for name in (fragment + UID, UID + fragment, UID[:9] + fragment + UID[9:]):
        with pytest.raises(CdiNameError, match="must be a UUID"):
            file_name(name)


@pytest.mark.parametrize("name", ["", "-", "a-", "-a", "A", "a.b", "a_b", "a/b", "a" * 64, "gpu-0\n", "gpu-0=x", "gpü"])
def test_hi8_a_device_is_a_dns_label(name: str) -> None:
    with pytest.raises(CdiNameError, match="DNS label"):
        device_name(UID, replace(gpu(0), device=name))


def test_files_are_known_again_by_their_name() -> None:
    assert uid_of_file(file_name(UID)) == UID
    for name in names(5_000, SEED):
        assert uid_of_file(name) is None
        assert uid_of_file(f"k8s.gpu.dovetail.dev-claim_{name}.json") in (None, name)


def test_two_claims_never_share_a_name() -> None:
    """Runtimes remember devices by name (dra-drivers, CDI)."""
    devices = [gpu(0), gpu(1), gpu(10)]
    uids = [UID, UID[:-1] + "c", UID[:-1] + "d"]
    assert len({device_name(uid, device) for uid in uids for device in devices}) == 9
