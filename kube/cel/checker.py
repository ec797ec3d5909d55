"""Types of every part of an expression: a port of cel-go's checker, so that the same expressions are refused."""

from __future__ import annotations

from kube.cel import types
from kube.cel.errors import SelectorSyntaxError
from kube.cel.signatures import Overload, functions
from kube.cel.syntax import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select
from kube.cel.tokens import error_at
from kube.cel.types import BOOL, DYN, ERROR, INT, Type, list_of, map_of, optional_of, parameter
from kube.cel.unify import Mapping, assignable, is_dyn, is_dyn_or_error, most_general, substitute
from kube.cel.values import type_of

_DOMAIN = types.STRING


def device_fields(*, lists: bool = False) -> dict[str, Type]:
    """Return the fields of `device`. `lists`: attributes may be lists (gate DRAListTypeAttributes)."""
    value = DYN if lists else types.ANY
    return {
        "driver": types.STRING,
        "allowMultipleAllocations": BOOL,
        "attributes": map_of(_DOMAIN, map_of(types.STRING, value)),
        "capacity": map_of(_DOMAIN, map_of(types.STRING, types.QUANTITY)),
    }


def check(root: Node, text: str, *, lists: bool = False) -> None:
    """Set the types and overloads of a tree. Raises SelectorSyntaxError for one that does not fit."""
    checker = _Checker(text, lists=lists)
    checker.check(root)
    checker.settle(root)


def check_result(root: Node, *, lists: bool = False) -> None:
    """Raise SelectorSyntaxError for a checked tree that does not yield a bool, as far as can be told."""
    accepted = (BOOL, types.ANY, DYN) if lists else (BOOL, types.ANY)
    if root.type not in accepted:
        raise SelectorSyntaxError(f"must evaluate to bool or the unknown type, not {root.type}")


