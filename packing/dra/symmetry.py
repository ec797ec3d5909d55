"""Devices that can stand for each other in a search, in groups: one of many equal options is enough.

A *block* is the devices that share counters (a GPU, its partitions and shares), or one device without any. Two blocks
are alike where, position by position, their devices serve the same requests, consume the same of counters that are
equally full, and have the same values for the constraints. Exchanging the two changes nothing that the search looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packing.dra.model import ClaimAsk
from packing.dra.problem import Item, Node
from packing.dra.translate import bits_of
from packing.model import LinkWish


@dataclass(frozen=True, slots=True)
class Blocks:
    """`of` maps a device to its block, `like` a block to those alike, itself included; `order` sorts devices."""

    of: dict[int, int]
    like: list[list[int]]
    order: dict[int, int]


def blocks_of(node: Node, claims: Sequence[ClaimAsk], items: Sequence[Item]) -> Blocks:
    """Return the blocks of all candidates.

    Devices are ordered by their position within the block, then by block: of all allocations that exchanges of alike
    blocks make of one, the first in this order takes a block only after those alike before it. A search that keeps to
    that rule misses nothing.
    """
    blocks = _members(node, items)
    attributes = sorted({constraint.attribute for claim in claims for constraint in claim.constraints})
    linked = any(item.sub.link is LinkWish.REQUIRE for item in items)
    alike: dict[object, list[int]] = {}
    like: list[list[int]] = []
    of: dict[int, int] = {}
    rank: list[tuple[int, int, int]] = []
    for block, bits in enumerate(blocks):
        group = alike.setdefault(_signature(node, items, attributes, bits, linked=linked), [])
        group.append(block)
        like.append(group)
        for position, bit in enumerate(bits):
            of[bit] = block
            rank.append((position, block, bit))
    return Blocks(of, like, {bit: at for at, (_, _, bit) in enumerate(sorted(rank))})


def _members(node: Node, items: Sequence[Item]) -> list[list[int]]:
    """Return the candidates, those that share a counter together."""
    candidates = 0
    for item in items:
        candidates |= item.candidates
    root: dict[int, int] = {}

    def find(counter: int) -> int:
        while root.setdefault(counter, counter) != counter:
            counter = root[counter]
        return counter

    uses = {bit: node.uses(bit) for bit in bits_of(candidates)}
    for used in uses.values():
        for counter, _ in used[1:]:
            root[find(counter)] = find(used[0][0])
    blocks: dict[tuple[str, int], list[int]] = {}
    for bit, used in uses.items():
        key = ("counter", find(used[0][0])) if used else ("device", bit)
        blocks.setdefault(key, []).append(bit)
    return list(blocks.values())


def _signature(
    node: Node, items: Sequence[Item], attributes: Sequence[str], bits: Sequence[int], *, linked: bool
) -> object:
    numbers: dict[int, int] = {}
    devices = []
    for bit in bits:
        serves = tuple(i for i, item in enumerate(items) if item.candidates >> bit & 1)
        takes = tuple(tuple(sorted(items[i].takes[bit].items())) for i in serves if bit in items[i].takes)
        uses = tuple((numbers.setdefault(counter, len(numbers)), amount) for counter, amount in node.uses(bit))
        values = tuple(node.attribute(bit, name) for name in attributes)
        device = node.layout.devices[bit]
        room: tuple[tuple[str, int], ...] = ()
        if device.multiple:
            held = node.consumed.get(bit, {})
            room = tuple(
                sorted((name, capacity.value - held.get(name, 0)) for name, capacity in device.capacity.items())
            )
        gpu = device.part if linked else None
        devices.append((serves, takes, uses, values, device.multiple, node.shared >> bit & 1, room, gpu))
    return tuple(devices), tuple(node.left[counter] for counter in numbers)
