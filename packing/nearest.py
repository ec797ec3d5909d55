"""The nearest fit: the smallest single change that would make a demand fit, proved by `place()` with that change made.

A change costs what somebody loses by it, compared in this order: thousandths of GPUs, millicores, MiB, the order of
`Kind`. The pod loses what it no longer asks for, a freed claim what it holds; a mended or added GPU counts as one to be
found. A weaker link wish, the other way of sharing and MIG mode of an idle node take nothing from anybody.

Of every kind the cheapest change that works is found; asking less is monotone for most, so it is found by bisection. At
most `max_tries` placements and `MAX_NODES` changed nodes are tried; `Nearest.bounded` says when candidates were left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from packing.asks import Kind, Ladder, Step, ladders
from packing.explain import cores, explain
from packing.fabric import Fabric
from packing.kernels import explain as codes
from packing.kernels.arrays import CPU, MEMORY
from packing.mix import DemandMix
from packing.model import WHOLE_MILLI, ClaimId, Demand, MigMode, Node, NodeName, Placement, WholeRequest
from packing.place import place
from packing.policy import Policy, make_policy
from packing.trial import alone, own_copy
from packing.usage import Usage
from topology.errors import InvalidInputError

MAX_TRIES = 4_000
MAX_NODES = 100
NEW_NODE = NodeName("new-node")
ORDER = tuple(Kind)
NO_MIX = DemandMix(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change, what it costs, the demand it is for and where that would then go."""

    kind: Kind
    text: str
    gpu_milli: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    demand: Demand
    placement: Placement

    @property
    def rank(self) -> tuple[int, int, int, int, str]:
        """Order of changes, nearest first."""
        return self.gpu_milli, self.cpu_milli, self.memory_mib, ORDER.index(self.kind), self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The cheapest change of every kind that helps, nearest first; empty where no single change does."""

    changes: tuple[Change, ...]
    tries: int
    bounded: bool

    @property
    def change(self) -> Change | None:
        """The nearest fit."""
        return self.changes[0] if self.changes else None


def nearest_fit(
    fabric: Fabric,
    usage: Usage,
    demand: Demand,
    policy: Policy,
    *,
    mix: DemandMix = NO_MIX,
    keep: Collection[ClaimId] = (),
    max_tries: int = MAX_TRIES,
) -> Nearest:
    """Return the single changes that would make `demand` fit. `usage` is left as it is.

    `mix` is what `policy` knows of the demand, used where a changed node needs a policy of its own. The claims to
    `keep` are never freed.
    """
    search = _Search(fabric, own_copy(usage), demand, policy, mix, keep, max_tries)
    best: dict[Kind, Change] = {}
    for change in search.changes():
        known = best.get(change.kind)
        if known is None or change.rank < known.rank:
            best[change.kind] = change
    return Nearest(
        changes=tuple(sorted(best.values(), key=lambda change: change.rank)),
        tries=search.tries,
        bounded=search.bounded,
    )


class _Search:
    """One question: its candidates, and how many were tried. Works on a usage of its own."""

    def __init__(
        self,
        fabric: Fabric,
        usage: Usage,
        demand: Demand,
        policy: Policy,
        mix: DemandMix,
        keep: Collection[ClaimId],
        max_tries: int,
    ) -> None:
        self.fabric, self.usage, self.demand, self.policy, self.mix = fabric, usage, demand, policy, mix
        self.keep = frozenset(keep)
        self.max_tries = max_tries
        self.tries = 0
        self.nodes_tried = 0
        self.bounded = False
        self._rows: list[list[int]] = explain(fabric, usage, demand, policy).rows.tolist()
        self._codes = [row[0] for row in self._rows]
        self._hosted: dict[int, list[ClaimId]] = defaultdict(list)
        for claim, held in sorted(usage.claims.items()):
            self._hosted[held.node].append(claim)

    def changes(self) -> Iterator[Change]:
        """Yield changes that work: of every kind the cheapest, perhaps others."""
        for ladder in ladders(self.fabric, self.usage, self.demand):
            yield from self._first_step(ladder)
        yield from self._mig_mode()
        yield from self._add_node()
        # Last what can be many: broken GPUs and claims. The bounds then hide no other kind.
        yield from self._mend()
        yield from self._free()

    def _first_step(self, ladder: Ladder) -> Iterator[Change]:
        """Yield the nearest step that fits."""
        steps = ladder.steps
        low, high = 0, len(steps)
        best: Change | None = None
        while low < high:
            middle = (low + high) // 2 if ladder.monotone else low
            placement = self._placed(steps[middle].demand)
            if placement is None:
                low = middle + 1
            else:
                best, high = _asking(steps[middle], placement), middle
        if best is not None:
            yield best

    def _placed(self, demand: Demand) -> Placement | None:
        """Place a demand on the cluster as it is now."""
        if self.tries >= self.max_tries:
            self.bounded = True
            return None
        self.tries += 1
        return place(self.fabric, self.usage, demand, self.policy).placement

    def _placed_on(self, node: Node, at: int | None) -> Placement | None:
        """Place the demand on a changed node with the claims of node number `at`; every other node refuses it."""
        if self.nodes_tried >= MAX_NODES:
            self.bounded = True
            return None
        self.nodes_tried += 1
        self.tries += 1
        try:
            fabric, usage = alone(self.usage, node, self._hosted[at] if at is not None else [])
        except InvalidInputError:
            return None
        policy = make_policy(self.policy.name, self.mix, fabric, seed=self.policy.arrays.seed)
        return place(fabric, usage, self.demand, policy).placement

    def _mig_mode(self) -> Iterator[Change]:
        """Switch MIG mode of one idle node: the first of every group of like nodes."""
        flips = {codes.MIG_ON: MigMode.DISABLED, codes.MIG_OFF: MigMode.ENABLED}
        seen = set()
        for n, node in enumerate(self.fabric.nodes):
            mode = flips.get(self._codes[n])
            alike = (id(node.shape), node.cpu_milli, node.memory_mib, node.mig_mode, node.unhealthy)
            if mode is None or self._hosted.get(n) or alike in seen:
                continue
            seen.add(alike)
            placement = self._placed_on(replace(node, mig_mode=mode), None)
            if placement is not None:
                text = f"turn {'on' if mode is MigMode.ENABLED else 'off'} MIG mode of idle node {node.name}"
                yield Change(kind=Kind.MIG_MODE, text=text, demand=self.demand, placement=placement)
                return

    def _mend(self) -> Iterator[Change]:
        """Mend one unhealthy GPU of a node that nothing static rules out: the first that helps."""
        for n, node in enumerate(self.fabric.nodes):
            if not node.unhealthy or not self._one_gpu_may_help(n):
                continue
            for gpu in sorted(node.unhealthy):
                placement = self._placed_on(replace(node, unhealthy=node.unhealthy - {gpu}), n)
                if placement is not None:
                    text = f"mend GPU {gpu} of {node.name}"
                    yield Change(
                        kind=Kind.MEND, text=text, gpu_milli=WHOLE_MILLI, demand=self.demand, placement=placement
                    )
                    return

    def _one_gpu_may_help(self, n: int) -> bool:
        """Whether one more healthy GPU could change the verdict on a node: it adds one to the GPUs that are free."""
        code, unit, detail = self._rows[n]
        if code in (codes.UNHEALTHY, codes.BUSY):
            request = self.demand.requests[unit]
            return not isinstance(request, WholeRequest) or detail + 1 >= request.count
        return code > codes.NO_MEMORY

    def _add_node(self) -> Iterator[Change]:
        """Add one healthy node like an existing one: the one with the fewest GPUs, cores and MiB that helps."""
        alike = {(id(n.shape), n.cpu_milli, n.memory_mib, n.mig_mode): n for n in reversed(self.fabric.nodes)}
        sizes = sorted(alike.values(), key=lambda n: (len(n.shape.gpus), n.cpu_milli, n.memory_mib, n.name))
        for node in sizes:
            placement = self._placed_on(replace(node, name=NEW_NODE, unhealthy=frozenset()), None)
            if placement is not None:
                gpu_milli = WHOLE_MILLI * len(node.shape.gpus)
                yield Change(
                    kind=Kind.ADD_NODE,
                    text=f"add a node like {node.name} ({_amount(gpu_milli, node.cpu_milli)})",
                    gpu_milli=gpu_milli,
                    cpu_milli=node.cpu_milli,
                    memory_mib=node.memory_mib,
                    demand=self.demand,
                    placement=placement,
                )
                return

    def _free(self) -> Iterator[Change]:
        """Free one claim on a node that only lacks room: the one holding least that helps."""
        held = []
        for n, claims in self._hosted.items():
            if self._codes[n] >= codes.NO_CPU:
                held += [(*self._holds(claim), claim) for claim in claims if claim not in self.keep]
        for gpu_milli, cpu_milli, memory_mib, claim in sorted(held):
            if self.tries >= self.max_tries:
                self.bounded = True
                return
            node = self.fabric.nodes[self.usage.claims[claim].node].name
            mark = self.usage.checkpoint()
            self.usage.release(claim)
            placement = self._placed(self.demand)
            self.usage.rollback(mark)
            if placement is not None:
                yield Change(
                    kind=Kind.FREE,
                    text=f"free claim {claim} on {node} ({_amount(gpu_milli, cpu_milli)})",
                    gpu_milli=gpu_milli,
                    cpu_milli=cpu_milli,
                    memory_mib=memory_mib,
                    demand=self.demand,
                    placement=placement,
                )
                return

    def _holds(self, claim: ClaimId) -> tuple[int, int, int]:
        """Return what a claim holds: thousandths of GPUs, millicores, MiB."""
        pod = self.usage.classes.arrays.pods[self.usage.claims[claim].demand_class]
        return self.usage.taken_milli(claim), int(pod[CPU]), int(pod[MEMORY])


def _amount(gpu_milli: int, cpu_milli: int) -> str:
    """Say how much a claim or a node is: its GPUs, or its cores where it has none."""
    if not gpu_milli:
        return cores(cpu_milli)
    return f"{gpu_milli / WHOLE_MILLI:g} {'GPU' if gpu_milli <= WHOLE_MILLI else 'GPUs'}"


def _asking(step: Step, placement: Placement) -> Change:
    """Return the change that asks for less."""
    return Change(
        kind=step.kind,
        text=step.text,
        gpu_milli=step.gpu_milli,
        cpu_milli=step.cpu_milli,
        memory_mib=step.memory_mib,
        demand=step.demand,
        placement=placement,
    )
