"""The committed Python of the kubelet's APIs is what the lock's generator makes of `proto/`, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "dra_driver" / "pb"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if "_pb2" in path.name}


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True)
    made = contents(tmp_path / "dra_driver" / "pb")
    committed = contents(COMMITTED)
    assert sorted(made) == sorted(committed)
    assert [name for name in made if made[name] != committed[name]] == [], "run `make proto`"


def test_the_driver_asks_for_the_runtimes_that_its_generated_code_needs() -> None:
    """Generated code refuses to load on an older runtime than it was made for."""
    code = contents(COMMITTED)
    protobuf = re.findall(r"# Protobuf Python Version: (.*)", "\n".join(code.values()))
    grpcio = re.findall(r"GRPC_GENERATED_VERSION = '(.*)'", "\n".join(code.values()))
    assert set(grpcio) == {version("grpcio-tools")}
    wanted = (ROOT / "pyproject.toml").read_text()
    assert f'"grpcio>={grpcio[0]}"' in wanted
    assert f'"protobuf>={protobuf[0]}"' in wanted
