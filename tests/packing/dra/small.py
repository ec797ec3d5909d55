"""Small random inventories and asks: few devices that are often alike, every rule of the API in play."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from packing.dra.inventory import Inventory, build_inventory
from packing.dra.ledger import Ledger
from packing.dra.model import (
    NANO,
    Amount,
    Ask,
    Attribute,
    AttributeKind,
    Capacity,
    ClaimRequest,
    ClaimUid,
    Constraint,
    CounterUse,
    DeviceShape,
    Effect,
    Given,
    Pool,
    PoolShape,
    Reach,
    RequestPolicy,
    SubRequest,
    Taint,
    Toleration,
)
from packing.dra.reference import taken
from packing.fabric import build_fabric
from packing.model import NodeName
from tests.packing.clusters import node
from tests.packing.dra.builders import NO_GPUS, Picked, claim

ATTRIBUTES = ("d/a", "d/b")


def units(number: int) -> Amount:
    return Amount(number * NANO)


POLICIES = (
    None,
    RequestPolicy(default=units(1)),
    RequestPolicy(default=units(2), valid_values=(units(1), units(2), units(4))),
    RequestPolicy(default=units(1), minimum=units(1), maximum=units(3)),
    RequestPolicy(default=units(2), minimum=units(2), maximum=units(4), step=units(2)),
    RequestPolicy(default=units(0), minimum=units(0), step=units(1)),
)


@dataclass(frozen=True)
class Wants:
    """Selects devices whose attribute `a` is a number; None: all."""

    number: int | None
    by_shape: bool = True

    def mask(self, pool: Pool) -> int:
        one = Attribute(AttributeKind.INT, (self.number or 0,))
        found = [self.number is None or device.attributes.get("d/a") == one for device in pool.shape.devices]
        return sum(fits << at for at, fits in enumerate(found))


@st.composite
def attributes(draw: st.DrawFn) -> dict[str, Attribute]:
    found = {}
    for name in ATTRIBUTES:
        match draw(st.sampled_from(("one",) * 6 + ("list", "list", "text", "none"))):
            case "one":
                found[name] = Attribute(AttributeKind.INT, (draw(st.integers(0, 1)),))
            case "list":
                values = draw(st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True))
                found[name] = Attribute(AttributeKind.INT, tuple(values), is_list=True)
            case "text":
                found[name] = Attribute(AttributeKind.STRING, ("0",))
    return found


@st.composite
def pools(draw: st.DrawFn, at: int) -> Pool:
    """Draw a pool of up to four devices, many of one kind."""
    sets = draw(st.integers(0, 2))
    counters = {(f"set-{s}", c): units(draw(st.integers(1, 4))) for s in range(sets) for c in "xy"}
    kinds = []
    for _ in range(draw(st.integers(1, 2))):
        multiple = draw(st.integers(0, 2)) == 0
        policy = draw(st.sampled_from(POLICIES)) if multiple else None
        has_capacity = multiple or draw(st.booleans())
        capacity = {"m": Capacity(units(draw(st.integers(2, 6))), policy)} if has_capacity else {}
        kinds.append((draw(attributes()), capacity, multiple, draw(st.integers(0, 2))))
    devices, tainted = [], {}
    for d in range(draw(st.integers(1, 4))):
        found, capacity, multiple, amount = draw(st.sampled_from(kinds))
        names = draw(st.sampled_from([("x",), ("x", "y")]))
        own = f"set-{d % sets}" if sets else ""
        uses = tuple(CounterUse(own, c, units(amount)) for c in names) if sets and amount else ()
        waits = ("ready",) if draw(st.integers(0, 15)) == 0 else ()
        devices.append(
            DeviceShape(
                name=f"dev-{d}",
                attributes=found,
                capacity=capacity,
                consumes=uses,
                multiple=multiple,
                binding_conditions=waits,
            )
        )
        if draw(st.integers(0, 9)) == 0:
            tainted[d] = (Taint("key", "value", draw(st.sampled_from(list(Effect)))),)
    shape = PoolShape(driver="d", devices=tuple(devices), counters=counters)
    return Pool(
        driver="d", name=f"pool-{at}", generation=1, shape=shape, identity=({},) * len(devices), tainted=tainted
    )


TOLERATIONS = (
    (),
    (),
    (Toleration("key", True, "", ""),),
    (Toleration("key", False, "value", "NoSchedule"),),
    (Toleration("", True, "", "NoExecute"),),
    (Toleration("other", True, "", ""),),
)


@st.composite
def subs(draw: st.DrawFn, name: str, admin: bool = True) -> SubRequest:
    wanted = draw(st.sampled_from((None, None, None, None, 0, 1)))
    count = draw(st.sampled_from((1, 1, 1, 1, 2, 2, 3)))
    return SubRequest(
        name=name,
        selection=Wants(wanted),
        count=count,
        all_devices=draw(st.integers(0, 9)) == 0,
        admin=admin and draw(st.integers(0, 9)) == 0,
        capacity={"m": units(draw(st.integers(0, 3)))} if draw(st.integers(0, 3)) == 0 else {},
        tolerations=draw(st.sampled_from(TOLERATIONS)),
    )


@st.composite
def claims(draw: st.DrawFn, most: int):
    requests = []
    for r in range(draw(st.integers(1, most))):
        if draw(st.integers(0, 3)) == 0:
            alternatives = tuple(draw(subs(f"r{r}/{a}", admin=False)) for a in range(draw(st.integers(2, 3))))
        else:
            alternatives = (draw(subs(f"r{r}")),)
        requests.append(ClaimRequest(name=f"r{r}", alternatives=alternatives))
    names = [sub.name for request in requests for sub in request.alternatives] + [each.name for each in requests]
    constraints = [
        Constraint(
            attribute=draw(st.sampled_from(ATTRIBUTES)),
            distinct=draw(st.booleans()),
            requests=frozenset(draw(st.lists(st.sampled_from(names), max_size=2))),
        )
        for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 2))))
    ]
    return claim(*requests, constraints=constraints)


@dataclass
class Case:
    """A node with its pools, what is held of them, and an ask."""

    inventory: Inventory
    reach: tuple[Reach, ...]
    held: list[Given]
    ask: Ask
    unready: bool

    def ledger(self) -> Ledger:
        found = Ledger(self.inventory)
        for at, given in enumerate(self.held):
            found.add_claim(ClaimUid(f"held-{at}"), [given])
        return found


@st.composite
def cases(draw: st.DrawFn, *, odd: bool = False) -> Case:
    """Draw one node; devices may be held twice over, as after a race of two allocators.

    `odd`: also a pool in which the node has devices of its own beside others, and devices that were held before they
    were to be shared, or not to be shared any more. The in-tree allocator's table (`golden`) has none of these.
    """
    reach = []
    for at in range(draw(st.integers(1, 2))):
        pool = draw(pools(at))
        whole = (1 << len(pool.shape.devices)) - 1
        if odd and len(pool.shape.devices) > 1 and draw(st.booleans()):
            reach += [Reach(pool, whole & 0b0101, True), Reach(pool, whole & 0b1010, False)]
            continue
        reach.append(Reach(pool, draw(st.sampled_from((whole, whole, whole, whole & 0b101))), True))
    held = []
    for pool, at in draw(st.lists(st.sampled_from([(r.pool, d) for r in reach for d in range(4)]), max_size=2)):
        if at < len(pool.shape.devices):
            device = pool.shape.devices[at]
            amounts = taken(device, SubRequest(name="h", selection=Picked())) if device.multiple else None
            if odd and draw(st.integers(0, 3)) == 0:
                amounts = {"m": units(1)} if amounts is None else None
            held.append(Given("h", pool.device(at), draw(st.integers(0, 5)) == 0, amounts))
    unready = draw(st.integers(0, 9)) == 0
    names = [NodeName("n")] if unready else []
    found = build_inventory(build_fabric((node("n", NO_GPUS),)), {NodeName("n"): reach}, names)
    several = draw(st.booleans())
    asked = [draw(claims(1 if several else 2)) for _ in range(1 + several)]
    return Case(found, found.reach[0], held, Ask(claims=tuple(asked)), unready)
