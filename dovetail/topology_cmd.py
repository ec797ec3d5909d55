"""`dovetail topology` and `dovetail mig`: what the shipped machine and MIG tables say, for one node or one GPU.

This module decodes options and prints; what computes is imported inside the commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.amounts import check_gbps
from dovetail.output import Column, OutputFormat, Value, print_rows
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from packing.migtable import MigTable
    from topology.machine import Machine
    from topology.mig import MigGeometry

EXIT_FAILED = 1
EXIT_DOES_NOT_FIT = 3
MAX_FILE_BYTES = 1 << 20

topology_app = typer.Typer(no_args_is_help=True, help="Machines: their links, and the best GPUs to take.")
mig_app = typer.Typer(no_args_is_help=True, help="MIG: the partitions of a product, and the best place for one.")

MachineArg = Annotated[str, typer.Argument(metavar="MACHINE|FILE", help="A name of `topology list`, or a YAML file.")]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="How the answer is printed.")]


@topology_app.command("list")
def list_machines(*, output: Output = OutputFormat.TABLE) -> None:
    """List the machines that Dovetail knows."""
    with _bad_input_exits():
        from topology.catalog import machine, machine_names

        rows = [_summary(machine(name)) for name in machine_names()]
    columns = [Column("id", "MACHINE"), Column("gpus", "GPUS"), Column("product", "PRODUCT")]
    print_rows(rows, [*columns, Column("nvlink", "NVLINK"), Column("title", "WHAT IT IS")], output)


@topology_app.command()
def show(machine: MachineArg, *, output: Output = OutputFormat.TABLE) -> None:
    """Show how the GPUs of a machine are joined, in the form of `nvidia-smi topo -m`."""
    with _bad_input_exits():
        found = _machine(machine)
        from topology.links import link_graph, numa_groups, nvlink_islands
        from topology.nics import nearest_nics

        islands = nvlink_islands(link_graph(found))
        numa = numa_groups(found)
        nics = [nearest_nics(found, gpu) for gpu in range(found.gpu_count)]
    for warning in found.warnings:
        typer.echo(f"{found.id}: warning: {warning}", err=True)
    rows = _matrix_rows(found)
    if output in (OutputFormat.TABLE, OutputFormat.CSV):
        print_rows(rows, [Column(key, "" if key == "gpu" else key) for key in rows[0]], output)
    if output is OutputFormat.TABLE:
        typer.echo("")
        typer.echo(f"NVLink islands: {_groups(islands) if any(len(i) > 1 for i in islands) else 'none'}")
        typer.echo("NUMA nodes: " + ", ".join(f"{node}: {_groups([gpus])}" for node, gpus in numa.items()))
        near = [f"GPU{gpu} {nic.level} {'+'.join(nic.names)}" for gpu, nic in enumerate(nics) if nic.names]
        typer.echo("Nearest NICs: " + (", ".join(near) or "none listed"))
    elif output is not OutputFormat.CSV:
        answer = {
            **_summary(found),
            "matrix": [[row[f"GPU{j}"] for j in range(found.gpu_count)] for row in rows],
            "islands": [list(island) for island in islands],
            "numa_nodes": {str(node): list(gpus) for node, gpus in numa.items()},
            "nearest_nics": [{"gpu": g, "level": nic.level, "names": list(nic.names)} for g, nic in enumerate(nics)],
            "warnings": list(found.warnings),
        }
        _print_mapping(answer, output)


@topology_app.command()
def best(
    machine: MachineArg,
    *,
    gpus: Annotated[int, typer.Option(min=1, max=16, help="How many GPUs to take.")],
    free: Annotated[str | None, typer.Option(help="Free GPUs, as in 0,1,4-7, or ''; without: all.")] = None,
    link: Annotated[str, typer.Option(help="How much links matter: none, prefer or require.")] = "prefer",
    min_gbps: Annotated[float, typer.Option(min=0, help="Least set quality, GB/s; needs --link require.")] = 0,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Say which of the free GPUs a job should take, how fast they are together and what stays free for others."""
    if link not in ("none", "prefer", "require"):
        raise typer.BadParameter(f"{link!r} is not none, prefer or require", param_hint="--link")
    if min_gbps and link != "require":
        raise typer.BadParameter("needs --link require", param_hint="--min-gbps")
    with _bad_input_exits():
        check_gbps(min_gbps)
        found = _machine(machine)
        answer = _best_set(found, _free_mask(free, found), gpus, link, round(min_gbps * 1000))
    if output in (OutputFormat.TABLE, OutputFormat.CSV):
        # One GPU or none has no quality; a 0 would read like a very slow link.
        answer |= {key: answer[key] or None for key in ("quality_gbps", "ideal_gbps")}
    _print_answer(answer, output, ["gpus", "quality_gbps", "ideal_gbps", "remaining", "why"])
    if not answer["gpus"]:
        raise typer.Exit(EXIT_DOES_NOT_FIT)


