"""Devices of a node as choices of the core, so that the policy judges them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from packing.dra.inventory import Inventory
from packing.dra.layout import Layout
from packing.dra.ledger import Ledger, share_amounts
from packing.dra.model import Ask, PartKind
from packing.dra.problem import Item
from packing.dra.search import Option, Plan, Solution
from packing.dra.translate import bits_of
from packing.judge import UNFIT, judge
from packing.kernels.arrays import NONE
from packing.model import (
    MAX_REQUESTS_PER_POD,
    Demand,
    LinkWish,
    PartitionRequest,
    Request,
    ShareRequest,
    WholeRequest,
)
from packing.policy import Policy
from packing.usage import Held

LEAST = UNFIT + 2
"""The score of devices that the core would not give (an unhealthy GPU whose taint is tolerated): below any other."""

Unit = tuple[Request, int, int, int]
"""A request of the core, its GPUs as a bit mask, profile and start."""


def is_choice(layout: Layout, item: Item) -> bool:
    """Whether what a request gets is for the policy to choose: GPUs of ours, or parts of them, out of several."""
    return not item.sub.admin and not item.every and all(bit in layout.parts for bit in bits_of(item.candidates))


def is_set(layout: Layout, item: Item) -> bool:
    """Whether a request is for several whole GPUs, whose links matter."""
    whole = all(bit in layout.parts and layout.parts[bit].kind is PartKind.WHOLE for bit in bits_of(item.candidates))
    return whole and item.count > 1 and not item.sub.admin


def units_of(layout: Layout, item: Item, bits: Iterable[int]) -> list[Unit]:
    """Return the devices of a request that are GPUs of ours as units of the core; adminAccess takes none."""
    if item.sub.admin:
        return []
    units: list[Unit] = []
    wholes = 0
    for bit in bits:
        part = layout.parts.get(bit)
        if part is None:
            continue
        gpu = 1 << part.gpu
        if part.kind is PartKind.WHOLE:
            wholes |= gpu
        elif part.kind is PartKind.PARTITION:
            geometry = layout.gpus.gpus[part.gpu].mig
            profile = geometry.index(part.profile) if geometry is not None and geometry.placeable else NONE
            units.append((PartitionRequest(profile=part.profile), gpu, profile, part.start))
        else:
            compute, memory = share_amounts(item.takes.get(bit, {}))
            if compute or memory:
                share = ShareRequest(compute_milli=compute, memory_mib=memory, sharing=part.sharing)
                units.append((share, gpu, NONE, NONE))
    if wholes:
        count = wholes.bit_count()
        link = item.sub.link if count > 1 else LinkWish.PREFER
        least = item.sub.min_gbps if link is LinkWish.REQUIRE else 0
        units.append((WholeRequest(count=count, link=link, min_gbps=least), wholes, NONE, NONE))
    return units


def slices_of(layout: Layout, bits: Iterable[int]) -> int:
    """Return the memory slices of the partitions among these devices.

    Of partitions that will do, every policy takes the smallest (`packing.kernels.prefer`); a score does not say so.
    """
    total = 0
    for bit in bits:
        part = layout.parts.get(bit)
        if part is not None and part.kind is PartKind.PARTITION:
            geometry = layout.gpus.gpus[part.gpu].mig
            total += geometry.profile(part.profile).size if geometry is not None and geometry.placeable else 0
    return total


class Judge:
    """Scores devices of one node for one ask."""

    def __init__(self, ledger: Ledger, policy: Policy, ask: Ask) -> None:
        """Judge by `policy` beside what the ledger holds."""
        self._ledger = ledger
        self._policy = policy
        self._ask = ask

    def solutions(self, items: Sequence[Item], choices: Sequence[tuple[int, Solution]]) -> list[int]:
        """Return the score of each (node, devices per request); `LEAST` where the core would not give them."""
        inventory = self._ledger.inventory
        units = [
            [
                unit
                for item, bits in zip(items, solution, strict=True)
                for unit in units_of(inventory.layout(node), item, bits)
            ]
            for node, solution in choices
        ]
        nodes = [node for node, _ in choices]
        return [max(score, LEAST) for score in self._scores(nodes, units)]

    def plan(self, node: int, item: Item) -> Plan:
        """Return the options of a request in the order of the policy, ties as listed; small partitions come first.

        Of several whole GPUs, an option is the whole set; where links are required, sets without them are left out.
        """
        layout = self._ledger.inventory.layout(node)
        sets = is_set(layout, item)
        options: list[Option] = (
            list(combinations(bits_of(item.candidates), item.count))
            if sets
            else [(bit,) for bit in bits_of(item.candidates)]
        )
        scores = self._scores([node] * len(options), [units_of(layout, item, option) for option in options])
        required = sets and item.sub.link is LinkWish.REQUIRE
        kept = [at for at, score in enumerate(scores) if score > UNFIT or not required]
        kept.sort(key=lambda at: (slices_of(layout, options[at]), -scores[at]))
        return Plan([options[at] for at in kept], sets=sets)

    def _scores(self, nodes: Sequence[int], units: Sequence[Sequence[Unit]]) -> list[int]:
        usage = self._ledger.usage
        held = []
        for node, some in zip(nodes, units, strict=True):
            # The core knows pods of so many units; what a pod of more gets beyond them is not judged.
            judged = some[:MAX_REQUESTS_PER_POD]
            demand = Demand(
                cpu_milli=self._ask.cpu_milli,
                memory_mib=self._ask.memory_mib,
                requests=tuple(request for request, _, _, _ in judged),
            )
            held.append(
                Held(
                    usage.classes.index(demand),
                    node,
                    tuple(gpus for _, gpus, _, _ in judged),
                    tuple(profile for _, _, profile, _ in judged),
                    tuple(start for _, _, _, start in judged),
                )
            )
        scores: list[int] = judge(usage.fabric, usage, self._policy, held).tolist()
        return scores


def nodes_alike(inventory: Inventory, ledger: Ledger, node: int) -> tuple[object, ...]:
    """Return what of a node the core looks at, but for its place in the order of ties."""
    arrays, usage = inventory.fabric.arrays, ledger.usage.arrays
    first, last = int(arrays.gpu_start[node]), int(arrays.gpu_start[node + 1])
    size = tuple(arrays.node_size[node].tolist())
    return int(inventory.layout_at[node]), size, usage.nodes[node].tobytes(), usage.gpus[first:last].tobytes()