class _Checker:
    def __init__(self, text: str, *, lists: bool) -> None:
        self._text = text
        self._functions = functions()
        self._fields = device_fields(lists=lists)
        self._scopes: list[dict[str, Type]] = [{"device": types.DEVICE}]
        self._bound: Mapping = {}
        self._fresh = 0
        self._nodes: list[Node] = []

    def settle(self, root: Node) -> None:
        """Replace what is left of type parameters."""
        for node in self._nodes:
            node.type = substitute(self._bound, node.type, free_to_dyn=True)
        assert root in self._nodes

    def check(self, node: Node) -> Type:
        self._nodes.append(node)
        match node:
            case Literal():
                node.type = type_of(node.value)
            case Ident():
                node.type = self._ident(node)
            case Select():
                node.type = self._select(node)
            case Call():
                node.type = self._call(node)
            case ListNode():
                node.type = self._list(node)
            case MapNode():
                node.type = self._map(node)
            case Fold():
                node.type = self._fold(node)
        return node.type

    def _wrong(self, node: Node, reason: str) -> SelectorSyntaxError:
        return error_at(self._text, node.at, reason)

    def _variable(self, name: str) -> Type | None:
        name = name.removeprefix(".")
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    def _named(self, node: Ident | Select, name: str) -> Type | None:
        if (variable := self._variable(name)) is not None:
            return variable
        denoted = types.NAMED.get(name.removeprefix("."))
        if denoted is None:
            return None
        node.denotes = denoted
        return types.type_of(_with_parameters(denoted))

    def _ident(self, node: Ident) -> Type:
        found = self._named(node, node.name)
        if found is None:
            raise self._wrong(node, f"undeclared reference to {node.name!r}")
        return found

    def _select(self, node: Select) -> Type:
        name = None if node.test else _qualified(node)
        if name is not None and (found := self._named(node, name)) is not None:
            return found
        result = self._field(node, node.operand, node.field, optional=False)
        return BOOL if node.test else substitute(self._bound, result)

    def _field(self, node: Node, operand: Node, field: str, *, optional: bool) -> Type:
        operand_type = substitute(self._bound, self.check(operand))
        target, unwrapped = _unwrap(operand_type)
        if target.kind == "map":
            result = target.params[1]
        elif target == types.DEVICE:
            if field not in self._fields:
                raise self._wrong(node, f"undefined field {field!r}")
            result = self._fields[field]
        elif target.kind == "param":
            self._assign([DYN], [target])
            result = DYN
        elif is_dyn_or_error(target):
            result = DYN
        elif target.kind == "struct":
            raise self._wrong(node, f"type {target} has no field {field!r}")
        else:
            raise self._wrong(node, f"type {target} does not support field selection")
        return optional_of(result) if unwrapped or optional else result

    def _call(self, node: Call) -> Type:
        if node.function == "_?._":
            field = node.args[1]
            assert isinstance(field, Literal)
            node.overloads = ["select_optional_field"]
            return substitute(self._bound, self._field(node, node.args[0], field.value, optional=True))
        for arg in node.args:
            self.check(arg)
        if node.target is not None:
            prefix = _qualified(node.target)
            full = f"{prefix}.{node.function}".removeprefix(".") if prefix is not None else ""
            if full in self._functions:
                node.function, node.target = full, None
            else:
                self.check(node.target)
        else:
            node.function = node.function.removeprefix(".")
        overloads = self._functions.get(node.function)
        if overloads is None:
            raise self._wrong(node, f"undeclared reference to {node.function!r}")
        return self._resolve(node, overloads)

    def _resolve(self, node: Call, overloads: tuple[Overload, ...]) -> Type:
        given = [operand.type for operand in node.operands()]
        if node.function in ("_&&_", "_||_"):
            for operand, its in zip(node.args, given, strict=True):
                if not self._assign([its], [BOOL]):
                    raise self._wrong(operand, f"expected type bool but found {its}")
            node.overloads = [overloads[0].id]
            return BOOL
        result: Type | None = None
        for overload in overloads:
            if overload.member != (node.target is not None):
                continue
            wanted, gives = self._instance(overload)
            if not self._assign(given, wanted):
                continue
            node.overloads.append(overload.id)
            gives = substitute(self._bound, gives)
            if result is None:
                result = gives
            elif not is_dyn(result) and gives != result:
                result = DYN
        if result is None:
            found = ", ".join(str(substitute(self._bound, its, free_to_dyn=True)) for its in given)
            raise self._wrong(node, f"found no matching overload for {node.function!r} applied to ({found})")
        return result

    def _instance(self, overload: Overload) -> tuple[list[Type], Type]:
        """Return argument and result types with type variables of their own."""
        fresh: Mapping = {}
        for name in sorted(_parameters([*overload.args, overload.result])):
            fresh[parameter(name)] = self._variable_type()
        return [substitute(fresh, one) for one in overload.args], substitute(fresh, overload.result)

    def _variable_type(self) -> Type:
        self._fresh += 1
        return parameter(f"_var{self._fresh}")

    def _assign(self, given: list[Type], wanted: list[Type]) -> bool:
        found = assignable(self._bound, given, wanted)
        if found is None:
            return False
        self._bound = found
        return True

    def _join(self, before: Type | None, its: Type) -> Type:
        if before is None:
            return its
        return most_general(before, its) if self._assign([before], [its]) else DYN

    def _optional(self, node: Node, *, optional: bool) -> Type:
        its = self.check(node)
        if not optional:
            return its
        inner, unwrapped = _unwrap(its)
        if not unwrapped and not is_dyn(inner):
            raise self._wrong(node, f"expected type {optional_of(inner)} but found {inner}")
        return inner

    def _list(self, node: ListNode) -> Type:
        element: Type | None = None
        for at, part in enumerate(node.elements):
            element = self._join(element, self._optional(part, optional=at in node.optional))
        return list_of(element or self._variable_type())

    def _map(self, node: MapNode) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            key = self._join(key, self.check(entry.key))
            value = self._join(value, self._optional(entry.value, optional=entry.optional))
        return map_of(key or self._variable_type(), value or self._variable_type())

    def _fold(self, node: Fold) -> Type:
        over = substitute(self._bound, self.check(node.over))
        accu = self.check(node.init)
        over = substitute(self._bound, over)
        self._scopes.append({node.accu: accu})
        self._scopes.append(self._loop_variables(node, over))
        self._expect(node.condition, BOOL)
        self._expect(node.step, accu)
        self._scopes.pop()
        result = self.check(node.result)
        self._scopes.pop()
        return substitute(self._bound, result)

    def _loop_variables(self, node: Fold, over: Type) -> dict[str, Type]:
        if over.kind == "list":
            one, two = (INT, over.params[0]) if node.var2 else (over.params[0], ERROR)
        elif over.kind == "map":
            one, two = over.params
        elif over.kind == "param" or (is_dyn_or_error(over) and over.kind != "any"):
            self._assign([DYN], [over])
            one = two = DYN
        else:
            raise self._wrong(node.over, f"expression of type {over} cannot be range of a comprehension")
        return {node.var: one, node.var2: two} if node.var2 else {node.var: one}

    def _expect(self, node: Node, wanted: Type) -> None:
        its = self.check(node)
        if not self._assign([wanted], [its]):
            raise self._wrong(node, f"expected type {wanted} but found {its}")


def _qualified(node: Node) -> str | None:
    """Return `a.b.c` for a chain of names."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.test:
        prefix = _qualified(node.operand)
        return None if prefix is None else f"{prefix}.{node.field}"
    return None


def _unwrap(one: Type) -> tuple[Type, bool]:
    if one.name == "optional_type" and one.params:
        return one.params[0], True
    return one, False


def _parameters(found: list[Type]) -> set[str]:
    names = {one.name for one in found if one.kind == "param"}
    return names.union(*(_parameters(list(one.params)) for one in found if one.params))


def _with_parameters(denoted: Type) -> Type:
    """Return a type name's own type: `list` denotes list(A)."""
    if denoted == types.LIST:
        return list_of(parameter("A"))
    if denoted == types.MAP:
        return map_of(parameter("A"), parameter("B"))
    return denoted
