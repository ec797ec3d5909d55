"""Which writes make the stored slices of a pool the wanted ones, in which order. Pure.

A consumer uses the slices of the newest generation, when they are as many as each of them says; a change of several
slices has no transaction. So that whoever watches sees, after every single write, the old pool, the new one, or an
incomplete one, which is waited for, and never a mixture that could be allocated from:

* A change in attributes and taints alone is written slice by slice in the same generation: every mixture is a pool.
* So is a change of one slice, whatever it is, and the creation of slices that others deleted.
* Any other change raises the generation in all slices; what is too many goes last, since it does not count any more.

What is already as wanted is not written: no difference, no write; and a change that was cut short goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dra_driver.slices.compare import Json, TaintKey, plain, structure, times, with_times


@dataclass(frozen=True, slots=True)
class Create:
    """Create a slice."""

    manifest: Json


@dataclass(frozen=True, slots=True)
class Update:
    """Write a slice under the resourceVersion in it."""

    manifest: Json


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly this slice in this version."""

    manifest: Json


Write = Create | Update | Delete
NEVER: Mapping[TaintKey, str] = MappingProxyType({})


def changes(
    wanted: Sequence[Json],
    stored: Sequence[Json],
    owner: Json,
    *,
    least_generation: int = 1,
    since: Mapping[TaintKey, str] = NEVER,
) -> tuple[Write, ...]:
    """Return the writes that make `stored` into `wanted`, which is one whole pool; none where nothing differs.

    `stored` are all slices of this driver on this node; what `wanted` has no use for is deleted. `owner` is the
    reference to the node. Generations in `wanted` do not count; a generation never falls below `least_generation`, the
    last that was written. `since` are times of taints that were stored before: of a slice that was deleted meanwhile
    they hold too.
    """
    state = _State(wanted, stored, owner, since)
    if state.raises(least_generation):
        generation = max(state.newest + 1, least_generation)
        return (*map(Delete, state.in_the_way), *state.writes(generation), *map(Delete, state.too_many))
    generation = max(state.newest, least_generation)
    return (*map(Delete, (*state.in_the_way, *state.too_many)), *state.writes(generation))


class _State:
    """What there is of the wanted slices."""

    def __init__(
        self, wanted: Sequence[Json], stored: Sequence[Json], owner: Json, since: Mapping[TaintKey, str]
    ) -> None:
        self.owner = owner
        self.wanted = {one["metadata"]["name"]: one for one in wanted}
        identity = _identity(wanted[0])
        ours = [one for one in stored if _identity(one) == identity]
        # The pool of a slice cannot be changed, and a device must not be in two pools.
        self.in_the_way = [one for one in stored if _identity(one) != identity]
        self.too_many = [one for one in ours if one["metadata"]["name"] not in self.wanted]
        self.present = {name: one for one in ours if (name := one["metadata"]["name"]) in self.wanted}
        self.newest = max(map(_generation, ours), default=0)
        self.since = {**since, **times(one["spec"] for one in ours)}

    def raises(self, least_generation: int) -> bool:
        """Whether the generation must rise: a mixture of what is there and what is wanted would be wrong."""
        if not self.newest:
            return False
        if self.newest < least_generation:
            return True
        current = {name: one for name, one in self.present.items() if _generation(one) == self.newest}
        if not current:
            return True
        changed = [name for name, one in current.items() if self._differs_in_structure(name, one)]
        whole = len(current) == len(self.wanted) and not any(_generation(one) == self.newest for one in self.too_many)
        return len(changed) > (1 if whole else 0)

    def writes(self, generation: int) -> Iterable[Write]:
        """Yield creates and updates, in order of the slices."""
        for name, one in self.wanted.items():
            pool = one["spec"]["pool"] | {"generation": generation}
            spec = with_times(one["spec"] | {"pool": pool}, self.since)
            there = self.present.get(name)
            if there is None:
                yield Create(one | {"metadata": {"name": name, "ownerReferences": [self.owner]}, "spec": spec})
            elif not self._is_right(there, spec, generation):
                yield Update(one | {"metadata": self._metadata(there), "spec": spec})

    def _is_right(self, there: Json, spec: Json, generation: int) -> bool:
        return (
            _generation(there) == generation
            and plain(there["spec"]) == plain(spec)
            and self.owner in there["metadata"].get("ownerReferences", ())
        )

    def _differs_in_structure(self, name: str, there: Json) -> bool:
        return structure(there["spec"]) != structure(self.wanted[name]["spec"])

    def _metadata(self, there: Json) -> Json:
        """Keep labels and whatever else others have put there."""
        kept = {key: value for key, value in there["metadata"].items() if key != "managedFields"}
        return kept | {"ownerReferences": [self.owner]}


def _identity(one: Json) -> tuple[str, str, str]:
    spec = one["spec"]
    return spec["driver"], spec.get("nodeName") or "", spec["pool"]["name"]


def _generation(one: Json) -> int:
    generation = one["spec"]["pool"].get("generation") or 0
    assert isinstance(generation, int)
    return generation
