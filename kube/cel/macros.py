"""Macros: calls that are rewritten before types are checked (cel-go parser/macro.go, cel/library.go, ext/)."""

from __future__ import annotations

import copy
from collections.abc import Callable

from kube.cel.syntax import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select

ACCU = "@result"
_OLD_ACCU = "__result__"
_UNUSED = "#unused"
_SORTED = "@__sortBy_input__"


class MacroError(ValueError):
    """A macro was called in a way that it does not understand."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at


def expand(call: Call) -> Node | None:
    """Return what a call stands for; None if it is no macro. Raises MacroError."""
    make = _MACROS.get((call.function, len(call.args), call.target is not None))
    return None if make is None else make(call)


def _has(call: Call) -> Node:
    field = call.args[0]
    if not isinstance(field, Select) or field.test:
        raise MacroError(field.at, "invalid argument to has() macro")
    return Select(call.at, field.operand, field.field, test=True)


def _all(call: Call, over: Node, variables: tuple[str, str], rest: list[Node]) -> Node:
    return _fold(
        call,
        over,
        variables,
        init=Literal(call.at, value=True),
        condition=_op(call, "@not_strictly_false", _accu(call)),
        step=_op(call, "_&&_", _accu(call), rest[0]),
    )


def _exists(call: Call, over: Node, variables: tuple[str, str], rest: list[Node]) -> Node:
    return _fold(
        call,
        over,
        variables,
        init=Literal(call.at, value=False),
        condition=_op(call, "@not_strictly_false", _op(call, "!_", _accu(call))),
        step=_op(call, "_||_", _accu(call), rest[0]),
    )


def _exists_one(call: Call, over: Node, variables: tuple[str, str], rest: list[Node]) -> Node:
    more = _op(call, "_+_", _accu(call), Literal(call.at, 1))
    return _fold(
        call,
        over,
        variables,
        init=Literal(call.at, 0),
        step=_op(call, "_?_:_", rest[0], more, _accu(call)),
        result=_op(call, "_==_", _accu(call), Literal(call.at, 1)),
    )


def _map(call: Call, over: Node, variables: tuple[str, str], rest: list[Node]) -> Node:
    step = _op(call, "_+_", _accu(call), ListNode(call.at, [rest[-1]]))
    return _fold(call, over, variables, init=ListNode(call.at, []), step=_filtered(call, rest[:-1], step))


def _filter(call: Call, over: Node, variables: tuple[str, str], rest: list[Node]) -> Node:
    return _map(call, over, variables, [rest[0], call.args[0]])


def _transform_map(call: Call, over: Node, variables: tuple[str, str], rest: list[Node]) -> Node:
    step = _op(call, "cel.@mapInsert", _accu(call), Ident(call.at, variables[0]), rest[-1])
    return _fold(call, over, variables, init=MapNode(call.at, []), step=_filtered(call, rest[:-1], step))


def _transform_entry(call: Call, over: Node, variables: tuple[str, str], rest: list[Node]) -> Node:
    step = _op(call, "cel.@mapInsert", _accu(call), rest[-1])
    return _fold(call, over, variables, init=MapNode(call.at, []), step=_filtered(call, rest[:-1], step))


def _bind(call: Call) -> Node | None:
    if not (isinstance(call.target, Ident) and call.target.name == "cel"):
        return None
    name = _simple(call.args[0], "cel.bind() variable names must be simple identifiers")
    return _let(call, name, call.args[1], call.args[2])


def _opt_map(call: Call) -> Node:
    name = _simple(call.args[0], "optMap() variable name must be a simple identifier")
    return _opt(call, lambda value: _op(call, "optional.of", _let(call, name, value, call.args[1])))


def _opt_flat_map(call: Call) -> Node:
    name = _simple(call.args[0], "optFlatMap() variable name must be a simple identifier")
    return _opt(call, lambda value: _let(call, name, value, call.args[1]))


def _opt(call: Call, present: Callable[[Node], Node]) -> Node:
    assert call.target is not None
    value = Call(call.at, "value", copy.deepcopy(call.target), [])
    has_value = Call(call.at, "hasValue", call.target, [])
    return _op(call, "_?_:_", has_value, present(value), _op(call, "optional.none"))


def _sort_by(call: Call) -> Node:
    assert call.target is not None
    if isinstance(call.target, Literal | MapNode):
        reason = "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
        raise MacroError(call.target.at, reason)
    variable = _variable(call.args[0], "argument is not an identifier")
    keys = _map(call, Ident(call.at, _SORTED), (variable, ""), call.args[1:])
    by_keys = Call(call.at, "@sortByAssociatedKeys", Ident(call.at, _SORTED), [keys])
    return _let(call, _SORTED, call.target, by_keys)


_Expander = Callable[[Call, Node, tuple[str, str], list[Node]], Node]


def _over_one(make: _Expander, reason: str = "argument must be a simple name") -> Callable[[Call], Node]:
    def one(call: Call) -> Node:
        assert call.target is not None
        return make(call, call.target, (_variable(call.args[0], reason), ""), call.args[1:])

    return one


def _over_two(make: _Expander) -> Callable[[Call], Node]:
    def two(call: Call) -> Node:
        assert call.target is not None
        first, second = (_simple(arg, "argument must be a simple name") for arg in call.args[:2])
        if first == second:
            raise MacroError(call.args[1].at, f"duplicate variable name: {first}")
        for arg in call.args[:2]:
            _variable(arg, "")
        return make(call, call.target, (first, second), call.args[2:])

    return two


def _simple(arg: Node, reason: str) -> str:
    if not isinstance(arg, Ident):
        raise MacroError(arg.at, reason)
    return arg.name


def _variable(arg: Node, reason: str) -> str:
    name = _simple(arg, reason)
    if name in (ACCU, _OLD_ACCU):
        raise MacroError(arg.at, "iteration variable overwrites accumulator variable")
    return name


def _accu(call: Call) -> Node:
    return Ident(call.at, ACCU)


def _op(call: Call, function: str, *args: Node) -> Call:
    return Call(call.at, function, None, list(args))


def _filtered(call: Call, condition: list[Node], step: Node) -> Node:
    return _op(call, "_?_:_", condition[0], step, _accu(call)) if condition else step


def _fold(
    call: Call,
    over: Node,
    variables: tuple[str, str],
    *,
    init: Node,
    step: Node,
    condition: Node | None = None,
    result: Node | None = None,
) -> Node:
    always = Literal(call.at, value=True)
    return Fold(call.at, over, *variables, ACCU, init, condition or always, step, result or _accu(call))


def _let(call: Call, name: str, value: Node, result: Node) -> Node:
    """Return a fold over nothing, whose accumulator is a variable; it is evaluated when first read."""
    nothing = ListNode(call.at, [])
    return Fold(call.at, nothing, _UNUSED, "", name, value, Literal(call.at, value=False), Ident(call.at, name), result)


_MACROS: dict[tuple[str, int, bool], Callable[[Call], Node | None]] = {
    ("has", 1, False): _has,
    ("all", 2, True): _over_one(_all),
    ("exists", 2, True): _over_one(_exists),
    ("exists_one", 2, True): _over_one(_exists_one),
    ("map", 2, True): _over_one(_map, "argument is not an identifier"),
    ("map", 3, True): _over_one(_map, "argument is not an identifier"),
    ("filter", 2, True): _over_one(_filter, "argument is not an identifier"),
    ("all", 3, True): _over_two(_all),
    ("exists", 3, True): _over_two(_exists),
    ("exists_one", 3, True): _over_two(_exists_one),
    ("existsOne", 3, True): _over_two(_exists_one),
    ("transformList", 3, True): _over_two(_map),
    ("transformList", 4, True): _over_two(_map),
    ("transformMap", 3, True): _over_two(_transform_map),
    ("transformMap", 4, True): _over_two(_transform_map),
    ("transformMapEntry", 3, True): _over_two(_transform_entry),
    ("transformMapEntry", 4, True): _over_two(_transform_entry),
    ("optMap", 2, True): _opt_map,
    ("optFlatMap", 2, True): _opt_flat_map,
    ("sortBy", 2, True): _sort_by,
    ("bind", 3, True): _bind,
}
