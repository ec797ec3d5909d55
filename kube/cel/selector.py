"""Device selectors: compile once, then ask of each device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from kube.cel.checker import check, check_result
from kube.cel.errors import SelectorFault, SelectorSyntaxError
from kube.cel.frame import Eval, Frame
from kube.cel.lib.quantity import of_nano as quantity
from kube.cel.lib.semver import parse as parse_version
from kube.cel.parser import parse
from kube.cel.plan import plan
from kube.cel.reads import names_read
from kube.cel.syntax import Node
from kube.cel.validate import validate
from kube.cel.values import Map, Optional, Value
from packing.dra.model import Attribute, AttributeKind

MAX_BYTES = 10 * 1024
"""Longest expression that the API takes (CELSelectorExpressionMaxLength)."""


@dataclass(frozen=True, slots=True, eq=False)
class Selector:
    """A compiled expression. `reads`: qualified names of what it can read of a device beside its driver; None: any."""

    expression: str
    reads: frozenset[str] | None
    _evaluate: Eval

    def matches(
        self,
        driver: str,
        attributes: Mapping[str, Attribute],
        capacity: Mapping[str, int],
        multiple: bool,  # noqa: FBT001
    ) -> bool:
        """Tell whether a device matches. Names are qualified, capacities in nano-units.

        Raises SelectorFault where the evaluation fails; for the API server, too, that is no mere "does not match".
        """
        return self.evaluate(driver, attributes, capacity, multiple=multiple)[0]

    def evaluate(
        self, driver: str, attributes: Mapping[str, Attribute], capacity: Mapping[str, int], *, multiple: bool
    ) -> tuple[bool, int]:
        """Return whether a device matches, and the cost of finding out in the API server's units."""
        if self.reads is not None:  # the rest need not be turned into values
            attributes = {name: attributes[name] for name in self.reads if name in attributes}
            capacity = {name: capacity[name] for name in self.reads if name in capacity}
        frame = Frame((device_value(driver, attributes, capacity, multiple=multiple),))
        result = run(self._evaluate, frame)
        while type(result) is Optional and result.held:
            result = result.held[0]
        if type(result) is not bool:
            raise SelectorFault(f"the result is no bool but {result!r}")
        return result, frame.cost


@lru_cache(maxsize=4096)
def compile(expression: str, *, lists: bool = False) -> Selector:  # noqa: A001
    """Compile an expression as the API server does. `lists`: attributes may be lists (gate DRAListTypeAttributes).

    Raises SelectorSyntaxError, with position and reason, for an expression that it would refuse.
    """
    tree, evaluate = build(expression, lists=lists)
    return Selector(expression, names_read(tree), evaluate)


def build(expression: str, *, lists: bool = False, of_any_type: bool = False) -> tuple[Node, Eval]:
    """Compile an expression to a tree and a closure; one that is no bool where `of_any_type`."""
    size = len(expression.encode(errors="replace"))
    if size > MAX_BYTES:
        raise SelectorSyntaxError(f"the expression has {size} bytes, and no more than {MAX_BYTES} are allowed")
    try:
        tree = parse(expression)
        check(tree, expression, lists=lists)
        validate(tree, expression)
        if not of_any_type:
            check_result(tree, lists=lists)
        return tree, plan(tree, expression)
    except RecursionError:
        raise SelectorSyntaxError("the expression is nested too deeply") from None


def run(evaluate: Eval, frame: Frame) -> Value:
    """Evaluate. Raises SelectorFault, also for a cost above the limit."""
    try:
        result = evaluate(frame)
    except (RecursionError, MemoryError) as fault:
        raise SelectorFault(f"the expression is too deep or too large: {type(fault).__name__}") from None
    frame.check()
    return result


def device_value(
    driver: str, attributes: Mapping[str, Attribute], capacity: Mapping[str, int], *, multiple: bool
) -> Map:
    """Return the value of `device`."""
    return Map.of_strings(
        {
            "driver": driver,
            "allowMultipleAllocations": multiple,
            "attributes": _domains({name: _value(name, one) for name, one in attributes.items()}),
            "capacity": _domains({name: quantity(nano) for name, nano in capacity.items()}),
        }
    )


def _domains(values: dict[str, Value]) -> Map:
    domains: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        domain, _, own = name.partition("/")
        domains.setdefault(domain, {})[own] = value
    return Map.of_strings({domain: Map.of_strings(held) for domain, held in domains.items()}, total=True)


def _value(name: str, attribute: Attribute) -> Value:
    values: tuple[Value, ...] = attribute.values
    if attribute.kind is AttributeKind.VERSION:
        try:
            values = tuple(parse_version(text) for text in values)
        except SelectorFault as fault:
            raise SelectorFault(f"attribute {name}: {fault}") from None
    return values if attribute.is_list else values[0]
