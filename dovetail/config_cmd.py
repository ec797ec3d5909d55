"""`dovetail config`: what the driver on the nodes would say to the configuration in manifests, and its schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from dovetail.output import Column, OutputFormat, Value, print_rows

EXIT_FAULTS = 1
STDIN = "-"
COLUMNS = (
    Column("file", "FILE"),
    Column("object", "OBJECT"),
    Column("config", "CONFIG"),
    Column("path", "PATH"),
    Column("result", "RESULT"),
)

config_app = typer.Typer(
    no_args_is_help=True,
    help="Check configuration for the driver gpu.dovetail.dev (kind GpuConfig).",
)


@config_app.command()
def check(
    *,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Manifests or bare GpuConfigs, YAML or JSON; - is stdin.")
    ],
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How the answer is printed.")] = (
        OutputFormat.TABLE
    ),
) -> None:
    """Check what ResourceClaims, ResourceClaimTemplates, DeviceClasses and bare GpuConfigs configure.

    The code is the driver's own: what passes here, nodes understand. Whether a device can do it is known only there.
    Lists are looked through; objects of other kinds and configuration for other drivers are passed over.

    Exit codes: 0 all good, or nothing to check; 1 a fault, or a file that cannot be read; 2 wrong usage.
    """
    from dra_driver.config.check import check as findings_in

    rows: list[dict[str, Value]] = []
    for file in files:
        for finding in findings_in(_content(file), "stdin" if file == STDIN else file):
            faulty = bool(finding.problem)
            rows.append(
                {
                    "file": file,
                    "object": finding.object,
                    "config": finding.config or None,
                    "path": finding.path if faulty else None,
                    "ok": not faulty,
                    "problem": finding.problem or None,
                    "remedy": finding.remedy or None,
                    "means": finding.means or None,
                    "result": f"{finding.problem}; {finding.remedy}" if faulty else f"ok: {finding.means}",
                }
            )
    if rows or output is not OutputFormat.TABLE:
        print_rows(rows, COLUMNS, output)
    if not rows:
        typer.echo(f"nothing here is configured for gpu.dovetail.dev: {', '.join(files)}", err=True)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(EXIT_FAULTS)


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of GpuConfig, for editors and for checks in CI."""
    from dra_driver.config.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _content(file: str) -> bytes:
    from dra_driver.config.check import MAX_FILE_BYTES
    from simulator.inputs.source import read_bytes
    from topology.errors import InvalidInputError

    if file != STDIN:
        return read_bytes(Path(file), max_bytes=MAX_FILE_BYTES)
    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInputError("stdin", "", f"holds more than {MAX_FILE_BYTES} bytes; split it")
    return content
