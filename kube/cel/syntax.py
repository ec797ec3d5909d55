"""The tree of an expression, as cel-go's parser builds it: operators are calls, macros are expanded.

The checker fills in `type` and `overloads`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kube.cel.types import ERROR, Type


@dataclass(slots=True, eq=False)
class Node:
    """Part of an expression. `at` is its offset in the text."""

    at: int
    depth: int = field(default=0, init=False)
    """Nesting as cel-go's parser counts it."""
    type: Type = field(default=ERROR, init=False)


@dataclass(slots=True, eq=False)
class Literal(Node):
    """A constant: None, bool, int, UInt, float, str or bytes."""

    value: Any


@dataclass(slots=True, eq=False)
class Ident(Node):
    """A name; with a leading dot where it was written so."""

    name: str
    denotes: Type | None = field(default=None, init=False)
    """The type that the name stands for, if any."""


@dataclass(slots=True, eq=False)
class Select(Node):
    """`operand.field`; has(operand.field) where `test`."""

    operand: Node
    field: str
    test: bool = False
    denotes: Type | None = None


@dataclass(slots=True, eq=False)
class Call(Node):
    """A call; `target` of member calls alone."""

    function: str
    target: Node | None
    args: list[Node]
    overloads: list[str] = field(default_factory=list, init=False)

    def operands(self) -> list[Node]:
        """Return target and arguments."""
        return self.args if self.target is None else [self.target, *self.args]


@dataclass(slots=True, eq=False)
class ListNode(Node):
    """A list literal. `optional` holds the positions marked with `?`."""

    elements: list[Node]
    optional: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class Entry:
    """An entry of a map literal."""

    key: Node
    value: Node
    optional: bool = False


@dataclass(slots=True, eq=False)
class MapNode(Node):
    """A map literal."""

    entries: list[Entry]


@dataclass(slots=True, eq=False)
class Fold(Node):
    """A comprehension: what macros over lists and maps expand to. `var2` of two-variable ones alone."""

    over: Node
    var: str
    var2: str
    accu: str
    init: Node
    condition: Node
    step: Node
    result: Node


def children(node: Node) -> list[Node]:
    """Return the direct parts of a node, in the order of evaluation."""
    match node:
        case Select():
            return [node.operand]
        case Call():
            return node.operands()
        case ListNode():
            return node.elements
        case MapNode():
            return [part for entry in node.entries for part in (entry.key, entry.value)]
        case Fold():
            return [node.over, node.init, node.condition, node.step, node.result]
        case _:
            return []
