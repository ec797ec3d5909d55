"""Which function a call runs, and the cost of the call.

The checker leaves one overload where the types are known, and several where an argument is dynamic; then the first
whose signature the values fit is run, as cel-go does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kube.cel import calls, cost
from kube.cel.arithmetic import no_overload
from kube.cel.frame import Eval
from kube.cel.lib import ANY_OVERLOAD, BY_OVERLOAD, NON_STRICT, PREPARED
from kube.cel.signatures import Overload, functions
from kube.cel.syntax import Call
from kube.cel.types import Type
from kube.cel.values import LISTS, Map, Value, type_of

Run = Callable[..., Value]
_VARIADIC = frozenset({"format"})
"""Functions of one or two arguments that cel-go binds as if they took any number."""
Accepts = Callable[[Value], bool]


def bind(node: Call, operands: list[Eval], *, constants: list[Value]) -> Eval:
    """Return what evaluates a call. `constants`: known values of operands, `...` for others.

    Raises SelectorFault for a constant that cannot be prepared, such as an invalid pattern.
    """
    overload = node.overloads[0] if len(node.overloads) == 1 else ""
    if node.function in NON_STRICT:
        return calls.non_strict(NON_STRICT[node.function], operands[0])
    prepared = _prepared(node.function, constants)
    run = prepared or _runner(node, overload)
    price = cost.cost_of(node.function, overload)
    ambiguous = not overload and node.function not in ANY_OVERLOAD
    if len(operands) > 2 or node.function in _VARIADIC or ambiguous or run is prepared:
        return calls.in_turn(run, operands, price)
    return calls.all_at_once(run, operands, price)


def _prepared(function: str, constants: list[Value]) -> Run | None:
    prepare = PREPARED.get(function)
    if prepare is None or len(constants) < 2 or type(constants[1]) is not str:
        return None
    return prepare(constants[1])


def _runner(node: Call, overload: str) -> Run:
    if (run := ANY_OVERLOAD.get(node.function)) is not None:
        return run
    declared = functions()[node.function]
    if overload:
        return _guarded(next(one for one in declared if one.id == overload), [part.type for part in node.operands()])
    count = len(node.operands())
    choices = [
        (_acceptors(one.args), BY_OVERLOAD[one.id])
        for one in declared
        if len(one.args) == count and one.id in BY_OVERLOAD
    ]

    def choose(*args: Value) -> Value:
        for accepts, run in choices:
            if _fits(accepts, args):
                return run(*args)
        raise no_overload(node.function, *args)

    return choose


def _guarded(overload: Overload, known: Sequence[Type]) -> Run:
    run = BY_OVERLOAD.get(overload.id)
    accepts = _acceptors(overload.args)
    if run is not None and all(
        one is None or its == want for one, its, want in zip(accepts, known, overload.args, strict=True)
    ):
        return run

    def guarded(*args: Value) -> Value:
        if run is None or not _fits(accepts, args):
            raise no_overload(overload.id, *args)
        return run(*args)

    return guarded


def _fits(accepts: Sequence[Accepts | None], args: Sequence[Value]) -> bool:
    return all(one is None or one(arg) for one, arg in zip(accepts, args, strict=True))


def _acceptors(wanted: Sequence[Type]) -> list[Accepts | None]:
    return [_acceptor(one) for one in wanted]


def _acceptor(wanted: Type) -> Accepts | None:
    """Return what tells whether a value is of a type: lists and maps are judged by their first element."""
    if wanted.kind in ("dyn", "any", "param"):
        return None
    if wanted.kind == "list":
        inner = _acceptor(wanted.params[0])
        return lambda value: type(value) in LISTS and (inner is None or not value or inner(value[0]))
    if wanted.kind == "map":
        parts = _acceptors(wanted.params)
        return lambda value: isinstance(value, Map) and all(_fits(parts, entry) for entry in list(value.items())[:1])
    name = wanted.name
    return lambda value: type_of(value).name == name
