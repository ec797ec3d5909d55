"""The links between the GPUs of a node, rebuilt from what our driver publishes of each.

Everything that decides between the sets of a node is published, but for the PCIe generation. It is inferred from the
architecture, and scales the rates of all sets that NVLink does not join, never their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kube.gpuattributes import STANDARD, GpuDevices, number, text, truth
from packing.dra.model import Attribute
from topology.facts import DeviceFacts, GpuFacts, LinkKind, Machine, NicFacts, NvlinkFacts, PcieFacts
from topology.machine import SCHEMA

PCIE_GENERATION = {
    "Pascal": 3,
    "Volta": 3,
    "Turing": 3,
    "Ampere": 4,
    "Ada Lovelace": 4,
    "Hopper": 5,
    "Blackwell": 5,
}
"""What GPUs of an architecture are built for (NVIDIA data sheets); hosts may offer less."""
UNKNOWN_GENERATION = 4
_LEVELS = ("X", "PIX", "PXB", "PHB", "NODE", "SYS")
"""By the digit in `pcieLevels`, nearest first."""


def machine_of(driver: str, gpus: Mapping[int, GpuDevices], count: int, faults: list[str]) -> Machine:
    """Return the machine that these GPUs (by index, of `count`) make up; what had to be mended is added to `faults`.

    Two ends that differ in their links, or in their distance, get what both can use: the fewer, the farther. A GPU
    that is not published is linked as its peers say; one that is fixed in MIG mode has left the NVLink graph.
    """
    said = {index: gpu.any.attributes for index, gpu in gpus.items()}
    products = [text(said[index], f"{driver}/productName") if index in said else "" for index in range(count)]
    usual = max(products, key=products.count, default="")
    first = next(iter(said.values()), {})
    return Machine(
        schema=SCHEMA,
        id=f"{count}x {usual}".strip(),
        gpu=GpuFacts(
            count=count,
            product_name=usual,
            architecture=text(first, f"{driver}/architecture"),
            # Models are kept beside the machine; links do not depend on memory.
            memory_total_mib=0,
        ),
        devices=tuple(
            DeviceFacts(
                index=index,
                numa_node=number(said.get(index, {}), f"{STANDARD}/numaNode", -1),
                product_name=products[index] if products[index] != usual else None,
            )
            for index in range(count)
        ),
        nvlink=_nvlink(driver, gpus, count, faults),
        pcie=PcieFacts(
            generation=PCIE_GENERATION.get(text(first, f"{driver}/architecture"), UNKNOWN_GENERATION),
            levels=_levels(driver, said, count),
        ),
        nics=_nearest_nics(driver, said, count),
    )


def gpu_count(driver: str, gpus: Mapping[int, GpuDevices]) -> int:
    """Return how many GPUs the node has, those included that only their peers know of."""
    count = max(gpus, default=-1) + 1
    for gpu in gpus.values():
        attributes = gpu.any.attributes
        peers = text(attributes, f"{driver}/nvlinkPeers")
        count = max(count, len(text(attributes, f"{driver}/pcieLevels")), peers.count(",") + 1 if peers else 0)
    return count


def _nvlink(driver: str, gpus: Mapping[int, GpuDevices], count: int, faults: list[str]) -> NvlinkFacts:
    wholes = {index: gpu.whole.attributes for index, gpu in gpus.items() if gpu.whole is not None}
    rows = {index: _links(text(attributes, f"{driver}/nvlinkPeers"), count) for index, attributes in wholes.items()}
    in_mig = [index for index, gpu in gpus.items() if gpu.is_fixed_in_mig]
    matrix = [[0] * count for _ in range(count)]
    for i, j in _pairs(count):
        if i in in_mig or j in in_mig:
            continue
        one, other = (rows[i][j] if i in rows else None), (rows[j][i] if j in rows else None)
        if one is not None and other is not None and one != other:
            faults.append(f"GPUs {i} and {j} publish {one} and {other} NVLinks between them; {min(one, other)} count")
        known = [links for links in (one, other) if links is not None]
        matrix[i][j] = matrix[j][i] = min(known, default=0)
    linked = [attributes for index, attributes in wholes.items() if any(matrix[index])]
    speeds = {number(attributes, f"{driver}/nvlinkMBps", 0) for attributes in linked}
    if len(speeds) > 1:
        faults.append(f"GPUs publish NVLinks of {', '.join(map(str, sorted(speeds)))} MB/s; the slowest counts")
    switched = bool(linked) and all(truth(attributes, f"{driver}/nvswitch") for attributes in linked)
    kind = LinkKind.NVSWITCH if switched else LinkKind.DIRECT if linked else LinkKind.NONE
    return NvlinkFacts(
        kind=kind,
        links_per_gpu=max((number(attributes, f"{driver}/nvlinkLinks", 0) for attributes in linked), default=0),
        gbyte_s_per_link_per_direction=max(min(speeds, default=0), 0) / 1000,
        matrix=tuple(map(tuple, matrix)),
    )


def _links(peers: str, count: int) -> list[int]:
    """Return the counts of `nvlinkPeers`, 0 for what is missing or no count."""
    numbers = [int(word) if word.isascii() and word.isdigit() and len(word) < 4 else 0 for word in peers.split(",")]
    return (numbers + [0] * count)[:count]


def _levels(driver: str, said: Mapping[int, Mapping[str, Attribute]], count: int) -> tuple[tuple[str, ...], ...]:
    """Return the PCIe distance of every pair; unknown ones are as far as can be."""
    far = len(_LEVELS) - 1
    matrix = [[0] * count for _ in range(count)]
    digits = {index: text(attributes, f"{driver}/pcieLevels") for index, attributes in said.items()}
    for i, j in _pairs(count):
        known = [
            int(row[at])
            for row, at in ((digits.get(i, ""), j), (digits.get(j, ""), i))
            if row[at : at + 1] in "12345" and row[at:]
        ]
        matrix[i][j] = matrix[j][i] = max(known, default=far)
    return tuple(tuple(_LEVELS[level] for level in row) for row in matrix)


def _nearest_nics(driver: str, said: Mapping[int, Mapping[str, Attribute]], count: int) -> tuple[NicFacts, ...]:
    """Return one card that is as near to each GPU as the one nearest to it; none where no distance is known."""
    digits = [number(said.get(index, {}), f"{driver}/nicLevel", 0) for index in range(count)]
    if not any(0 < digit < len(_LEVELS) for digit in digits):
        return ()
    return (
        NicFacts(name="nearest", levels=tuple(_LEVELS[digit if 0 < digit < len(_LEVELS) else -1] for digit in digits)),
    )


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(count) for j in range(i + 1, count))