@mig_app.command("show")
def show_mig(product: str, *, output: Output = OutputFormat.TABLE) -> None:
    """Show the MIG profiles of a product: where each may start, how big it is, how often it fits."""
    with _bad_input_exits():
        from topology.catalog import mig_geometry

        geometry = mig_geometry(product)
    columns = [Column("profile", "PROFILE"), Column("id", "ID"), Column("enum", "ENUM"), Column("sms", "SMS")]
    columns += [
        Column("memory_mib", "MEMORY MIB"),
        Column("compute_slices", "COMPUTE"),
        Column("size", "MEMORY SLICES"),
    ]
    print_rows(_profile_rows(geometry), [*columns, Column("starts", "STARTS"), Column("max", "MAX")], output)
    if not geometry.placeable:
        typer.echo(f"{geometry.id}: placements were never published; nothing can be placed on this product", err=True)


@mig_app.command("best")
def best_mig(
    product: str,
    *,
    profile: Annotated[str, typer.Option(help="The profile to place, as in 2g.20gb.")],
    occupied: Annotated[list[str] | None, typer.Option(help="What is there, as in 3g.40gb@0; repeat or list.")] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Say at which memory slice a partition should start so that most fits beside it later."""
    instances = [_instance(word) for words in occupied or [] for word in words.split(",") if word.strip()]
    with _bad_input_exits():
        answer = _best_start(product, instances, profile)
    _print_answer(answer, output, ["profile", "start", "remaining", "why"])
    if answer["start"] is None:
        raise typer.Exit(EXIT_DOES_NOT_FIT)


@contextmanager
def _bad_input_exits() -> Iterator[None]:
    try:
        yield
    except InvalidInputError as error:
        typer.echo(f"dovetail: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error


def _machine(name: str) -> Machine:
    """Return a shipped machine, or one from a file where `name` looks like a path or is one."""
    from topology.catalog import machine, machine_names
    from topology.machine import parse_machine

    named = "/" not in name and not name.endswith((".yaml", ".yml"))
    if named and (name in machine_names() or not Path(name).is_file()):
        return machine(name)
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        return parse_machine(data.decode(), name)
    except OSError as error:
        raise InvalidInputError(name, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(name, "", "is not UTF-8 text; a machine file is YAML") from error


def _summary(machine: Machine) -> dict[str, Value]:
    products = sorted({machine.product(gpu) for gpu in range(machine.gpu_count)})
    return {
        "id": machine.id,
        "gpus": machine.gpu_count,
        "product": " + ".join(products),
        "nvlink": str(machine.nvlink.kind),
        "title": machine.title,
    }


def _matrix_rows(machine: Machine) -> list[dict[str, Value]]:
    rows = []
    for i, device in enumerate(machine.devices):
        row: dict[str, Value] = {"gpu": f"GPU{i}"}
        for j in range(machine.gpu_count):
            links = machine.nvlink.matrix[i][j]
            row[f"GPU{j}"] = f"NV{links}" if links else machine.pcie.levels[i][j]
        row |= {nic.name: nic.levels[i] for nic in machine.nics}
        rows.append(row | {"CPU Affinity": device.cpu_affinity or "N/A", "NUMA Affinity": str(device.numa_node)})
    return rows


def _groups(groups: Sequence[Sequence[int]]) -> str:
    return " ".join("{" + ",".join(map(str, group)) + "}" for group in groups)


def _free_mask(text: str | None, machine: Machine) -> int:
    """Return the free GPUs, bit mask. A script that found none says so with an empty text: that is not all."""
    if text is None:
        return (1 << machine.gpu_count) - 1
    mask = 0
    if not text.strip():
        return mask
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", word)
        if not match:
            raise typer.BadParameter(f"{word!r} is not a GPU index or range, as in 0,1,4-7", param_hint="--free")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < machine.gpu_count:
            raise InvalidInputError(machine.id, "--free", f"{word} is outside GPUs 0 to {machine.gpu_count - 1}")
        mask |= (1 << last + 1) - (1 << first)
    return mask


def _best_set(machine: Machine, free: int, k: int, link: str, min_mbps: int) -> dict[str, Any]:
    """Ask `place()`, on one node of that machine whose other GPUs are out of use."""
    from packing.linktable import build_link_table
    from topology.quality import set_quality

    chosen = _placed(machine, free, k, link, min_mbps)
    quality = set_quality(machine)
    table = build_link_table(quality)
    rest = free & ~chosen
    sizes = [(s, size) for s, size in enumerate(table.sizes.tolist()) if size > 1]
    ideal = int(table.ideal[k]) / 1000 if k < len(table.ideal) else 0.0
    gbps = int(quality.quality_mbps[chosen]) / 1000
    if not chosen:
        if free.bit_count() < k:
            why = f"{free.bit_count()} of {machine.gpu_count} GPUs are free"
        else:
            asked = f"{min_mbps / 1000:.10g} GB/s" if min_mbps else "NVLink alone"
            why = f"no {k} free GPUs reach {asked}; the best free set has {_fastest(table, quality, free, k):g} GB/s"
    elif k == 1:
        why = "the GPU whose loss costs the links of the others least"
    else:
        share = f"{100 * gbps / ideal:.0f} % of the best on an empty machine" if ideal else "links unknown"
        joined = "NVLink" if quality.nvlink[chosen] else "PCIe"
        why = f"{gbps:g} GB/s over {joined}, {share}; {_staying(rest)}"
    return {
        "gpus": _bits(chosen),
        "quality_gbps": gbps,
        "ideal_gbps": ideal,
        "remaining": {str(size): int(table.count[s, rest]) for s, size in sizes},
        "why": why,
    }


def _placed(machine: Machine, free: int, k: int, link: str, min_mbps: int) -> int:
    """Return the GPUs that `place()` gives to a pod of `k` whole GPUs, bit mask; 0 = it does not fit."""
    from packing.mix import DemandMix
    from packing.model import Demand, LinkWish, Node, NodeName, Snapshot, WholeRequest
    from packing.pack import pack
    from packing.place import place
    from packing.policy import DEFAULT_POLICY, make_policy
    from packing.shapes import shape_of

    taken = frozenset(gpu for gpu in range(machine.gpu_count) if not free >> gpu & 1)
    node = Node(name=NodeName(machine.id), shape=shape_of(machine), cpu_milli=0, memory_mib=0, unhealthy=taken)
    fabric, usage = pack(Snapshot(nodes=(node,)))
    demand = Demand(requests=(WholeRequest(count=k, link=LinkWish(link), min_gbps=min_mbps / 1000),))
    policy = make_policy(DEFAULT_POLICY, DemandMix.from_demands([(demand, 1)]), fabric)
    placement = place(fabric, usage, demand, policy).placement
    return sum(1 << gpu for gpu in placement.devices[0].gpus) if placement else 0


def _fastest(table: Any, quality: Any, free: int, k: int) -> float:  # noqa: ANN401 - types of a lazy import
    return int(quality.quality_mbps[int(table.best_quality[k, free])]) / 1000


def _staying(rest: int) -> str:
    return f"GPUs {_groups([_bits(rest)])} stay free" if rest else "no GPU stays free"


def _bits(mask: int) -> list[int]:
    return [gpu for gpu in range(mask.bit_length()) if mask >> gpu & 1]


def _profile_rows(geometry: MigGeometry) -> list[dict[str, Value]]:
    return [
        {
            "profile": profile.name,
            "id": profile.profile_id,
            "enum": profile.nvml_enum,
            "sms": profile.sm_count,
            "memory_mib": profile.memory_mib,
            "compute_slices": profile.compute_slices,
            "size": profile.size or None,
            "starts": " ".join(map(str, profile.starts)) or None,
            "max": profile.max_instances,
        }
        for profile in geometry.profiles
    ]


def _instance(word: str) -> tuple[str, int]:
    name, at, start = word.strip().partition("@")
    if not (name and at and re.fullmatch(r"\d{1,2}", start)):
        raise typer.BadParameter(f"{word!r} is not PROFILE@SLICE, as in 3g.40gb@0", param_hint="--occupied")
    return name, int(start)


def _best_start(product: str, instances: list[tuple[str, int]], profile: str) -> dict[str, Any]:
    from packing.migtable import build_mig_table
    from topology.catalog import mig_geometry
    from topology.mig import occupation, place

    geometry = mig_geometry(product)
    table = build_mig_table(geometry)
    occupied = occupation(geometry, instances)
    p = geometry.index(profile)
    wanted = geometry.profiles[p]
    start = int(table.best_start[p, occupied.slices])
    blocked = bool(wanted.blocked_by & occupied.exclusive)
    if blocked or start < 0:
        why = "another instance holds the engines it needs" if blocked else "no legal start is free"
        start = -1
        after = occupied
    else:
        after = place(geometry, occupied, wanted, start)
        starts = table.legal_starts[p, occupied.slices]
        legal = [str(s) for s in wanted.starts if starts >> s & 1]
        why = f"of the legal starts {', '.join(legal)} this leaves the least that later partitions cannot use"
    return {
        "profile": wanted.name,
        "start": start if start >= 0 else None,
        "remaining": _remaining(table, after.slices, after.exclusive),
        "why": why,
    }


def _remaining(table: MigTable, slices: int, exclusive: int) -> dict[str, int]:
    return {
        profile.name: 0 if profile.blocked_by & exclusive else int(table.remaining[p, slices])
        for p, profile in enumerate(table.geometry.profiles)
    }


def _print_answer(answer: Mapping[str, Any], output: OutputFormat, keys: Sequence[str]) -> None:
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        _print_mapping(answer, output)
        return
    columns = [Column(key, key.replace("_", " ").upper()) for key in keys]
    print_rows([{key: _flat(answer[key]) for key in keys}], columns, output)


def _flat(value: Any) -> Value:  # noqa: ANN401 - lists and mappings of plain values
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{key}:{number}" for key, number in value.items())
    flat: Value = value
    return flat


def _print_mapping(answer: Mapping[str, Any], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        typer.echo(json.dumps(answer, indent=2))
        return
    import yaml

    typer.echo(yaml.safe_dump(dict(answer), sort_keys=False, allow_unicode=True), nl=False)
