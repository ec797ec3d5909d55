"""What a call costs, in the API server's units: it stops an evaluation above a million (CELSelectorExpressionMaxCost).

Sources: cel-go interpreter/runtimecost.go, ext/lists.go, ext/sets.go; k8s.io/apiserver pkg/cel/library/cost.go.
Besides calls, a variable or a chain of selections costs 1 and each of its steps 1, a list 10 and a map 30.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from kube.cel.values import LISTS, KubernetesValue, Map, Optional, Value, size_of

LIMIT = 1_000_000
LIST, MAP = 10, 30
_TEXT, _REGEX = 0.1, 0.25

Cost = Callable[[Sequence[Value], Value], int]
"""From arguments and result."""


def cost_of(function: str, overload: str) -> Cost | None:
    """Return what a call costs; None: always 1. `overload` is empty where the checker left several."""
    return _BY_OVERLOAD.get(overload) or _BY_FUNCTION.get(function) or _STANDARD.get(overload)


def _scaled(factor: float) -> Cost:
    return lambda args, _result: math.ceil(size_of(args[0]) * factor)


def _traversal(args: Sequence[Value], _result: Value) -> int:
    return _traverse(args[0])


def _traverse(value: Value) -> int:
    """Return the cost of visiting all of a value, or one above the limit: lists may share parts without end."""
    total = 0
    rest = [value]
    while rest and total <= LIMIT:
        part = rest.pop()
        kind = type(part)
        if kind is str:
            total += int(len(part.encode(errors="replace")) * _TEXT)
        elif kind is bytes:
            total += int(len(part) * _TEXT)
        elif kind in LISTS:
            rest.extend(part)
        elif isinstance(part, Map):
            rest.extend(piece for entry in part.items() for piece in entry)
        else:
            total += 1
    return total


def _join(_args: Sequence[Value], result: Value) -> int:
    return math.ceil(size_of(result) * 2 * _TEXT)


def _regex(args: Sequence[Value], _result: Value) -> int:
    return _search(size_of(args[0]), size_of(args[1]))


def _search(text: int, pattern: int) -> int:
    return math.ceil((1.0 + text) * _TEXT) * math.ceil(pattern * _REGEX)


def _validate(args: Sequence[Value], _result: Value) -> int:
    return _search(size_of(args[1]), args[0].regex_size)


def _contains_ip(args: Sequence[Value], _result: Value) -> int:
    return math.ceil(2 * size_of(args[0]) * _TEXT)


def _contains_cidr(args: Sequence[Value], result: Value) -> int:
    return _contains_ip(args, result) + math.ceil(size_of(args[0]) * _TEXT) + 1


def _and_text(cost: Cost) -> Cost:
    """Return a cost and that of parsing the argument."""
    return lambda args, result: cost(args, result) + math.ceil(size_of(args[1]) * _TEXT)


def _equality(args: Sequence[Value], _result: Value) -> int:
    if isinstance(args[0], KubernetesValue):
        return 1
    return math.ceil(min(_unwrapped(args[0]), _unwrapped(args[1])) * _TEXT)


def _smaller(args: Sequence[Value], _result: Value) -> int:
    return math.ceil(min(_unwrapped(args[0]), _unwrapped(args[1])) * _TEXT)


def _unwrapped(value: Value) -> int:
    """Return the size of a value, or of what an optional holds."""
    while type(value) is Optional and value.held:
        value = value.held[0]
    return size_of(value)


def _both(args: Sequence[Value], _result: Value) -> int:
    return math.ceil((_unwrapped(args[0]) + _unwrapped(args[1])) * _TEXT)


def _contains(args: Sequence[Value], _result: Value) -> int:
    return math.ceil(_unwrapped(args[0]) * _TEXT) * math.ceil(_unwrapped(args[1]) * _TEXT)


def _in_list(args: Sequence[Value], _result: Value) -> int:
    return _unwrapped(args[1])


def _allocated(size: float) -> int:
    return int(size) + 1 + LIST


def _output(_args: Sequence[Value], result: Value) -> int:
    return _allocated(size_of(result))


def _flatten(args: Sequence[Value], _result: Value) -> int:
    return _allocated(size_of(args[0]) * (float(args[1]) if len(args) == 2 else 1.0))


def _self_compare(which: int) -> Cost:
    def cost(args: Sequence[Value], _result: Value) -> int:
        values = args[which]
        factor = 2.0 + _TEXT if len(values) and type(values[0]) in (str, bytes) else 2.0
        return _allocated(len(values) ** 2 * factor)

    return cost


def _sets(factor: int) -> Cost:
    return lambda args, _result: 1 + size_of(args[0]) * size_of(args[1]) * factor


_BY_OVERLOAD: dict[str, Cost] = {
    "list_slice": _output,
    "list_flatten": _flatten,
    "list_flatten_int": _flatten,
    "lists_range": _output,
    "list_reverse": _output,
    "list_distinct": _self_compare(0),
    "list_sets_contains_list": _sets(1),
    "list_sets_intersects_list": _sets(1),
    "list_sets_equivalent_list": _sets(2),
    "cidr_ip": lambda _args, _result: 1,
    "cidr_contains_ip_string": _and_text(_contains_ip),
    "cidr_contains_cidr_string": _and_text(_contains_cidr),
}
for _kind in (
    "int",
    "uint",
    "double",
    "bool",
    "google.protobuf.Duration",
    "google.protobuf.Timestamp",
    "string",
    "bytes",
):
    _BY_OVERLOAD[f"list_{_kind}_sort"] = _self_compare(0)
    _BY_OVERLOAD[f"list_{_kind}_sortByAssociatedKeys"] = _self_compare(1)

_BY_FUNCTION: dict[str, Cost] = {
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _traversal),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim"), _scaled(_TEXT)),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "ip", "quantity", "isQuantity", "semver", "isSemver"), _scaled(_TEXT)),
    **dict.fromkeys(("replace", "split", "ip.isCanonical"), _scaled(2 * _TEXT)),
    "join": _join,
    **dict.fromkeys(("find", "findAll"), _regex),
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
    "_==_": _equality,
}

_STANDARD: dict[str, Cost] = {
    **dict.fromkeys(
        (
            "starts_with_string",
            "ends_with_string",
            "string_to_bytes",
            "bytes_to_string",
            "strings_quote",
            "string_format",
        ),
        lambda args, _result: math.ceil(_unwrapped(args[0]) * _TEXT),
    ),
    "in_list": _in_list,
    **dict.fromkeys(
        (f"{op}_{kind}" for op in ("less", "greater", "less_equals", "greater_equals") for kind in ("string", "bytes")),
        _smaller,
    ),
    "not_equals": _smaller,
    **dict.fromkeys(("add_string", "add_bytes"), _both),
    "matches_string": _regex,
    "contains_string": _contains,
}
