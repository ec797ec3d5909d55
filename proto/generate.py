"""Write the Python of the kubelet's gRPC APIs into `dra_driver/pb`, or below the folder that is given: `make proto`.

What is made needs at least the grpcio and protobuf that grpcio-tools of the lock came with; pyproject.toml says so too.
"""

import sys
from pathlib import Path

from grpc_tools import protoc

SOURCES = Path(__file__).parent
PLUGINS = Path(sys.executable).parent


def generate(out: Path) -> None:
    """Generate `out`/dra_driver/pb/*_pb2*.py and their types."""
    kinds = ("python", "grpc_python", "mypy", "mypy_grpc")
    plugins = [f"--plugin=protoc-gen-{kind}={PLUGINS / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")]
    outputs = [f"--{kind}_out={'quiet:' if 'mypy' in kind else ''}{out}" for kind in kinds]
    files = sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.proto"))
    if protoc.main(["protoc", f"-I{SOURCES}", *plugins, *outputs, *files]) != 0:
        raise SystemExit("protoc failed; what is wrong stands above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES.parent)
