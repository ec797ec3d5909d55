"""Devices and claims of the Dynamic Resource Allocation API, resolved: names and amounts, no API objects, no CEL text.

`kube` decodes ResourceSlices and ResourceClaims into these values, `packing.dra` allocates on them. What many pools
have in common is a `PoolShape`, kept once; the rest of a `Pool` is what tells it apart.

Amounts are whole numbers of nano-units (10^-9), the resolution of a Kubernetes Quantity, so that sums are exact.
Source: resource.k8s.io/v1 types.go, KEP-4381, KEP-4815 (counters), KEP-5075 (consumable capacity), KEP-5055 (taints).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, NewType, Protocol

from packing.model import LinkWish, NodeName
from topology.modes import Sharing

Amount = NewType("Amount", int)
NANO = 10**9
"""Nano-units of one."""

ClaimUid = NewType("ClaimUid", str)
MAX_RESULTS = 32
"""Devices of one claim (AllocationResultsMaxSize)."""

NOTHING: Mapping[str, Amount] = MappingProxyType({})


class DeviceId(NamedTuple):
    """A device of the cluster."""

    driver: str
    pool: str
    name: str


class AttributeKind(StrEnum):
    """Type of an attribute's value; values of two types are never equal."""

    INT = "int"
    BOOL = "bool"
    STRING = "string"
    VERSION = "version"


@dataclass(frozen=True, slots=True)
class Attribute:
    """The value of an attribute: one, or a list of them (DRAListTypeAttributes)."""

    kind: AttributeKind
    values: tuple[int | bool | str, ...]
    is_list: bool = False


class Effect(StrEnum):
    """What a taint does to claims that do not tolerate it."""

    NONE = "None"
    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


class Taint(NamedTuple):
    """A taint of a device."""

    key: str
    value: str
    effect: Effect


