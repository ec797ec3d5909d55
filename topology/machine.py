"""Parses and checks a machine file (schema gpu-topology/v1). Pure: text in, `Machine` out."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from topology.documents import convert, load_document
from topology.errors import InvalidInputError, InvalidInputsError
from topology.facts import MAX_GPUS, PCIE_LEVELS, LinkKind, Machine, NvlinkFacts

SCHEMA = "gpu-topology/v1"

PCIE_GBYTE_S = {1: 3, 2: 6, 3: 12, 4: 24, 5: 48, 6: 96}
"""Usable GB/s of a x16 slot per direction, by generation: NCCL takes 12 for gen 3, and each generation doubles it."""

__all__ = ["PCIE_GBYTE_S", "SCHEMA", "Machine", "parse_machine"]


def parse_machine(text: str, name: str) -> Machine:
    """Return the machine described by `text`; `name` (a file name) is used in messages.

    Where a link count differs by direction the smaller one is taken and a warning recorded: peers in the field differ
    (one scores such a pair 0, another crashes), and the smaller count is the only one that both ends can use.
    Raises InvalidInputError, or InvalidInputsError with every fault found.
    """
    machine = convert(load_document(text, name, SCHEMA), Machine, name)
    faults = tuple(InvalidInputError(name, field, problem) for field, problem in _faults(machine))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidInputsError(name, faults)
    return _mend_asymmetry(machine)


def _faults(machine: Machine) -> Iterator[tuple[str, str]]:
    yield from _identity_faults(machine)
    n = len(machine.devices)
    if not 1 <= n <= MAX_GPUS:
        yield "devices", f"{n} GPUs; must be 1 to {MAX_GPUS}"
        return
    if machine.gpu.count != n:
        yield "gpu.count", f"is {machine.gpu.count} but devices lists {n}; make them equal"
    if [device.index for device in machine.devices] != list(range(n)):
        yield "devices", f"indices must be 0 to {n - 1} in order"
    yield from _matrix_faults(machine.nvlink, n)
    yield from _level_faults(machine, n)


def _identity_faults(machine: Machine) -> Iterator[tuple[str, str]]:
    if machine.warnings:
        yield "warnings", "is filled in by the program; remove it"
    for at, device in enumerate(machine.devices[:MAX_GPUS]):
        if device.numa_node < -1:
            yield f"devices[{at}].numa_node", f"is {device.numa_node}; must be -1 (unknown) or a node number"
    if machine.pcie.gbyte_s_per_direction is None and machine.pcie.generation not in PCIE_GBYTE_S:
        known = f"{min(PCIE_GBYTE_S)} to {max(PCIE_GBYTE_S)}"
        yield "pcie.generation", f"is {machine.pcie.generation}; for other than {known} state gbyte_s_per_direction"


def _matrix_faults(nvlink: NvlinkFacts, n: int) -> Iterator[tuple[str, str]]:
    matrix = nvlink.matrix
    if len(matrix) != n or any(len(row) != n for row in matrix):
        yield "nvlink.matrix", f"must have {n} rows of {n} counts, one per GPU"
        return
    for i, row in enumerate(matrix):
        if row[i]:
            yield f"nvlink.matrix[{i}][{i}]", f"is {row[i]}; a GPU has no link to itself, must be 0"
        if nvlink.kind is LinkKind.NVSWITCH:
            if max(row) > nvlink.links_per_gpu:
                yield f"nvlink.matrix[{i}]", f"{max(row)} links; links_per_gpu is {nvlink.links_per_gpu}"
        elif _usable(matrix, i) > nvlink.links_per_gpu:
            yield f"nvlink.matrix[{i}]", f"sums to {_usable(matrix, i)} links; links_per_gpu is {nvlink.links_per_gpu}"
    linked = any(map(any, matrix))
    if nvlink.kind is LinkKind.NONE and linked:
        yield "nvlink.kind", "is none but the matrix has links; say direct, bridge or nvswitch"
    if linked and not nvlink.gbyte_s_per_link_per_direction:
        yield "nvlink.gbyte_s_per_link_per_direction", "is 0 but the matrix has links; state the rate of one link"


def _usable(matrix: tuple[tuple[int, ...], ...], i: int) -> int:
    return sum(min(matrix[i][j], matrix[j][i]) for j in range(len(matrix)))


def _level_faults(machine: Machine, n: int) -> Iterator[tuple[str, str]]:
    levels = machine.pcie.levels
    names = [nic.name for nic in machine.nics]
    if len(set(names)) != len(names):
        yield "nics", "two have the same name; names must be unique"
    for nic in machine.nics:
        if len(nic.levels) != n or any(level not in PCIE_LEVELS for level in nic.levels):
            yield f"nics.{nic.name}.levels", f"must be {n} of {', '.join(PCIE_LEVELS)}, one per GPU"
    if len(levels) != n or any(len(row) != n for row in levels):
        yield "pcie.levels", f"must have {n} rows of {n} levels, one per GPU"
        return
    for i, row in enumerate(levels):
        for j, level in enumerate(row):
            if (level == "X") != (i == j) or level not in ("X", *PCIE_LEVELS):
                yield f"pcie.levels[{i}][{j}]", f"is {level!r}; X on the diagonal, else {', '.join(PCIE_LEVELS)}"
            elif j > i and level != levels[j][i]:
                yield f"pcie.levels[{i}][{j}]", f"is {level} but [{j}][{i}] is {levels[j][i]}; make them equal"


def _mend_asymmetry(machine: Machine) -> Machine:
    matrix = machine.nvlink.matrix
    n = len(matrix)
    uneven = [(i, j) for i in range(n) for j in range(i + 1, n) if matrix[i][j] != matrix[j][i]]
    if not uneven:
        return machine
    mended = tuple(tuple(min(matrix[i][j], matrix[j][i]) for j in range(n)) for i in range(n))
    warnings = tuple(
        f"nvlink.matrix: GPUs {i} and {j} report {matrix[i][j]} and {matrix[j][i]} links; took {mended[i][j]}"
        for i, j in uneven
    )
    nvlink = msgspec.structs.replace(machine.nvlink, matrix=mended)
    return msgspec.structs.replace(machine, nvlink=nvlink, warnings=warnings)
