"""Resource slices and taint rules -> pools, and which devices each node can use. A change re-does its pool alone.

A pool counts as the API defines it (contracts 2.2, 3.1): slices of the newest generation only, all of them there, no
device name twice, every counter known. What fails that is unusable, with a reason, until a slice of it changes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakValueDictionary

from kube.devices import DeviceShapes, decode_taints
from kube.nearby import Nearby
from kube.nodeselect import selects
from kube.objects import DeviceTaintRule, Node, NodeSelector, ResourceSlice
from kube.slices import Slice, Where, decode_slice
from packing.dra.model import Amount, DeviceId, Pool, PoolShape, Reach, Taint

_log = logging.getLogger(__name__)

MANY_SHAPES = 4096
"""Device shapes above which those of devices long gone are looked for and forgotten."""


class PoolKey(NamedTuple):
    """A pool of the cluster."""

    driver: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolState:
    """What the slices of one pool amount to: a pool, or why there is none that can be used."""

    pool: Pool | None = None
    fault: str = ""
    where: tuple[Where, ...] = ()
    """Per device; one entry if all are alike."""
    beyond_us: Mapping[str, str] = field(default_factory=dict)
    """Devices left out, and what they need of a scheduler that we do not have."""
    usable: int = 0
    """Bit per position: the devices that are not left out."""

    def of(self, at: int) -> Where:
        """Return who can use a device."""
        return self.where[at if len(self.where) > 1 else 0]


class Pools:
    """All pools of the cluster. Mutable; `refresh` brings it up to date and says what changed."""

    def __init__(self, gpu_driver: str, ignored_taints: frozenset[str] = frozenset()) -> None:
        """Start without pools. Taints of the keys `ignored_taints` are for other schedulers and left out."""
        self._device_shapes = DeviceShapes(gpu_driver)
        self._pool_shapes: WeakValueDictionary[object, PoolShape] = WeakValueDictionary()
        self._ignored = ignored_taints
        self._slices: dict[str, Slice] = {}
        self._of_pool: defaultdict[PoolKey, dict[str, Slice]] = defaultdict(dict)
        self._rules: dict[str, DeviceTaintRule] = {}
        self._dirty: set[PoolKey] = set()
        self._nearby: Nearby[PoolKey] = Nearby()
        self._faulty: set[PoolKey] = set()
        self.states: dict[PoolKey, PoolState] = {}
        """By pool; as of the last `refresh`."""

    def keep(self, found: Iterable[ResourceSlice]) -> list[Slice]:
        """Return what is kept of resource slices, a third of their size, for `replace`; nothing changes."""
        return [decode_slice(each, self._device_shapes) for each in found]

    def replace(self, found: Iterable[ResourceSlice | Slice]) -> None:
        """Take `found` for all resource slices that there are."""
        gone = set(self._slices)
        for each in found:
            kept = each if isinstance(each, Slice) else decode_slice(each, self._device_shapes)
            gone.discard(kept.name)
            self._put(kept)
        for name in gone:
            self.remove(name)

    def put(self, found: ResourceSlice) -> None:
        """Add or change a resource slice."""
        self._put(decode_slice(found, self._device_shapes))

    def _put(self, decoded: Slice) -> None:
        self.remove(decoded.name)
        key = PoolKey(decoded.driver, decoded.pool)
        self._slices[decoded.name] = decoded
        self._of_pool[key][decoded.name] = decoded
        self._dirty.add(key)

    def remove(self, name: str) -> None:
        """Remove a resource slice; one that is not there is no error."""
        old = self._slices.pop(name, None)
        if old is not None:
            key = PoolKey(old.driver, old.pool)
            del self._of_pool[key][name]
            self._dirty.add(key)

    def replace_rules(self, rules: Iterable[DeviceTaintRule]) -> None:
        """Take `rules` for all taint rules that there are."""
        found = {rule.metadata.name: rule for rule in rules}
        for name in self._rules.keys() - found.keys():
            self.remove_rule(name)
        for rule in found.values():
            self.put_rule(rule)

    def put_rule(self, rule: DeviceTaintRule) -> None:
        """Add or change a taint rule."""
        self.remove_rule(rule.metadata.name)
        self._rules[rule.metadata.name] = rule
        if _beyond_us(rule):
            _log.warning(
                "DeviceTaintRule %s taints nothing: deviceClassName and selectors, of 1.34 alone, are not known here; "
                "name driver, pool or device instead",
                rule.metadata.name,
            )
        self._dirty.update(self._ruled(rule))

    def remove_rule(self, name: str) -> None:
        """Remove a taint rule; one that is not there is no error."""
        old = self._rules.pop(name, None)
        if old is not None:
            self._dirty.update(self._ruled(old))

    @property
    def stale(self) -> bool:
        """Whether something changed since the last `refresh`."""
        return bool(self._dirty)

    def refresh(self) -> frozenset[PoolKey]:
        """Bring `states` up to date; return the pools that changed, came or went."""
        changed, self._dirty = frozenset(self._dirty), set()
        for key in changed:
            self._forget(key)
            slices = self._of_pool.get(key)
            if not slices:
                self._of_pool.pop(key, None)
                continue
            state = self.states[key] = self._state(key, sorted(slices.values(), key=lambda each: each.name))
            self._nearby.add(key, state.where)
            if state.fault:
                self._faulty.add(key)
        self._sweep()
        return changed

    def reaches(self, node: Node, drivers: frozenset[str]) -> tuple[Reach, ...]:
        """Return what a node can use of the pools of `drivers`, in the order in which the in-tree allocator tries them.

        By driver and name, those with binding conditions last. A pool of which a node has devices of its own beside
        others is there twice.
        """
        keys = sorted(key for key in self._nearby.of(node) if key.driver in drivers)
        admits = _Admits(node)
        found = [reach for key in keys if self.states[key].pool for reach in _reaches(self.states[key], admits)]
        return tuple(sorted(found, key=lambda reach: _awaits(reach.pool.shape)))

    def unready(self, node: Node, drivers: frozenset[str]) -> bool:
        """Whether a node reaches, or would, a pool of `drivers` that cannot be used."""
        if not self._faulty:
            return False
        keys = (key for key in self._nearby.of(node) & self._faulty if key.driver in drivers)
        admits = _Admits(node)
        return any(where.node == admits.name or admits(where) for key in keys for where in self.states[key].where)

    def local_pools(self, node: str, driver: str) -> list[Pool]:
        """Return the pools of a driver that have devices of this node alone."""
        keys = sorted(key for key in self._nearby.local(node) if key.driver == driver)
        return [pool for key in keys if (pool := self.states[key].pool) is not None]

    def node_names(self) -> frozenset[str]:
        """Return the nodes that pools name."""
        return self._nearby.node_names()

    def usable(self, of_driver: Callable[[str], bool]) -> list[Pool]:
        """Return the usable pools of some drivers, by driver and name."""
        keys = sorted(key for key in self.states if of_driver(key.driver))
        return [pool for key in keys if (pool := self.states[key].pool) is not None]

    def where(self, device: DeviceId) -> Where | None:
        """Return who can use a device, None where there is no such device."""
        state = self.states.get(PoolKey(device.driver, device.pool))
        if state is None or state.pool is None:
            return None
        names = (at for at, shape in enumerate(state.pool.shape.devices) if shape.name == device.name)
        at = next(names, None)
        return None if at is None else state.of(at)

    def _forget(self, key: PoolKey) -> None:
        old = self.states.pop(key, None)
        if old is not None:
            self._nearby.remove(key, old.where)
            self._faulty.discard(key)

    def _state(self, key: PoolKey, slices: list[Slice]) -> PoolState:
        newest = max(each.generation for each in slices)
        slices = [each for each in slices if each.generation == newest]
        fault = _fault(slices, newest)
        if fault:
            return PoolState(fault=fault, where=tuple({where: None for each in slices for where in each.where}))
        own = tuple(each for part in slices for each in part.own)
        beyond_us = {part.devices[at].name: why for part in slices for at, why in part.beyond_us.items()}
        shape = self._pool_shape(key.driver, slices, frozenset(name for each in own for name in each))
        pool = Pool(
            driver=key.driver,
            name=key.name,
            generation=newest,
            shape=shape,
            identity=own,
            tainted=self._tainted(key, slices),
        )
        left_out = sum(1 << at for at, device in enumerate(shape.devices) if device.name in beyond_us)
        usable = (1 << len(shape.devices)) - 1 & ~left_out
        return PoolState(pool=pool, where=_where_of(slices), beyond_us=beyond_us, usable=usable)

    def _pool_shape(self, driver: str, slices: list[Slice], own: frozenset[str]) -> PoolShape:
        """Return the one shape of all pools with these devices and counters."""
        devices = tuple(device for each in slices for device in each.devices)
        counters: dict[tuple[str, str], Amount] = {
            (name, counter): amount
            for each in slices
            for name, amounts in each.counters.items()
            for counter, amount in amounts.items()
        }
        key = (driver, tuple(map(id, devices)), tuple(counters.items()), own)
        shape = self._pool_shapes.get(key)
        if shape is None:
            shape = PoolShape(driver=driver, devices=devices, counters=counters, own=own)
            self._pool_shapes[key] = shape
        return shape

    def _tainted(self, key: PoolKey, slices: list[Slice]) -> dict[int, tuple[Taint, ...]]:
        """Return the taints by position: those published, then those of rules by their names."""
        rules = [self._rules[name] for name in sorted(self._rules) if _concerns(self._rules[name], key)]
        if not rules and not any(each.tainted for each in slices):
            return {}
        found: dict[int, tuple[Taint, ...]] = {}
        at = 0
        for each in slices:
            for position, device in enumerate(each.devices):
                ruled = [rule.spec.taint for rule in rules if _names(rule, device.name)]
                taints = (*each.tainted.get(position, ()), *decode_taints(ruled))
                counted = tuple(taint for taint in taints if taint.key not in self._ignored)
                if counted:
                    found[at] = counted
                at += 1
        return found

    def _ruled(self, rule: DeviceTaintRule) -> list[PoolKey]:
        return [key for key in self._of_pool if _concerns(rule, key)]

    def _sweep(self) -> None:
        """Forget device shapes that no slice has any more, now and then."""
        if len(self._device_shapes) > MANY_SHAPES:
            self._device_shapes.keep(device for each in self._slices.values() for device in each.devices)


def _fault(slices: list[Slice], newest: int) -> str:
    """Return why the slices of the newest generation make up no pool, empty where they do."""
    wanted = max(each.slices_of_pool for each in slices)
    if len(slices) != wanted:
        return f"incomplete: {len(slices)} of {wanted} resource slices of generation {newest} are there"
    for each in slices:
        if each.fault:
            return f"invalid: {each.fault}"
    names: set[str] = set()
    sets: dict[str, Mapping[str, Amount]] = {}
    for each in slices:
        for name, counters in each.counters.items():
            if name in sets:
                return f"invalid: counter set {name} is there twice"
            sets[name] = counters
    for each in slices:
        for device in each.devices:
            if device.name in names:
                return f"invalid: device {device.name} is there twice"
            names.add(device.name)
            for use in device.consumes:
                if use.counter not in sets.get(use.counter_set, ()):
                    return (
                        f"invalid: device {device.name} counts on {use.counter_set}/{use.counter}, which is not there"
                    )
    return ""


def _where_of(slices: list[Slice]) -> tuple[Where, ...]:
    """Return who can use each device, in one entry where that is the same for all."""
    distinct = {where for each in slices if each.devices for where in each.where}
    if not distinct:
        return slices[0].where[:1]
    if len(distinct) == 1:
        return tuple(distinct)
    return tuple(each.where[at if len(each.where) > 1 else 0] for each in slices for at in range(len(each.devices)))


class _Admits:
    """Whether devices that are no single node's can be used on a node; each selector is evaluated once."""

    def __init__(self, node: Node) -> None:
        self.name = node.metadata.name
        self._labels = node.metadata.labels
        self._known: dict[NodeSelector | None, bool] = {}

    def __call__(self, where: Where) -> bool:
        if where.node:
            return False
        known = self._known.get(where.selector)
        if known is None:
            known = self._known[where.selector] = selects(where.selector, self.name, self._labels)
        return known


