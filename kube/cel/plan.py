"""A checked tree to closures: the planner of cel-go, with the costs that its interpreter counts.

A chain of selections (`device.attributes["d"].x`) is one attribute with qualifiers, as there: it costs one, and one
per qualifier. Constants are folded where cel-go folds them, and a fold that fails makes the expression invalid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from kube.cel import cost
from kube.cel.access import Key, resolve_chain
from kube.cel.dispatch import bind
from kube.cel.errors import CostExceeded, SelectorFault, SelectorSyntaxError
from kube.cel.folds import fold
from kube.cel.frame import Eval, Frame
from kube.cel.syntax import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select
from kube.cel.tokens import error_at
from kube.cel.values import INT_MAX, INT_MIN, UINT_MAX, Map, Optional, UInt, Value

_CONVERSIONS = frozenset(["bool", "bytes", "double", "dyn", "duration", "int", "string", "timestamp", "type", "uint"])
_KEYS = (str, int, UInt, bool, float)


@dataclass(slots=True)
class Constant:
    """A step whose value is known."""

    value: Value


@dataclass(slots=True)
class Attribute:
    """A variable, a computed value or a choice of two attributes, and the selections applied to it.

    `reads` yields the root; `branches` (condition, then, else) instead of it.
    """

    reads: Eval | None = None
    branches: tuple[Eval, Attribute, Attribute] | None = None
    keys: list[Key] = field(default_factory=list)
    test: bool = False

    def select(self, key: Key) -> None:
        """Apply one more selection."""
        if self.branches is None:
            self.keys.append(key)
        else:
            self.branches[1].select(key)
            self.branches[2].select(key)

    def resolve(self) -> Eval:
        """Return what yields the value, without the cost of the attribute itself."""
        if self.branches is None:
            assert self.reads is not None
            return resolve_chain(self.reads, self.keys)
        condition, then, otherwise = self.branches[0], self.branches[1].resolve(), self.branches[2].resolve()

        def choose(frame: Frame) -> Value:
            chosen = condition(frame)
            if chosen is True:
                return then(frame)
            if chosen is False:
                return otherwise(frame)
            raise SelectorFault("no such overload: a condition must be a bool")

        return choose

    def evaluate(self) -> Eval:
        """Return what yields the value, costs included."""
        resolve = self.resolve()
        if self.test:
            return lambda frame: _present(resolve(frame))
        if self.branches is not None:
            return resolve

        def observed(frame: Frame) -> Value:
            frame.cost += 1
            return resolve(frame)

        return observed


@dataclass(slots=True)
class Step:
    """Value other step."""

    evaluate: Eval


Plan = Constant | Attribute | Step


def plan(root: Node, text: str) -> Eval:
    """Return what evaluates a checked tree. Raises SelectorSyntaxError for constants that cannot be folded."""
    return _Planner(text).closure(root)


class _Planner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._slots: list[dict[str, int]] = [{"device": 0}]
        self._next_slot = 1

    def closure(self, node: Node) -> Eval:
        return _closure(self.plan(node))

    def plan(self, node: Node) -> Plan:
        match node:
            case Literal():
                return Constant(node.value)
            case Ident() | Select() if node.denotes is not None:
                return Constant(node.denotes)
            case Ident():
                return self._ident(node)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListNode():
                return self._list(node)
            case MapNode():
                return self._map(node)
            case Fold():
                return self._fold(node)
        raise AssertionError(node)

    def _wrong(self, node: Node, reason: str) -> SelectorSyntaxError:
        return error_at(self._text, node.at, reason)

    def _ident(self, node: Ident) -> Attribute:
        name = node.name.removeprefix(".")
        if node.type.kind == "type":  # cel-go looks such a name up among the types, and finds none
            raise self._wrong(node, f"reference to undefined type: {name}")
        slot = next(scope[name] for scope in reversed(self._slots) if name in scope)
        return Attribute(lambda frame: frame.read(slot))

    def _select(self, node: Select) -> Attribute:
        attribute = _attribute(self.plan(node.operand))
        attribute.select(Key(constant=node.field, test=node.test))
        attribute.test = node.test
        return attribute

    def _call(self, node: Call) -> Plan:
        match node.function:
            case "_&&_":
                return Step(_both(self.closure(node.args[0]), self.closure(node.args[1])))
            case "_||_":
                return Step(_either(self.closure(node.args[0]), self.closure(node.args[1])))
            case "_?_:_":
                return self._condition(node)
            case "_[_]":
                return self._index(node, optional=False)
            case "_[?_]" | "_?._":
                return self._index(node, optional=True)
            case "or" | "orValue":
                return Step(_or(self.closure(node.operands()[0]), self.closure(node.args[0]), node.function))
        return self._function(node)

    def _condition(self, node: Call) -> Attribute:
        condition, then, otherwise = (self.plan(arg) for arg in node.args)
        return Attribute(None, (_closure(condition), _attribute(then), _attribute(otherwise)))

    def _index(self, node: Call, *, optional: bool) -> Attribute:
        operand, index = (self.plan(arg) for arg in node.args)
        attribute = _attribute(operand)
        if isinstance(index, Constant):
            if type(index.value) not in _KEYS:
                raise self._wrong(node.args[1], "a value of this type cannot be an index")
            attribute.select(Key(constant=index.value, optional=optional))
        elif isinstance(index, Attribute):
            attribute.select(Key(computed=index.resolve(), optional=optional))
        else:
            attribute.select(Key(computed=index.evaluate, optional=optional))
        return attribute

    def _function(self, node: Call) -> Plan:
        steps = [self.plan(operand) for operand in node.operands()]
        if node.function == "@in" and node.overloads == ["in_list"] and isinstance(steps[1], Constant):
            if not steps[1].value:
                return Constant(value=False)
            if all(type(value) in (bool, int, UInt, float, str) for value in steps[1].value):
                return Step(_member(_closure(steps[0]), _as_set(steps[1].value)))
        try:
            evaluate = bind(node, [_closure(step) for step in steps], constants=[_constant(step) for step in steps])
            if node.function in _CONVERSIONS and len(steps) == 1 and isinstance(steps[0], Constant):
                return Constant(evaluate(Frame(())))
        except SelectorFault as fault:
            raise self._wrong(node, str(fault)) from None
        return Step(evaluate)

    def _list(self, node: ListNode) -> Plan:
        steps = [self.plan(part) for part in node.elements]
        optional = [at in node.optional for at in range(len(steps))]
        evaluate = _make_list([_closure(step) for step in steps], optional if node.optional else None)
        return self._folded(node, steps, evaluate)

    def _map(self, node: MapNode) -> Plan:
        steps = [self.plan(part) for entry in node.entries for part in (entry.key, entry.value)]
        closures = [_closure(step) for step in steps]
        optional = [entry.optional for entry in node.entries]
        return self._folded(node, steps, _make_map(closures[::2], closures[1::2], optional))

    def _folded(self, node: Node, steps: list[Plan], evaluate: Eval) -> Plan:
        if not all(isinstance(step, Constant) for step in steps):
            return Step(evaluate)
        try:
            return Constant(evaluate(Frame(())))
        except SelectorFault as fault:
            raise self._wrong(node, str(fault)) from None

    def _fold(self, node: Fold) -> Plan:
        init = self.closure(node.init)
        over = self.closure(node.over)
        accu, one, two = range(self._next_slot, self._next_slot + 3)
        self._next_slot += 3
        self._slots.append({node.accu: accu})
        self._slots.append({node.var: one, **({node.var2: two} if node.var2 else {})})
        condition, step = self.closure(node.condition), self.closure(node.step)
        self._slots.pop()
        result = self.closure(node.result)
        self._slots.pop()
        return Step(fold(over, init, condition, step, result, (accu, one, two if node.var2 else None)))


def _attribute(step: Plan) -> Attribute:
    return step if isinstance(step, Attribute) and not step.test else Attribute(_closure(step))


def _closure(step: Plan) -> Eval:
    if isinstance(step, Constant):
        value = step.value
        return lambda _frame: value
    return step.evaluate() if isinstance(step, Attribute) else step.evaluate


def _constant(step: Plan) -> Value:
    return step.value if isinstance(step, Constant) else ...


def _present(found: Value) -> bool:
    return bool(found.held) if type(found) is Optional else bool(found)


def _both(left: Eval, right: Eval) -> Eval:
    def both(frame: Frame) -> Value:
        fault: SelectorFault | None = None
        for term in (left, right):
            try:
                value = term(frame)
            except CostExceeded:
                raise
            except SelectorFault as found:
                fault = fault or found
                continue
            if value is False:
                return False
            if value is not True:
                fault = fault or SelectorFault("no such overload: && needs bools")
        if fault is not None:
            raise fault
        return True

    return both


def _either(left: Eval, right: Eval) -> Eval:
    def either(frame: Frame) -> Value:
        fault: SelectorFault | None = None
        for term in (left, right):
            try:
                value = term(frame)
            except CostExceeded:
                raise
            except SelectorFault as found:
                fault = fault or found
                continue
            if value is True:
                return True
            if value is not False:
                fault = fault or SelectorFault("no such overload: || needs bools")
        if fault is not None:
            raise fault
        return False

    return either


def _or(left: Eval, right: Eval, function: str) -> Eval:
    def first(frame: Frame) -> Value:
        value = left(frame)
        if type(value) is not Optional:
            return value
        if value.held:
            return value.held[0] if function == "orValue" else value
        return right(frame)

    return first


def _as_set(values: tuple[Value, ...]) -> frozenset[tuple[type, Value]]:
    """Return constants under each numeric type that they convert to without loss, as cel-go folds `in`."""
    found: set[tuple[type, Value]] = set()
    for value in values:
        found.add((type(value), value))
        if type(value) in (int, UInt):
            found.add((float, float(value)))
        if type(value) in (int, UInt, float) and math.isfinite(value) and int(value) == value:
            found |= {(int, int(value))} if INT_MIN <= value <= INT_MAX else set()
            found |= {(UInt, int(value))} if 0 <= value <= UINT_MAX else set()
    return frozenset(found)


def _member(value: Eval, among: frozenset[tuple[type, Value]]) -> Eval:
    def member(frame: Frame) -> bool:
        wanted = value(frame)
        if type(wanted) is bytes:
            raise SelectorFault("internal error: bytes cannot be looked up in a set")
        return type(wanted) in _KEYS and (type(wanted), wanted) in among

    return member


def _make_list(elements: list[Eval], optional: list[bool] | None) -> Eval:
    def make(frame: Frame) -> tuple[Value, ...]:
        frame.cost += cost.LIST
        values: list[Value] = []
        for at, element in enumerate(elements):
            value = element(frame)
            if optional is not None and optional[at]:
                if type(value) is not Optional:
                    raise SelectorFault("cannot initialize optional list element from non-optional value")
                values.extend(value.held)
            else:
                values.append(value)
        return tuple(values)

    return make


def _make_map(keys: list[Eval], values: list[Eval], optional: list[bool]) -> Eval:
    def make(frame: Frame) -> Map:
        frame.cost += cost.MAP
        made = Map()
        for key, value, may_lack in zip(keys, values, optional, strict=True):
            at, held = key(frame), value(frame)
            if type(at) is bytes:
                raise SelectorFault("internal error: bytes cannot be a key")
            if may_lack:
                if type(held) is not Optional:
                    raise SelectorFault("cannot initialize optional entry from non-optional value")
                if not held.held:
                    made.discard(at)
                    continue
                held = held.held[0]
            made.insert(at, held)
        return made

    return make
