"""Lists and sets: Kubernetes' own functions, and cel-go's extensions (lists version 3, sets)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

from kube.cel.arithmetic import add, no_overload
from kube.cel.compare import alike, contains, is_ordered, order
from kube.cel.cost import LIMIT
from kube.cel.errors import CostExceeded, SelectorFault
from kube.cel.limits import affordable
from kube.cel.values import LISTS, Duration, UInt, Value, type_of

_COMPARABLE = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"]
_ZERO: dict[str, Value] = {"int": 0, "uint": UInt(0), "double": 0.0, "duration": Duration(0)}


def _is_sorted(values: Sequence[Value]) -> bool:
    for value in values:
        if not is_ordered(value):
            raise no_overload("isSorted", value)
    for one, two in itertools.pairwise(values):
        try:
            if order(one, two) > 0:
                return False
        except SelectorFault:
            continue
    return True


def _sum(zero: Value) -> Callable[[Sequence[Value]], Value]:
    return lambda values: functools.reduce(add, values, zero)


def _extreme(function: str, wanted: int) -> Callable[[Sequence[Value]], Value]:
    def extreme(values: Sequence[Value]) -> Value:
        if not values:
            raise SelectorFault(f"{function} called on empty list")
        for value in values:
            if not is_ordered(value):
                raise no_overload(function, value)
        best = values[0]
        for value in values[1:]:
            try:
                if order(best, value) == wanted:
                    best = value
            except SelectorFault:
                continue
        return best

    return extreme


def _index_of(values: Sequence[Value], wanted: Value) -> int:
    return next((at for at, value in enumerate(values) if alike(value, wanted)), -1)


def _last_index_of(values: Sequence[Value], wanted: Value) -> int:
    return next((at for at in reversed(range(len(values))) if alike(values[at], wanted)), -1)


def _slice(values: Sequence[Value], start: int, end: int) -> tuple[Value, ...]:
    if start < 0 or end < 0:
        raise SelectorFault(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise SelectorFault(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(values) < end:
        raise SelectorFault(f"cannot slice({start}, {end}), list is length {len(values)}")
    return tuple(values[start:end])


def _flatten(values: Value, depth: Value = 1) -> tuple[Value, ...]:
    if type(values) not in LISTS or type(depth) is not int:
        raise no_overload("flatten", values, depth)
    if depth < 0:
        raise SelectorFault("level must be non-negative")
    found: list[Value] = []
    open_lists = [iter(values)]
    while open_lists:
        for value in open_lists[-1]:
            if type(value) in LISTS and len(open_lists) <= depth:
                open_lists.append(iter(value))
                break
            found.append(value)
        else:
            open_lists.pop()
            affordable(len(found))
    return tuple(found)


def _range(count: int) -> tuple[int, ...]:
    if count > LIMIT:
        raise CostExceeded(f"lists.range({count}) exceeds the cost limit")
    return tuple(range(count))


def _distinct(values: Sequence[Value]) -> tuple[Value, ...]:
    _affordable(values)
    found: list[Value] = []
    for value in values:
        if not any(alike(value, other) for other in found):
            found.append(value)
    return tuple(found)


def _sort(values: Value) -> tuple[Value, ...]:
    return _sort_by(values, values)


def _sort_by(values: Value, keys: Value) -> tuple[Value, ...]:
    if type(values) not in LISTS or type(keys) not in LISTS:
        raise no_overload("sort", values)
    if len(values) != len(keys):
        raise SelectorFault("sortBy: the keys are not as many as the elements")
    if not values:
        return tuple(values)
    _affordable(keys)
    if not is_ordered(keys[0]):
        raise SelectorFault("list elements must be comparable")
    kind = type_of(keys[0])
    if len(keys) > 1 and any(type_of(key) != kind for key in keys):
        raise SelectorFault("list elements must have the same type")
    by_key = functools.cmp_to_key(lambda one, two: _order_or_same(keys[one], keys[two]))
    return tuple(values[at] for at in sorted(range(len(keys)), key=by_key))


def _order_or_same(one: Value, two: Value) -> int:
    try:
        return order(one, two)
    except SelectorFault:
        return 0


def _affordable(values: Sequence[Value]) -> None:
    """Stop before work that costs the square of a length too large."""
    if 2 * len(values) ** 2 > LIMIT:
        raise CostExceeded(f"a list of {len(values)} elements is too long to compare each with each")


def _sets_contains(values: Sequence[Value], wanted: Sequence[Value]) -> bool:
    if len(values) * len(wanted) > LIMIT:
        raise CostExceeded("the lists are too long to compare each element with each")
    return all(contains(values, value) for value in wanted)


def _sets_intersects(one: Sequence[Value], two: Sequence[Value]) -> bool:
    if len(one) * len(two) > LIMIT:
        raise CostExceeded("the lists are too long to compare each element with each")
    return any(contains(two, value) for value in one)


BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    **{f"list_{kind}_is_sorted_bool": _is_sorted for kind in _COMPARABLE},
    **{f"list_{kind}_min_{kind}": _extreme("min", 1) for kind in _COMPARABLE},
    **{f"list_{kind}_max_{kind}": _extreme("max", -1) for kind in _COMPARABLE},
    **{f"list_{kind}_sum_{kind}": _sum(zero) for kind, zero in _ZERO.items()},
    "list_a_index_of_int": _index_of,
    "list_a_last_index_of_int": _last_index_of,
    "list_slice": _slice,
    "list_flatten": _flatten,
    "list_flatten_int": _flatten,
    "lists_range": _range,
    "list_reverse": lambda values: tuple(reversed(values)),
    "list_distinct": _distinct,
    "list_sets_contains_list": _sets_contains,
    "list_sets_equivalent_list": lambda one, two: _sets_contains(one, two) and _sets_contains(two, one),
    "list_sets_intersects_list": _sets_intersects,
}
ANY_OVERLOAD: dict[str, Callable[..., Value]] = {"sort": _sort, "@sortByAssociatedKeys": _sort_by}