class Toleration(NamedTuple):
    """A toleration of a request. An empty key with Exists tolerates every key, an empty effect every effect."""

    key: str
    exists: bool
    value: str
    effect: str
    seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """How amounts of a shared capacity are rounded: to one of `valid_values`, or up into a range; or left as asked."""

    default: Amount | None = None
    valid_values: tuple[Amount, ...] = ()
    minimum: Amount | None = None
    maximum: Amount | None = None
    step: Amount | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a device has of something."""

    value: Amount
    policy: RequestPolicy | None = None


class CounterUse(NamedTuple):
    """What a device takes of a counter of its pool while it is allocated."""

    counter_set: str
    counter: str
    amount: Amount


class PartKind(StrEnum):
    """What of a GPU a device is."""

    WHOLE = "whole"
    PARTITION = "partition"
    SHARE = "share"


class GpuPart(NamedTuple):
    """A device as the core sees it: GPU `gpu` of its node, and what of it. Profile and start of partitions alone."""

    gpu: int
    kind: PartKind
    profile: str = ""
    start: int = -1
    sharing: Sharing = Sharing.TIME_SLICING


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceShape:
    """What a device has in common with its like in other pools.

    Names of attributes are qualified by a domain; those of capacities are as published, since the API compares them as
    they are spelled, in requests and in `consumedCapacity`.
    """

    name: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    capacity: Mapping[str, Capacity] = field(default_factory=dict)
    consumes: tuple[CounterUse, ...] = ()
    multiple: bool = False
    """allowMultipleAllocations: claims share it by capacity."""
    binds_to_node: bool = False
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()
    part: GpuPart | None = None
    """None for devices that are no GPUs of ours."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class PoolShape:
    """The devices of a pool in the order of the in-tree allocator (resource slices by name, devices as listed).

    Compared by identity: kept once for all pools alike, so that what is found out about one is known of all.
    """

    driver: str
    devices: tuple[DeviceShape, ...]
    counters: Mapping[tuple[str, str], Amount]
    """(counter set, counter) -> total."""
    own: frozenset[str] = frozenset()
    """Names of the attributes that each pool of this shape may have of its own: those in `Pool.identity`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Pool:
    """A complete and valid pool of the newest generation.

    `identity` holds per device the attributes that tell it from its like (uuid, PCI address, ...); `tainted` the
    taints of devices by position, those of DeviceTaintRules included.
    """

    driver: str
    name: str
    generation: int
    shape: PoolShape
    identity: tuple[Mapping[str, Attribute], ...]
    tainted: Mapping[int, tuple[Taint, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = self.shape.own
        assert len(self.identity) == len(self.shape.devices)
        assert all(own.issuperset(attributes) for attributes in self.identity), f"{self.name}: identity beyond {own}"

    @property
    def key(self) -> tuple[str, str]:
        """What names the pool: driver and name."""
        return self.driver, self.name

    def device(self, at: int) -> DeviceId:
        """Return the device at a position of the shape."""
        return DeviceId(self.driver, self.name, self.shape.devices[at].name)

    def attribute(self, at: int, name: str) -> Attribute | None:
        """Return an attribute of a device, None where it has none of that name."""
        own = self.identity[at].get(name)
        return self.shape.devices[at].attributes.get(name) if own is None else own


class Reach(NamedTuple):
    """The devices of a pool that pods on a node can use."""

    pool: Pool
    mask: int
    """Bit per position in the shape."""
    local: bool
    """Whether its devices are tied to this node: an allocation of one is good on this node alone."""


class SelectorError(Exception):
    """A selector failed to evaluate. Its text names class or request, expression, device and what went wrong.

    `at`: the alternative whose selector it is, and the pool of the device.
    """

    at: tuple[SubRequest, Pool] | None = None


class Selection(Protocol):
    """The devices that the class and the selectors of one request admit."""

    @property
    def by_shape(self) -> bool:
        """Whether no pool is told from others of its shape: no selector reads an attribute of `Pool.identity`."""
        ...

    def mask(self, pool: Pool) -> int:
        """Return them as a bit mask over the positions of `pool`. Raises SelectorError; quick when asked again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubRequest:
    """One way to satisfy a request. `name` is `req`, or `req/sub` where the request lists alternatives."""

    name: str
    selection: Selection
    count: int = 1
    all_devices: bool = False
    """Every device that the selection admits and the node reaches, instead of `count`."""
    admin: bool = False
    """adminAccess: takes nothing from anyone."""
    capacity: Mapping[str, Amount] = field(default_factory=lambda: NOTHING)
    """Amounts asked, by name as spelled in the request."""
    tolerations: tuple[Toleration, ...] = ()
    link: LinkWish = LinkWish.PREFER
    min_gbps: float = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClaimRequest:
    """A request of a claim; `alternatives` in order of preference, one unless it is `firstAvailable`."""

    name: str
    alternatives: tuple[SubRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """matchAttribute, or distinctAttribute where `distinct`, over the devices of some requests of the claim.

    `requests` holds `req` or `req/sub`; empty means all.
    """

    attribute: str
    distinct: bool = False
    requests: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        """Whether devices of the request (or subrequest) `name` take part."""
        return not self.requests or name in self.requests or name.partition("/")[0] in self.requests


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClaimAsk:
    """A claim that is to be allocated."""

    uid: ClaimUid
    name: str
    """`namespace/name`, for texts."""
    requests: tuple[ClaimRequest, ...]
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """All that one pod needs of one node: its unallocated claims together, beside cores and memory.

    `nodes` are those to which claims allocated before tie the pod; None: any.
    """

    claims: tuple[ClaimAsk, ...] = ()
    cpu_milli: int = 0
    memory_mib: int = 0
    nodes: frozenset[NodeName] | None = None
    signature: object = None
    """Equal for asks that differ in names and uids alone; what is remembered of one holds for the other. None: new."""


class Given(NamedTuple):
    """A device given to a (sub)request. `consumed` of devices shared by capacity alone."""

    request: str
    device: DeviceId
    admin: bool = False
    consumed: Mapping[str, Amount] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Devices on a node, per claim of the ask in its order."""

    node: NodeName
    claims: tuple[tuple[Given, ...], ...]
