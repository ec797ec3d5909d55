"""What the API server checks of an expression once its types fit: constants, mixed lists, format() clauses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kube.cel.convert import to_duration, to_timestamp
from kube.cel.errors import SelectorFault, SelectorSyntaxError
from kube.cel.lib.formatting import clauses
from kube.cel.lib.regex import compile_pattern
from kube.cel.syntax import Call, ListNode, Literal, MapNode, Node, children
from kube.cel.tokens import error_at
from kube.cel.types import DYN, Type
from kube.cel.values import Value

_SCALARS = frozenset(
    ["int", "uint", "double", "bool", "string", "timestamp", "bytes", "duration", "type", "null", "list", "map"]
)
_CLAUSE_KINDS = {
    "d": frozenset({"int", "uint"}),
    "o": frozenset({"int", "uint"}),
    "f": frozenset({"double", "string"}),
    "e": frozenset({"double", "string"}),
    "b": frozenset({"int", "uint", "bool"}),
    "x": frozenset({"int", "uint", "string", "bytes"}),
    "X": frozenset({"int", "uint", "string", "bytes"}),
}
_CONSTANTS: dict[str, Callable[[Value], object]] = {
    "duration": to_duration,
    "timestamp": to_timestamp,
    "matches": compile_pattern,
}


def validate(root: Node, text: str) -> None:
    """Raise SelectorSyntaxError for a checked tree that the API server refuses all the same."""
    for node, in_format in _walk(root, in_format=False):
        if isinstance(node, Call):
            _check_constant(node, text)
            if node.function == "format" and node.overloads == ["string_format"]:
                _check_format(node, text)
        elif not in_format and isinstance(node, ListNode):
            _check_list(node, text)
        elif not in_format and isinstance(node, MapNode):
            _check_map(node, text)


def _walk(node: Node, *, in_format: bool) -> Iterator[tuple[Node, bool]]:
    yield node, in_format
    inside = in_format or (isinstance(node, Call) and node.function == "format")
    for child in children(node):
        yield from _walk(child, in_format=inside)


def _check_constant(node: Call, text: str) -> None:
    check = _CONSTANTS.get(node.function)
    if check is None or not node.args or not isinstance(arg := node.args[0], Literal):
        return
    try:
        check(arg.value)
    except (SelectorFault, TypeError):
        raise error_at(text, arg.at, f"invalid {node.function} argument") from None


def _check_list(node: ListNode, text: str) -> None:
    its = [
        part.type.params[0] if at in node.optional and part.type.params else part.type
        for at, part in enumerate(node.elements)
    ]
    _check_alike(node.elements, its, text)


def _check_map(node: MapNode, text: str) -> None:
    values = [entry.value for entry in node.entries]
    held = [
        entry.value.type.params[0] if entry.optional and entry.value.type.params else entry.value.type
        for entry in node.entries
    ]
    keys = [entry.key for entry in node.entries]
    _check_alike(keys, [key.type for key in keys], text)
    _check_alike(values, held, text)


def _check_alike(nodes: list[Node], its: list[Type], text: str) -> None:
    for node, one in zip(nodes, its, strict=True):
        if one != its[0]:
            raise error_at(text, node.at, f"expected type '{its[0]}' but found '{one}'")


def _check_format(node: Call, text: str) -> None:
    target, args = node.target, node.args[0]
    if not (isinstance(target, Literal) and isinstance(args, ListNode)):
        return
    try:
        found = [clause for clause in clauses(target.value, len(args.elements)) if not isinstance(clause, str)]
    except SelectorFault as fault:
        raise error_at(text, node.at, str(fault)) from None
    for at, letter, _ in found:
        if (wrong := _unfit(args.elements[at], letter)) is not None:
            raise error_at(text, wrong.at, f"clause %{letter} cannot be used on {wrong.type}")
    if len(args.elements) > len(found):
        count = len(args.elements)
        raise SelectorSyntaxError(f"too many arguments supplied to string.format (expected {len(found)}, got {count})")


def _unfit(node: Node, letter: str) -> Node | None:
    """Return the part of an argument whose type a clause does not take."""
    wanted = _CLAUSE_KINDS.get(letter, _SCALARS)
    if node.type != DYN and node.type.kind not in wanted:
        return node
    if letter != "s" or not isinstance(node, ListNode | MapNode):
        return None
    return next((wrong for child in children(node) if (wrong := _unfit(child, letter)) is not None), None)