def _reaches(state: PoolState, admits: _Admits) -> list[Reach]:
    """Return what a node can use of a pool: the devices that are its own, and the others."""
    assert state.pool is not None
    own = others = 0
    alike = len(state.where) == 1
    for at, where in enumerate(state.where):
        devices = state.usable if alike else 1 << at & state.usable
        if where.node == admits.name:
            own |= devices
        elif admits(where):
            others |= devices
    return [Reach(state.pool, mask, local) for mask, local in ((own, True), (others, False)) if mask]


def _awaits(shape: PoolShape) -> bool:
    return any(device.binding_conditions for device in shape.devices)


def _concerns(rule: DeviceTaintRule, key: PoolKey) -> bool:
    """Whether a rule may taint devices of a pool. One without a selector taints nothing."""
    wanted = rule.spec.device_selector
    return (
        wanted is not None
        and not _beyond_us(rule)
        and wanted.driver in ("", key.driver)
        and wanted.pool in ("", key.name)
    )


def _beyond_us(rule: DeviceTaintRule) -> bool:
    """Whether a rule picks devices in a way that came and went with 1.34: what else it names would be too many."""
    wanted = rule.spec.device_selector
    return wanted is not None and bool(wanted.device_class_name or wanted.selectors)


def _names(rule: DeviceTaintRule, device: str) -> bool:
    wanted = rule.spec.device_selector
    return wanted is not None and wanted.device in ("", device)
