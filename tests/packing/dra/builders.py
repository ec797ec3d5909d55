"""Inventories for tests: real machines as our driver publishes them, and pools of other drivers by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

from dra_driver.publish.slices import resource_slices
from dra_driver.simulated import simulated_gpus
from packing.dra.allocate import Allocator
from packing.dra.inventory import Inventory, build_inventory
from packing.dra.ledger import Ledger
from packing.dra.model import (
    NANO,
    Amount,
    Ask,
    Attribute,
    AttributeKind,
    Capacity,
    ClaimAsk,
    ClaimRequest,
    ClaimUid,
    Constraint,
    CounterUse,
    DeviceShape,
    GpuPart,
    PartKind,
    Pool,
    PoolShape,
    Reach,
    RequestPolicy,
    SubRequest,
    Taint,
)
from packing.fabric import build_fabric
from packing.mix import DemandMix
from packing.model import MigMode, Node, NodeName, NodeShape
from packing.policy import make_policy
from packing.shapes import shape_of
from topology import catalog
from topology.modes import Sharing
from topology.quality import flat_quality

GPU_DRIVER = "gpu.dovetail.dev"
NIC_DRIVER = "nic.example.com"
UNITS = {"": 1, "k": 10**3, "M": 10**6, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
NO_GPUS = NodeShape("none", (), flat_quality(0))


def amount(text: str | int) -> Amount:
    """Return a Quantity of the few forms that our driver writes."""
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", str(text)).groups()  # type: ignore[union-attr]
    return Amount(int(number) * UNITS[unit] * NANO)


def attribute(value: object) -> Attribute:
    """Return a plain value as an attribute; a list is one of several."""
    values = tuple(value) if isinstance(value, list) else (value,)
    kinds = {bool: AttributeKind.BOOL, int: AttributeKind.INT, str: AttributeKind.STRING}
    return Attribute(kinds[type(values[0])], values, isinstance(value, list))


@dataclass(frozen=True)
class Picked:
    """A selection by a predicate on device shapes."""

    admits: Callable[[DeviceShape], bool] = lambda _: True
    driver: str = ""
    by_shape: bool = True

    def mask(self, pool: Pool) -> int:
        if self.driver and pool.driver != self.driver:
            return 0
        return sum(1 << at for at, device in enumerate(pool.shape.devices) if self.admits(device))


def of_type(kind: str, **attributes: object) -> Picked:
    """Select devices of our driver by type and further attributes."""

    def admits(device: DeviceShape) -> bool:
        wanted = {"type": kind, **attributes}
        return all(device.attributes.get(f"{GPU_DRIVER}/{name}") == attribute(value) for name, value in wanted.items())

    return Picked(admits, GPU_DRIVER)


GPUS = of_type("gpu")
NICS = Picked(driver=NIC_DRIVER)


def _capacity(spec: Mapping) -> Capacity:
    policy = spec.get("requestPolicy")
    if policy is None:
        return Capacity(amount(spec["value"]))
    valid = policy["validRange"]
    steps = {name: amount(valid[name]) for name in valid}
    return Capacity(
        amount(spec["value"]),
        RequestPolicy(
            default=amount(policy["default"]), minimum=steps["min"], maximum=steps["max"], step=steps["step"]
        ),
    )


def _part(attributes: Mapping) -> GpuPart:
    gpu = attributes["index"]["int"]
    match attributes["type"]["string"]:
        case "gpu":
            return GpuPart(gpu, PartKind.WHOLE)
        case "mig":
            start = attributes["placementStart"]["int"]
            return GpuPart(gpu, PartKind.PARTITION, attributes["profile"]["string"], start)
    return GpuPart(gpu, PartKind.SHARE, sharing=Sharing(attributes["sharing"]["string"]))


def _device(spec: Mapping) -> DeviceShape:
    attributes = {}
    for name, typed in spec["attributes"].items():
        kind, value = next(iter(typed.items()))
        qualified = name if "/" in name else f"{GPU_DRIVER}/{name}"
        attributes[qualified] = Attribute(AttributeKind(kind), (value,))
    return DeviceShape(
        name=spec["name"],
        attributes=attributes,
        capacity={name: _capacity(capacity) for name, capacity in spec["capacity"].items()},
        consumes=tuple(
            CounterUse(use["counterSet"], counter, amount(value["value"]))
            for use in spec.get("consumesCounters", ())
            for counter, value in use["counters"].items()
        ),
        multiple=spec.get("allowMultipleAllocations", False),
        part=_part(spec["attributes"]),
    )


@cache
def machine_pool(name: str, mig_mode: MigMode = MigMode.DYNAMIC, shared: bool = True) -> PoolShape:
    """Return the pool of a machine of the catalog, in in-tree order; UUIDs are those of one node."""
    gpus = simulated_gpus(catalog.machine(name), "node", mig_mode=mig_mode, sharing=tuple(Sharing) if shared else ())
    slices = [each["spec"] for each in resource_slices(gpus)]
    return PoolShape(
        driver=GPU_DRIVER,
        devices=tuple(_device(device) for each in slices for device in each.get("devices", ())),
        counters={
            (counters["name"], counter): amount(value["value"])
            for each in slices
            for counters in each.get("sharedCounters", ())
            for counter, value in counters["counters"].items()
        },
    )


@cache
def nic_pool(*roots: str) -> PoolShape:
    """Return a pool of network cards, one at each PCIe root."""
    devices = [
        DeviceShape(name=f"nic-{at}", attributes={"resource.kubernetes.io/pcieRoot": attribute(root)})
        for at, root in enumerate(roots)
    ]
    return PoolShape(driver=NIC_DRIVER, devices=tuple(devices), counters={})


def pool_of(shape: PoolShape, name: str, tainted: Mapping[int, tuple[Taint, ...]] | None = None) -> Pool:
    """Return a pool of a shape."""
    empty: tuple[Mapping[str, Attribute], ...] = ({},) * len(shape.devices)
    pool = f"{name}/{shape.driver}"
    return Pool(driver=shape.driver, name=pool, generation=1, shape=shape, identity=empty, tainted=tainted or {})


def all_of(pool: Pool, *, local: bool = True) -> Reach:
    """Reach all devices of a pool."""
    return Reach(pool, (1 << len(pool.shape.devices)) - 1, local)


@dataclass(frozen=True)
class Machine:
    """A node of a test: a machine of the catalog ('' for one without GPUs) and the pools beside its GPUs."""

    name: str
    machine: str = ""
    mig_mode: MigMode = MigMode.DYNAMIC
    beside: tuple[PoolShape, ...] = ()
    cpu_milli: int = 64_000
    tainted: Mapping[int, tuple[Taint, ...]] | None = None
    unhealthy: frozenset[int] = frozenset()


def inventory_of(*machines: Machine, unready: Iterable[str] = ()) -> Inventory:
    """Return machines as nodes with their pools."""
    nodes, reach = [], {}
    for one in machines:
        gpus = shape_of(catalog.machine(one.machine)) if one.machine else NO_GPUS
        nodes.append(
            Node(
                name=NodeName(one.name),
                shape=gpus,
                cpu_milli=one.cpu_milli,
                memory_mib=256_000,
                mig_mode=one.mig_mode,
                unhealthy=one.unhealthy,
            )
        )
        pools = [pool_of(machine_pool(one.machine, one.mig_mode), one.name, one.tainted)] if one.machine else []
        pools += [pool_of(shape, one.name) for shape in one.beside]
        reach[NodeName(one.name)] = [all_of(pool) for pool in pools]
    return build_inventory(build_fabric(tuple(nodes)), reach, [NodeName(name) for name in unready])


def allocator_of(ledger: Ledger, policy: str = "dovetail") -> Allocator:
    """Return an allocator under a policy that expects nothing in particular."""
    return Allocator(ledger, make_policy(policy, DemandMix(()), ledger.inventory.fabric))


def exactly(selection, count: int = 1, *, name: str = "gpu", **fields: object) -> ClaimRequest:
    """Return a request without alternatives."""
    sub = SubRequest(name=name, selection=selection, count=count, **fields)  # type: ignore[arg-type]
    return ClaimRequest(name=name, alternatives=(sub,))


def first_available(name: str, **alternatives: SubRequest) -> ClaimRequest:
    """Return a request with alternatives, by name."""
    return ClaimRequest(name=name, alternatives=tuple(alternatives.values()))


_serial = count()


def claim(*requests: ClaimRequest, constraints: Sequence[Constraint] = ()) -> ClaimAsk:
    """Return a claim."""
    uid = f"claim-{next(_serial)}"
    return ClaimAsk(uid=ClaimUid(uid), name=f"default/{uid}", requests=requests, constraints=tuple(constraints))


def ask(*claims: ClaimAsk | ClaimRequest, **fields: object) -> Ask:
    """Return an ask of claims, or of one claim with these requests."""
    if claims and isinstance(claims[0], ClaimRequest):
        claims = (claim(*claims),)  # type: ignore[arg-type]
    return Ask(claims=claims, **fields)  # type: ignore[arg-type]


def devices(allocation) -> list[list[str]]:
    """Return the names of the devices allocated, per claim."""
    return [[given.device.name for given in results] for results in allocation.claims]
