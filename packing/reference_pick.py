"""Which devices of one node each policy gives to a request, by trying all. Slow truth for `packing.kernels`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from packing.mix import TypicalPod
from packing.model import Devices, LinkWish, PartitionRequest, Request, ShareRequest, WholeRequest
from packing.reference_frag import best_start, fragmentation, gradient_score, slice_loss
from packing.reference_links import links_of
from packing.reference_state import Gpu, NodeState
from topology.mig import MigProfile, interval

Pick = tuple[Devices, ...]
"""The devices of every request of a pod, in order."""

MAX_STEPS = 20_000
IN_ORDER = ("first-fit", "upstream")
EMPTIEST = ("worst-fit", "spread")
MASK_31 = (1 << 31) - 1


class Undecided(Exception):  # noqa: N818 - an outcome, not an error
    """The bounded search ended without an answer."""


def draw(seed: int, events: int, item: int) -> int:
    """Return the documented hash of (seed, changes so far, item): 31 bits."""
    x = (seed * 40503 + 12345) & MASK_31
    for word in (events & MASK_31, item):
        x = ((x ^ word) * 1664525 + 1013904223) & MASK_31
        x ^= x >> 15
        x = (x * 742938285) & MASK_31
        x ^= x >> 14
    return x


def simple(
    policy: str,
    state: NodeState,
    request: Request,
    before: NodeState,
    typical: Sequence[TypicalPod],
    chance: Callable[[int], int],
) -> Devices | None:
    """Return the devices a policy other than the default takes; `state` is the node with what the pod has so far.

    `before` is the node without the pod; `chance` gives the random number of a GPU.
    """
    if isinstance(request, WholeRequest):
        return next(state.options(request), None)
    if isinstance(request, PartitionRequest):
        return _simple_partition(policy, state, request, chance)
    fitting = [gpu for gpu in state.gpus if gpu.takes_share(request)]
    if not fitting:
        return None

    def badness(gpu: Gpu) -> int:
        if policy == "random":
            return chance(gpu.index)
        if policy == "fgd":
            return -_gradient(state, request, gpu, before, typical)
        if policy in IN_ORDER:
            return 0
        return -gpu.left_milli if policy in EMPTIEST else gpu.left_milli

    return state.devices(1 << min(fitting, key=badness).index)


def _gradient(
    state: NodeState, request: ShareRequest, gpu: Gpu, before: NodeState, typical: Sequence[TypicalPod]
) -> int:
    """FGD's score of giving a share to `gpu`: compute only, memory plays no part."""
    models = state.node.shape.gpus
    was = fragmentation(typical, models, before.cpu_milli, [other.left_milli for other in before.gpus])
    left = [other.left_milli - (request.compute_milli if other is gpu else 0) for other in state.gpus]
    return gradient_score(was, fragmentation(typical, models, state.cpu_milli, left))


def _simple_partition(
    policy: str, state: NodeState, request: PartitionRequest, chance: Callable[[int], int]
) -> Devices | None:
    """Smallest profile first, then the policy's rule for GPUs, then GPU and profile order."""
    options = list(_started(state, request, lowest=policy in (*IN_ORDER, *EMPTIEST, "random")))
    if not options:
        return None

    def badness(option: tuple[Gpu, MigProfile, int]) -> tuple[int, int]:
        gpu, profile, start = option
        assert gpu.geometry is not None
        taken = gpu.occupation.slices
        free = gpu.geometry.memory_slices - taken.bit_count()
        if policy == "random":
            key = chance(gpu.index)
        elif policy == "fgd":
            after = slice_loss(gpu.geometry, taken | interval(profile, start))
            key = after - slice_loss(gpu.geometry, taken)
        elif policy in IN_ORDER:
            key = 0
        else:
            key = -free if policy in EMPTIEST else free
        return profile.size, key

    gpu, profile, start = min(options, key=badness)
    return state.devices(1 << gpu.index, profile.name, start)


def _started(state: NodeState, request: PartitionRequest, *, lowest: bool) -> Iterator[tuple[Gpu, MigProfile, int]]:
    """Every (GPU, profile) that serves a partition, each with its lowest start or the one that strands least."""
    for gpu in state.gpus:
        starts: dict[str, int] = {}
        for profile, start in gpu.partitions(request):
            if profile.name not in starts:
                assert gpu.geometry is not None
                starts[profile.name] = start if lowest else best_start(gpu.geometry, profile, gpu.occupation.slices)
                yield gpu, profile, starts[profile.name]


def preferred(worth: Callable[[NodeState], int], state: NodeState, request: Request) -> Devices | None:
    """Return the devices the default policy takes: those that leave the node worth most, lowest GPU on ties.

    A partition is the smallest part of a GPU that will do.
    """
    if isinstance(request, WholeRequest):
        mask = _linked_set(state, request)
        return state.devices(mask) if mask else None
    if isinstance(request, ShareRequest):
        options = [state.devices(1 << gpu.index) for gpu in state.gpus if gpu.takes_share(request)]
    else:
        started = _started(state, request, lowest=False)
        options = [state.devices(1 << gpu.index, profile.name, start) for gpu, profile, start in started]
    return max(
        options,
        key=lambda devices: (-partition_cost(state, devices), worth(state.with_unit(request, devices))),
        default=None,
    )


def partition_cost(state: NodeState, devices: Devices) -> int:
    """Return the part of its GPU that a partition takes, in thousand-millionths; 0 for what is no partition."""
    geometry = state.gpus[devices.gpus[0]].geometry
    if not devices.profile or geometry is None:
        return 0
    return 10**9 * geometry.profile(devices.profile).size // geometry.memory_slices


def _linked_set(state: NodeState, request: WholeRequest) -> int:
    """Return the set that links and remainder ask for; under `require` the first that will do of best, fastest, all."""
    legal = state.wholes(request)
    usable = sum(1 << i for i in state.idle if request.selector.matches(state.gpus[i].model))
    take = links_of(state.node.shape.links).take
    if request.link is not LinkWish.REQUIRE:
        return int(take(usable, request.count, request.link))
    tried = (take(usable, request.count, wish) for wish in (LinkWish.PREFER, LinkWish.REQUIRE))
    return next((int(mask) for mask in tried if mask in legal), legal[0] if legal else 0)


def any_choice(state: NodeState, requests: Sequence[Request]) -> Pick | None:
    """Return the first allocation of all requests in order of options, None where there is none.

    Raises Undecided after `MAX_STEPS` steps; a step is one option, or the end of the options of one request.
    """
    levels: list[tuple[NodeState, Iterator[Devices]]] = [(state, state.options(requests[0]))]
    chosen: list[Devices] = []
    for _ in range(MAX_STEPS):
        here, options = levels[-1]
        devices = next(options, None)
        if devices is None:
            levels.pop()
            if not levels:
                return None
            chosen.pop()
            continue
        chosen.append(devices)
        if len(chosen) == len(requests):
            return tuple(chosen)
        after = here.with_unit(requests[len(chosen) - 1], devices)
        levels.append((after, after.options(requests[len(chosen)])))
    raise Undecided
