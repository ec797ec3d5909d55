"""Tokens to a tree: the grammar of CEL by recursive descent, with cel-go's limits on nesting.

cel-go counts, per rule of its grammar, how deep the rule is nested (left-recursive rules count each operator), and
how deep the tree is; either above 250 is an error there and here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kube.cel import macros
from kube.cel.errors import SelectorSyntaxError
from kube.cel.syntax import Call, Entry, Ident, ListNode, Literal, MapNode, Node, Select, children
from kube.cel.tokens import Token, error_at, tokenize, unquote, unquote_bytes
from kube.cel.values import UInt, Value

MAX_DEPTH = 250
RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_KEYWORDS = frozenset({"in", "true", "false", "null"})
_RELATIONS = {"<": "_<_", "<=": "_<=_", ">=": "_>=_", ">": "_>_", "==": "_==_", "!=": "_!=_", "in": "@in"}
_SUMS = {"+": "_+_", "-": "_-_"}
_PRODUCTS = {"*": "_*_", "/": "_/_", "%": "_%_"}
_CONSTANTS = {"true": True, "false": False, "null": None}


def parse(text: str) -> Node:
    """Parse an expression and expand its macros. Raises SelectorSyntaxError."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._next = 0
        self._nested: dict[str, int] = {}

    def whole(self) -> Node:
        node = self._expr()
        if self._peek.kind != "end":
            raise self._unexpected()
        return node

    @property
    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _is(self, *ops: str) -> bool:
        token = self._peek
        return token.text in ops and (token.kind == "op" or (token.text in _KEYWORDS and token.kind == "name"))

    def _take(self) -> Token:
        token = self._peek
        self._next += token.kind != "end"
        return token

    def _expect(self, op: str) -> Token:
        if not self._is(op):
            raise self._unexpected(f", expected {op!r}")
        return self._take()

    def _unexpected(self, wanted: str = "") -> SelectorSyntaxError:
        token = self._peek
        what = f"unexpected {token.text!r}" if token.kind != "end" else "unexpected end of the expression"
        return error_at(self._text, token.at, what + wanted)

    @contextmanager
    def _rule(self, name: str) -> Iterator[Callable[[], None]]:
        """Count one entry of a grammar rule; what is yielded counts more of them."""
        before = self._nested.get(name, 0)

        def enter() -> None:
            self._nested[name] = count = self._nested.get(name, 0) + 1
            if count > MAX_DEPTH:
                raise error_at(self._text, self._peek.at, f"expression recursion limit exceeded: {MAX_DEPTH}")

        enter()
        yield enter
        self._nested[name] = before

    def _made(self, node: Node, *, deeper: bool = False) -> Node:
        depth = max((child.depth for child in children(node)), default=0) + deeper
        if depth > MAX_DEPTH:
            raise error_at(self._text, node.at, "max recursion depth exceeded")
        node.depth = max(node.depth, depth)
        return node

    def _call(self, at: int, function: str, target: Node | None, args: list[Node], *, deeper: bool = True) -> Node:
        call = Call(at, function, target, args)
        self._made(call, deeper=deeper)
        try:
            expanded = macros.expand(call)
        except macros.MacroError as fault:
            raise error_at(self._text, fault.at, str(fault)) from None
        if expanded is None:
            return call
        expanded.depth = call.depth
        return expanded

    def _expr(self) -> Node:
        with self._rule("expr"):
            condition = self._either()
            if not self._is("?"):
                return condition
            at = self._take().at
            then = self._either()
            self._expect(":")
            return self._call(at, "_?_:_", None, [condition, then, self._expr()])

    def _either(self) -> Node:
        return self._balanced("||", "_||_", lambda: self._balanced("&&", "_&&_", self._relation))

    def _balanced(self, op: str, function: str, term: Callable[[], Node]) -> Node:
        terms, ops = [term()], []
        while self._is(op):
            ops.append(self._take().at)
            terms.append(term())

        def tree(low: int, high: int) -> Node:
            middle = (low + high + 1) // 2
            left = terms[middle] if middle == low else tree(low, middle - 1)
            right = terms[middle + 1] if middle == high else tree(middle + 1, high)
            return self._made(Call(ops[middle], function, None, [left, right]))

        return tree(0, len(ops) - 1) if ops else terms[0]

    def _relation(self) -> Node:
        with self._rule("relation") as enter:
            node = self._sum()
            while self._is(*_RELATIONS):
                enter()
                op = self._take()
                with self._rule("relation"):
                    right = self._sum()
                node = self._call(op.at, _RELATIONS[op.text], None, [node, right])
            return node

    def _sum(self) -> Node:
        with self._rule("calc") as enter:
            node = self._products(self._unary(), enter)
            while self._is(*_SUMS):
                enter()
                op = self._take()
                with self._rule("calc") as inner:
                    right = self._products(self._unary(), inner)
                node = self._call(op.at, _SUMS[op.text], None, [node, right])
            return node

    def _products(self, node: Node, enter: Callable[[], None]) -> Node:
        while self._is(*_PRODUCTS):
            enter()
            op = self._take()
            with self._rule("calc"):
                right = self._unary()
            node = self._call(op.at, _PRODUCTS[op.text], None, [node, right])
        return node

    def _unary(self) -> Node:
        op = self._peek
        if not self._is("!", "-") or self._at_negative_number():
            return self._member()
        count = 0
        while self._is(op.text):
            self._take()
            count += 1
        operand = self._member()
        if count % 2 == 0:
            return operand
        return self._call(op.at, "!_" if op.text == "!" else "-_", None, [operand], deeper=False)

    def _at_negative_number(self) -> bool:
        return self._is("-") and self._tokens[self._next + 1].kind in ("int", "double")

    def _member(self) -> Node:
        with self._rule("member") as enter:
            node = self._primary()
            while self._is(".", "["):
                enter()
                node = self._selected(node) if self._is(".") else self._indexed(node)
            return node

    def _selected(self, node: Node) -> Node:
        at = self._take().at
        optional = self._is("?")
        if optional:
            self._take()
        name = self._name()
        if self._is("(") and not optional:
            return self._call(self._peek.at, name, node, self._arguments())
        if optional:
            return self._made(Call(at, "_?._", None, [node, Literal(at, name)]), deeper=True)
        return self._made(Select(at, node, name), deeper=True)

    def _indexed(self, node: Node) -> Node:
        at = self._take().at
        optional = self._is("?")
        if optional:
            self._take()
        index = self._expr()
        self._expect("]")
        return self._call(at, "_[?_]" if optional else "_[_]", None, [node, index])

    def _name(self) -> str:
        token = self._peek
        if token.kind != "name" or token.text in _KEYWORDS:
            raise self._unexpected(", expected a name")
        return self._take().text

    def _arguments(self) -> list[Node]:
        self._expect("(")
        args: list[Node] = []
        while not self._is(")"):
            if args:
                self._expect(",")
            args.append(self._expr())
        self._take()
        return args

    def _primary(self) -> Node:
        token = self._peek
        if self._is("("):
            self._take()
            node = self._expr()
            self._expect(")")
            return node
        if self._is("["):
            return self._list()
        if self._is("{"):
            return self._map()
        if self._is(".") or (token.kind == "name" and token.text not in _KEYWORDS):
            return self._named()
        return self._literal()

    def _named(self) -> Node:
        token = self._peek
        dot = "." if self._is(".") and self._take() else ""
        self._refuse_message()
        name = self._name()
        if name in RESERVED:
            raise error_at(self._text, token.at, f"reserved identifier: {name}")
        if self._is("("):
            return self._call(self._peek.at, dot + name, None, self._arguments(), deeper=False)
        return Ident(token.at, dot + name)

    def _refuse_message(self) -> None:
        """Refuse `some.message{...}`: device selectors have no messages worth making."""
        at = self._next
        while self._tokens[at].kind == "name" and self._tokens[at + 1].text == ".":
            at += 2
        if self._tokens[at].kind == "name" and self._tokens[at + 1].text == "{":
            raise error_at(self._text, self._peek.at, "messages cannot be made in a device selector")

    def _list(self) -> Node:
        at = self._take().at
        elements: list[Node] = []
        optional: set[int] = set()
        while not self._closed("]", first=not elements):
            if self._is("?"):
                self._take()
                optional.add(len(elements))
            elements.append(self._expr())
        return self._made(ListNode(at, elements, frozenset(optional)))

    def _map(self) -> Node:
        at = self._take().at
        entries: list[Entry] = []
        while not self._closed("}", first=not entries):
            optional = self._is("?")
            if optional:
                self._take()
            key = self._expr()
            self._expect(":")
            entries.append(Entry(key, self._expr(), optional))
        return self._made(MapNode(at, entries))

    def _closed(self, end: str, *, first: bool) -> bool:
        """Step over a separator or the end of a list, which may have a comma before it; tell whether it ended."""
        if not first or self._is(","):
            if self._is(","):
                self._take()
                if first and not self._is(end):
                    raise self._unexpected()
            elif not self._is(end):
                raise self._unexpected(f", expected ',' or {end!r}")
        if self._is(end):
            self._take()
            return True
        return False

    def _literal(self) -> Node:
        at = self._peek.at
        sign = "-" if self._at_negative_number() and self._take() else ""
        token = self._take()
        try:
            return Literal(at, _value(token, sign))
        except ValueError as fault:
            raise error_at(self._text, at, str(fault)) from None
        except KeyError:
            self._next -= token.kind != "end"
            raise self._unexpected() from None


def _value(token: Token, sign: str) -> Value:
    match token.kind:
        case "int" | "uint":
            return _integer(token.text, sign, unsigned=token.kind == "uint")
        case "double":
            value = float(sign + token.text)
            if value in (float("inf"), float("-inf")):
                raise ValueError("invalid double literal")
            return value
        case "string":
            return unquote(token.text)
        case "bytes":
            return unquote_bytes(token.text)
        case _:
            return _CONSTANTS[token.text]


def _integer(text: str, sign: str, *, unsigned: bool) -> int:
    digits = text.rstrip("uU")
    value = int(sign + digits, 16 if digits.startswith("0x") else 10)
    if unsigned:
        if value >= 2**64:
            raise ValueError("invalid uint literal")
        return UInt(value)
    if not -(2**63) <= value < 2**63:
        raise ValueError("invalid int literal")
    return value
