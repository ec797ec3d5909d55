"""The demand mix of a live cluster, learned from the pods that are there: the default policy weighs nodes by it.

What pods ask for is taken from what they were given: cores and memory of bound pods beside the GPUs of the claims that
are reserved for them. It is a picture of the API's state and not of what this process happened to see, so that a
restart learns the same. Work that stays long counts for more than work that comes and goes; who knows better, says so
with a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kube.allocated import given_to
from kube.books import Books
from kube.objects import ResourceClaim
from packing.dra.inventory import Inventory
from packing.dra.ledger import part_unit
from packing.dra.model import Given, GpuPart, PartKind
from packing.mix import DemandMix
from packing.model import MAX_REQUESTS_PER_POD, Demand, Request, WholeRequest
from topology.errors import InvalidInputError


class LearnedMix:
    """The mix in use: one that was given, or the last one learned.

    It is learned anew when there are twice or half as many pods as then: a mix changes slowly, and with it everything
    that was computed for it is lost.
    """

    def __init__(self, given: DemandMix | None) -> None:
        self._given = given
        self._learned: DemandMix | None = None
        self._from = 0

    def is_due(self, pods: int) -> bool:
        """Whether `pods` pods are worth a new look."""
        return self._given is None and not self._from <= 2 * pods <= 4 * self._from

    def of(self, books: Books, claims: Iterable[ResourceClaim], inventory: Inventory) -> DemandMix:
        """Return the mix, learned from bound pods and the claims reserved for them if that is due."""
        if self._given is not None:
            return self._given
        if self._learned is None or self.is_due(len(books.pods)):
            givens = _by_pod(claims)
            pods = ((use.cpu_milli, use.memory_mib, givens.get(pod, ())) for pod, use in books.pods.items())
            self._learned, self._from = learn(pods, inventory), len(books.pods)
        return self._learned


def _by_pod(claims: Iterable[ResourceClaim]) -> dict[str, tuple[Given, ...]]:
    """Return what pods were given; a claim that several share counts for the first."""
    found: dict[str, tuple[Given, ...]] = {}
    for claim in claims:
        user = next((each.uid for each in claim.status.reserved_for if each.resource == "pods"), "")
        if user:
            found[user] = found.get(user, ()) + given_to(claim)
    return found


def learn(pods: Iterable[tuple[int, int, tuple[Given, ...]]], inventory: Inventory) -> DemandMix:
    """Return the mix of `pods`: millicores, MiB and devices of each."""
    counts: Counter[Demand] = Counter()
    for cpu_milli, memory_mib, givens in pods:
        requests = tuple(_requests(givens, inventory))[:MAX_REQUESTS_PER_POD]
        counts[Demand(cpu_milli=cpu_milli, memory_mib=memory_mib, requests=requests)] += 1
    return DemandMix.from_demands(counts.items())


def _requests(givens: Iterable[Given], inventory: Inventory) -> Iterable[Request]:
    """Yield the GPUs of ours among some devices, as requests."""
    wholes: Counter[str] = Counter()
    for given in givens:
        part = None if given.admin else _part(given, inventory)
        if part is None:
            continue
        if part.kind is PartKind.WHOLE:
            wholes[given.request] += 1
            continue
        try:
            yield part_unit(part, given)[0]
        except InvalidInputError:
            continue
    yield from (WholeRequest(count=count) for count in wholes.values())


def _part(given: Given, inventory: Inventory) -> GpuPart | None:
    located = inventory.locate(given.device)
    return None if located is None else inventory.layout(located.node).parts.get(located.bit)
