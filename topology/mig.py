"""MIG geometry: which partitions a product can be cut into, and where each may start.

A placement is an interval of *memory* slices. The intervals of one GPU never overlap, and that alone implies the limits
on compute slices and engines for profiles without attributes. What intervals cannot say (one JPEG engine makes `+me`
unique; on A30 it also sets 1g+me against 2g+me) is kept as exclusive bits. What is taken of a GPU = (slice mask,
exclusive bits).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from topology.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class MigEngines:
    """Engines of an instance, as NVML's GPU instance profile counts them."""

    copy: int = 0
    decoder: int = 0
    encoder: int = 0
    jpeg: int = 0
    ofa: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProfile:
    """A kind of partition. `nvml_enum` is what NVML is asked for; `profile_id` is what nvidia-smi shows.

    `memory_mib`, `sm_count` and `engines` are None where unpublished; claims are compared with them, not with the label
    in `name`.
    `takes` are the exclusive bits an instance sets, `blocked_by` those which must be clear before.
    """

    name: str
    alternate_names: tuple[str, ...] = ()
    nvml_enum: int | None = None
    profile_id: int | None = None
    compute_slices: int
    starts: tuple[int, ...] = ()
    size: int = 0
    max_instances: int = 1
    sm_count: int | None = None
    memory_mib: int | None = None
    engines: MigEngines | None = None
    attributes: tuple[str, ...] = ()
    inferred_fields: tuple[str, ...] = ()
    takes: int = 0
    blocked_by: int = 0


@dataclass(frozen=True, slots=True)
class Occupation:
    """What is taken of one GPU: a bit per memory slice, and the exclusive bits of its profiles."""

    slices: int = 0
    exclusive: int = 0


EMPTY = Occupation()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigGeometry:
    """The profiles of one family of products. `memory_slices` is the placement grid, 0 where unpublished."""

    id: str
    title: str = ""
    products: tuple[str, ...]
    architecture: str = ""
    memory_slices: int = 0
    compute_slices: int = 0
    profiles: tuple[MigProfile, ...]

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def placeable(self) -> bool:
        """Whether the placements are known; without them the profiles are names only."""
        return self.memory_slices > 0

    def index(self, name: str) -> int:
        """Position of the profile called `name`; InvalidInputError where there is none or placements are unknown."""
        self.require_placements()
        for at, profile in enumerate(self.profiles):
            if self.is_called(profile, name):
                return at
        known = ", ".join(profile.name for profile in self.profiles)
        raise InvalidInputError(f"MIG geometry {self.id}", "profile", f"has no {name!r}; known: {known}")

    @staticmethod
    def is_called(profile: MigProfile, name: str) -> bool:
        """Whether `name` means `profile`: its name, an older one, or `.me` for `+me` as in resource names."""
        wanted = name.strip().replace(".me", "+me") if "+" not in name else name.strip()
        return wanted == profile.name or wanted in profile.alternate_names

    def profile(self, name: str) -> MigProfile:
        """Return the profile called `name` (also by an older name, or `.me` for `+me` as in resource names)."""
        return self.profiles[self.index(name)]

    def by_enum(self, nvml_enum: int) -> MigProfile:
        """Return the profile NVML knows as `nvml_enum`: names and ids collide or change between products."""
        self.require_placements()
        for profile in self.profiles:
            if profile.nvml_enum == nvml_enum:
                return profile
        raise InvalidInputError(f"MIG geometry {self.id}", "nvml_enum", f"has no profile {nvml_enum}")

    def require_placements(self) -> None:
        """Raise InvalidInputError where NVIDIA's placements of this product are not known."""
        if not self.placeable:
            raise InvalidInputError(
                f"MIG geometry {self.id}", "placements", "were never published; nothing can be placed on this product"
            )


def interval(profile: MigProfile, start: int) -> int:
    """Return the slice mask of `profile` placed at `start`."""
    return ((1 << profile.size) - 1) << start


def side_by_side(starts: Iterable[int], size: int) -> int:
    """How many instances fit beside each other by their placements alone."""
    end = count = 0
    # Earliest end first is optimal for equal sizes.
    for start in sorted(starts):
        if start >= end:
            end, count = start + size, count + 1
    return count


def legal(geometry: MigGeometry, occupied: Occupation, profile: MigProfile, start: int) -> bool:
    """Whether an instance of `profile` may be created at memory slice `start` beside what is there."""
    geometry.require_placements()
    return (
        start in profile.starts
        and not interval(profile, start) & occupied.slices
        and not profile.blocked_by & occupied.exclusive
    )


def place(geometry: MigGeometry, occupied: Occupation, profile: MigProfile, start: int) -> Occupation:
    """`occupied` with an instance added; InvalidInputError where it would not be `legal`."""
    if not legal(geometry, occupied, profile, start):
        if start not in profile.starts:
            problem = f"cannot start at {start}; starts: {', '.join(map(str, profile.starts))}"
        elif interval(profile, start) & occupied.slices:
            problem = f"at {start} overlaps slices that are taken"
        else:
            problem = f"at {start}: its engines are taken, another instance that needs them exists"
        raise InvalidInputError(f"MIG geometry {geometry.id}", profile.name, problem)
    return Occupation(occupied.slices | interval(profile, start), occupied.exclusive | profile.takes)


def occupation(geometry: MigGeometry, instances: Iterable[tuple[str, int]]) -> Occupation:
    """Return the occupation by `instances` (profile name, start); InvalidInputError where they cannot coexist."""
    occupied = EMPTY
    for name, start in instances:
        occupied = place(geometry, occupied, geometry.profile(name), start)
    return occupied


def placements(
    geometry: MigGeometry, profiles: Iterable[MigProfile] | None = None
) -> tuple[tuple[MigProfile, int], ...]:
    """Every (profile, start) of the geometry, or of some of its profiles."""
    geometry.require_placements()
    chosen = geometry.profiles if profiles is None else tuple(profiles)
    return tuple((profile, start) for profile in chosen for start in profile.starts)


def configurations(
    geometry: MigGeometry, profiles: Iterable[MigProfile] | None = None
) -> Iterator[tuple[tuple[MigProfile, int], ...]]:
    """Every legal set of instances, the empty one first, each exactly once."""
    return _extend(geometry, placements(geometry, profiles), EMPTY, ())


def maximal_configurations(
    geometry: MigGeometry, profiles: Iterable[MigProfile] | None = None
) -> tuple[frozenset[tuple[str, int]], ...]:
    """Return the legal sets of (profile name, start) to which no instance of `profiles` (default all) can be added."""
    options = placements(geometry, profiles)
    found = []
    for instances in _extend(geometry, options, EMPTY, ()):
        occupied = EMPTY
        for profile, start in instances:
            occupied = place(geometry, occupied, profile, start)
        if not any(legal(geometry, occupied, *option) for option in options):
            found.append(frozenset((profile.name, start) for profile, start in instances))
    return tuple(found)


def _extend(
    geometry: MigGeometry,
    options: tuple[tuple[MigProfile, int], ...],
    occupied: Occupation,
    chosen: tuple[tuple[MigProfile, int], ...],
) -> Iterator[tuple[tuple[MigProfile, int], ...]]:
    yield chosen
    for at, (profile, start) in enumerate(options):
        if legal(geometry, occupied, profile, start):
            after = place(geometry, occupied, profile, start)
            yield from _extend(geometry, options[at + 1 :], after, (*chosen, (profile, start)))
