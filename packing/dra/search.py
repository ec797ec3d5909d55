"""Complete search for devices on one node: if any allocation exists there, one is found.

Depth first, one device after the other, bounded in steps, not in time, so that every machine answers alike. Hitting the
bound is reported, never passed off as "does not fit". Two ways to go through the same options:
* `exists`: most constrained request first, and of devices that can stand for each other only the first;
* `preferred`: options in the order of a policy, GPUs first; every allocation it yields differs in its GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packing.dra.model import MAX_RESULTS, ClaimAsk
from packing.dra.problem import Item, Node, constraints_of
from packing.dra.sums import may_exist
from packing.dra.symmetry import Blocks, blocks_of
from packing.dra.taking import Taking
from packing.dra.translate import bits_of

MAX_STEPS = 20_000
"""Devices tried for one combination on one node before a search gives up."""
PREFERRED_STEPS = 2_000
"""The same where one allocation is known already and better ones are looked for."""
PREFERRED_ALLOCATIONS = 32
DECISION_STEPS = 300_000
"""Both again, for one whole decision, over all of its nodes and combinations."""
MAX_DEVICES = 256
"""Devices of one pod; a search for more is not begun."""

Option = tuple[int, ...]
"""Devices that are taken together: one, or a whole set."""
Solution = tuple[tuple[int, ...], ...]
"""Per request, in the order of the items, its devices by bit."""


class BoundHitError(Exception):
    """The steps are used up."""


class Steps:
    """What may still be tried, and is counted: of a part, what the whole has left besides."""

    __slots__ = ("_of", "left")

    def __init__(self, left: int, of: Steps | None = None) -> None:
        """Allow `left` steps, and no more than `of` has left."""
        self.left = left
        self._of = of

    def spend(self, steps: int = 1) -> None:
        """Count steps. Raises BoundHitError where so many are not left; then none are."""
        if self.left < steps:
            self.left = 0
            raise BoundHitError
        self.left -= steps
        if self._of is not None:
            self._of.spend(steps)


class Effort:
    """The steps of one decision: to find devices at all, and to find better ones."""

    __slots__ = ("better", "find")

    def __init__(self, steps: int = DECISION_STEPS) -> None:
        """Allow `steps` for each of the two."""
        self.find = Steps(steps)
        self.better = Steps(steps)


@dataclass(slots=True)
class Plan:
    """How a request is gone through: its options in order; `sets` where one option is all of its devices."""

    options: list[Option]
    sets: bool = False


class Search:
    """One search on one node. `order` are the requests as they are served, `plans` their options by request."""

    def __init__(
        self,
        node: Node,
        claims: Sequence[ClaimAsk],
        items: Sequence[Item],
        plans: Sequence[Plan],
        order: Sequence[int],
        *,
        steps: Steps,
        blocks: Blocks | None = None,
        choosing: int | None = None,
    ) -> None:
        """With `blocks`, of alike blocks only the first not yet touched is tried.

        The first `choosing` requests of `order` are varied; for the others the first way is enough.
        """
        self._items = items
        self._plans = plans
        self._order = order
        self._steps = steps
        self._blocks = blocks
        self._choosing = len(order) if choosing is None else choosing
        self._taking = Taking(node, claims, items)
        self._touched: list[int] = [0] * (len(blocks.like) if blocks else 0)
        self._chosen: list[list[int]] = [[] for _ in items]
        self._covered = [tuple(at for _, at, _ in constraints_of(claims, item)) for item in items]
        self._first: list[int] = [0] * len(items)

    def solutions(self) -> Iterator[Solution]:
        """Yield allocations. Raises BoundHitError."""
        return self._serve(0)

    def _serve(self, depth: int) -> Iterator[Solution]:
        """Serve the requests from `depth` on."""
        if depth == len(self._order):
            yield tuple(tuple(chosen) for chosen in self._chosen)
            return
        if not self._enough(depth):
            return
        i = self._order[depth]
        start = self._first[self._order[depth - 1]] if depth and self._repeats(depth) else 0
        for solution in self._choose(depth, i, self._items[i].count, start):
            yield solution
            if depth >= self._choosing:
                return

    def _choose(self, depth: int, i: int, missing: int, start: int) -> Iterator[Solution]:
        """Give request `i` the devices it still misses, from option `start` on."""
        if missing == 0:
            yield from self._serve(depth + 1)
            return
        plan = self._plans[i]
        last = len(plan.options) - (1 if plan.sets else missing)
        for at in range(start, last + 1):
            option = plan.options[at]
            if not self._take(i, option):
                continue
            if missing == self._items[i].count:
                self._first[i] = at
            yield from self._choose(depth, i, 0 if plan.sets else missing - 1, at + 1)
            self._give_back(i, option)

    def _take(self, i: int, option: Option) -> bool:
        """Take all devices of an option, or none."""
        self._steps.spend()
        for done, bit in enumerate(option):
            if self._is_repetition(bit) or not self._taking.take(i, bit):
                for before in reversed(option[:done]):
                    self._taking.give_back(i, before)
                    self._touch(before, -1)
                return False
            self._touch(bit, 1)
        self._chosen[i].extend(option)
        return True

    def _give_back(self, i: int, option: Option) -> None:
        for bit in reversed(option):
            self._chosen[i].pop()
            self._taking.give_back(i, bit)
            self._touch(bit, -1)

    def _touch(self, bit: int, sign: int) -> None:
        if self._blocks is not None:
            self._touched[self._blocks.of[bit]] += sign

    def _is_repetition(self, bit: int) -> bool:
        """Whether a block alike, none of whose devices is taken yet, would do as well and comes first."""
        if self._blocks is None:
            return False
        block = self._blocks.of[bit]
        if self._touched[block]:
            return False
        return next(other for other in self._blocks.like[block] if not self._touched[other]) != block

    def _repeats(self, depth: int) -> bool:
        """Whether a request is the same as the one before it, so that the two need be tried in one order only."""
        one, other = self._order[depth - 1], self._order[depth]
        return (
            self._blocks is not None
            and self._covered[one] == self._covered[other]
            and interchangeable(self._items[one], self._items[other])
        )

    def _enough(self, depth: int) -> bool:
        """Whether enough devices are left for the requests from `depth` on, each alone and all together."""
        together = needed = 0
        for i in self._order[depth:]:
            item = self._items[i]
            if item.takes:
                continue
            taking = self._taking
            free = item.candidates & ~taking.in_claim[item.claim]
            if not item.sub.admin:
                free &= ~taking.used
                together |= free
                needed += item.count
            if free.bit_count() < item.count:
                return False
        return together.bit_count() >= needed


def interchangeable(one: Item, other: Item) -> bool:
    """Whether two requests ask for the same, so that they may exchange their devices."""
    return (
        one.claim == other.claim
        and one.candidates == other.candidates
        and one.count == other.count
        and one.every == other.every
        and one.takes == other.takes
        and one.sub.admin == other.sub.admin
        and (one.sub.link, one.sub.min_gbps) == (other.sub.link, other.sub.min_gbps)
    )


def exists(
    node: Node,
    claims: Sequence[ClaimAsk],
    items: Sequence[Item],
    sets: dict[int, list[Option]],
    steps: Steps | None = None,
) -> Solution | None:
    """Return some allocation, None where there is none. Raises BoundHitError.

    `sets` has the sets that may serve a request for linked GPUs, by request. `steps` is what a decision has left.
    """
    if any(item.count > item.candidates.bit_count() or (item.every and not item.count) for item in items):
        return None
    sizes = [sum(item.count for item in items if item.claim == claim) for claim in range(len(claims))]
    if max(sizes, default=0) > MAX_RESULTS:
        return None
    if sum(sizes) > MAX_DEVICES:
        raise BoundHitError
    if not may_exist(node, claims, items):
        return None
    blocks = blocks_of(node, claims, items)
    plans = [
        Plan(sets[i], sets=True) if i in sets else Plan([(bit,) for bit in sorted(bits, key=blocks.order.__getitem__)])
        for i, bits in enumerate(bits_of(item.candidates) for item in items)
    ]
    order = sorted(range(len(items)), key=lambda i: (*_slack(items[i]), i))
    search = Search(node, claims, items, plans, order, steps=Steps(MAX_STEPS, steps), blocks=blocks)
    return next(search.solutions(), None)


def _slack(item: Item) -> tuple[bool, int]:
    """Order requests by how little choice they leave."""
    return not item.every, item.candidates.bit_count() - item.count


def preferred(
    node: Node,
    claims: Sequence[ClaimAsk],
    items: Sequence[Item],
    plans: Sequence[Plan],
    choosing: Sequence[int],
    steps: Steps | None = None,
) -> list[Solution]:
    """Return allocations that differ in what the `choosing` requests get, in the order of their options.

    Bounded: none within the bounds does not mean that there is none.
    """
    rest = sorted((i for i in range(len(items)) if i not in choosing), key=lambda i: (*_slack(items[i]), i))
    search = Search(
        node,
        claims,
        items,
        plans,
        [*choosing, *rest],
        steps=Steps(PREFERRED_STEPS, steps),
        choosing=len(choosing),
    )
    found: list[Solution] = []
    try:
        for solution in search.solutions():
            found.append(solution)
            if len(found) == PREFERRED_ALLOCATIONS:
                break
    except BoundHitError:
        pass
    return found
