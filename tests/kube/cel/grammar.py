"""Random expressions: most are of one type throughout, some mix types, some end in the middle. Same seed, same ones."""

from __future__ import annotations

import random

DOMAINS = ['"gpu.nvidia.com"', '"topology.example.com"', '"resource.kubernetes.io"', '"nope"', "device.driver"]
IDS = ["type", "index", "healthy", "productName", "cudaComputeCapability", "driverVersion", "rack", "nope", "pcieRoot"]
TEXTS = ['""', '"a"', '"gpu"', '"a,b,c"', '"Hello World"', '"größer"', "device.driver"]
NUMBERS = ["0", "1", "2", "3", "7", "-1", "100", "9223372036854775807"]
QUANTITIES = ['"1"', '"80Gi"', '"1.5Gi"', '"500m"', '"-3"', '"12e3"', '"nope"']
VERSIONS = ['"1.0.0"', '"9.0.0"', '"1.2.3-rc.1"', '"575.57.8"', '"v1"']
KINDS = ["bool", "int", "double", "string", "list", "texts", "map", "quantity", "semver", "duration", "optional", "dyn"]


class Writer:
    """Writes expressions of a wanted type."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names: list[tuple[str, str]] = []

    def expression(self) -> str:
        """Return one; one in twenty has a character too many or too few."""
        kind = "bool" if self._random.random() < 0.6 else self._random.choice(KINDS)
        text = self.of(kind, self._random.randint(1, 4))
        if self._random.random() < 0.05:
            at = self._random.randrange(len(text))
            text = text[:at] + self._random.choice(["", "(", ")", "'", ".", "?", "}", "&"]) + text[at + 1 :]
        return text

    def of(self, kind: str, depth: int) -> str:
        """Return an expression that is of a type, unless this one is mixed up."""
        if self._random.random() < 0.03:
            kind = self._random.choice(KINDS)
        held = [name for name, its in self._names if its == kind]
        if held and self._random.random() < 0.5:
            return self._random.choice(held)
        return str(getattr(self, f"_{kind}")(depth - 1) if depth > 0 else self._leaf(kind))

    def _one(self, *choices: str) -> str:
        return self._random.choice(choices)

    def _leaf(self, kind: str) -> str:
        leaves = {
            "bool": ["true", "false", "device.allowMultipleAllocations", self._attribute()],
            "int": NUMBERS,
            "double": ["0.0", "1.5", "-2.25", "1e3", "100.0"],
            "string": TEXTS,
            "list": ["[]", "[1, 2, 3]", "[3, 1, 2]", "[1]"],
            "texts": ["[]", '["a", "b"]', '["gpu"]'],
            "map": ["{}", '{"a": 1}', '{"a": 1, "b": 2}'],
            "quantity": [f"quantity({text})" for text in QUANTITIES] + ['device.capacity["gpu.nvidia.com"].memory'],
            "semver": [f"semver({text})" for text in VERSIONS],
            "duration": ['duration("1s")', 'duration("-1h30m")', 'duration("0s")'],
            "optional": ["optional.none()", "optional.of(1)", '{}[?"a"]'],
            "dyn": [self._attribute(), "dyn(1)", 'dyn("a")', "dyn([1, 2])"],
        }
        return self._random.choice(leaves[kind])

    def _attribute(self) -> str:
        domain, name = self._random.choice(DOMAINS), self._random.choice(IDS)
        return f"device.attributes[{domain}]" + self._one(f".{name}", f'["{name}"]')

    def _bool(self, depth: int) -> str:
        def some(kind: str) -> str:
            return self.of(kind, depth)

        ordered = self._one("int", "double", "string", "duration", "dyn")
        kind = self._random.choice(KINDS)
        number = self._one("quantity", "semver")
        return self._random.choice(
            [
                lambda: f"({some('bool')} {self._one('&&', '||')} {some('bool')})",
                lambda: (
                    f"({some('bool')} {self._one('&&', '||')} {some('bool')} {self._one('&&', '||')} {some('bool')})"
                ),
                lambda: f"!{some('bool')}",
                lambda: f"({some(ordered)} {self._one('<', '<=', '>', '>=')} {some(ordered)})",
                lambda: (
                    f"({some(self._one('int', 'double'))} {self._one('<', '>=')} {some(self._one('int', 'double'))})"
                ),
                lambda: f"({some(kind)} {self._one('==', '!=')} {some(kind)})",
                lambda: f"({some('dyn')} {self._one('==', '!=')} {some(kind)})",
                lambda: f"({some('int')} in {some('list')})",
                lambda: f"({some('string')} in {self._one(some('map'), some('texts'))})",
                lambda: f"{some('string')}.{self._one('contains', 'startsWith', 'endsWith')}({some('string')})",
                lambda: f"{some('string')}.matches({self._one(some('string'), repr('[a-c]+'), repr('^g.u$'))})",
                lambda: f"has(device.attributes[{self._random.choice(DOMAINS)}].{self._random.choice(IDS)})",
                lambda: f"has({some('map')}.{self._one('a', 'b', 'x')})",
                lambda: f"{some('optional')}.hasValue()",
                lambda: f"{some(number)}.{self._one('isGreaterThan', 'isLessThan')}({some(number)})",
                lambda: f"{some('quantity')}.isInteger()",
                lambda: f"{some('list')}.isSorted()",
                lambda: f"sets.{self._one('contains', 'intersects', 'equivalent')}({some('list')}, {some('list')})",
                lambda: self._macro(self._one("all", "exists", "exists_one", "existsOne"), "bool", depth),
                lambda: f"({some('bool')} ? {some('bool')} : {some('bool')})",
                self._attribute,
            ]
        )()

    def _macro(self, name: str, kind: str, depth: int) -> str:
        """Return a call of a macro over a list or map, whose body may use its variables."""
        source = self._one("list", "texts", "map")
        element = {"list": "int", "texts": "string", "map": "string"}[source]
        over = self.of(source, depth)
        variables = [("xyz"[len(self._names) % 3], element)]
        if name not in ("map", "filter") and self._random.random() < 0.3:
            first = "string" if source == "map" else "int"
            variables = [("k", first), ("v", "int" if source == "map" else element)]
        self._names += variables
        body = self.of(kind, depth)
        del self._names[-len(variables) :]
        return f"{over}.{name}({', '.join(variable for variable, _ in variables)}, {body})"

    def _int(self, depth: int) -> str:
        def some(kind: str) -> str:
            return self.of(kind, depth)

        number = self._one("quantity", "semver")
        return self._random.choice(
            [
                lambda: f"({some('int')} {self._one('+', '-', '*', '/', '%')} {some('int')})",
                lambda: f"-{some('int')}",
                lambda: f"{some(self._one('string', 'list', 'map', 'texts'))}.size()",
                lambda: f"size({some(self._one('string', 'list', 'map', 'dyn'))})",
                lambda: f"int({some(self._one('string', 'double', 'dyn'))})",
                lambda: f"{some('list')}[{some('int')}]",
                lambda: f"{some('map')}[{some('string')}]",
                lambda: f"{some('map')}.{self._one('a', 'x')}",
                lambda: f"{some('list')}.{self._one('min', 'max', 'sum')}()",
                lambda: f"{some('list')}.{self._one('indexOf', 'lastIndexOf')}({some('int')})",
                lambda: f"{some('string')}.{self._one('indexOf', 'lastIndexOf')}({some('string')})",
                lambda: f"{some(number)}.compareTo({some(number)})",
                lambda: f"{some('quantity')}.asInteger()",
                lambda: f"{some('semver')}.{self._one('major', 'minor', 'patch')}()",
                lambda: f"{some('optional')}.orValue({some('int')})",
                lambda: f"({some('bool')} ? {some('int')} : {some('int')})",
                lambda: f"{some('duration')}.{self._one('getHours', 'getSeconds')}()",
            ]
        )()

    def _double(self, depth: int) -> str:
        return self._one(
            f"({self.of('double', depth)} {self._one('+', '-', '*', '/')} {self.of('double', depth)})",
            f"double({self.of(self._one('int', 'string', 'dyn'), depth)})",
            f"{self.of('quantity', depth)}.asApproximateFloat()",
        )

    def _string(self, depth: int) -> str:
        text = self.of("string", depth)
        return self._one(
            f"({text} + {self.of('string', depth)})",
            f"string({self.of(self._one('int', 'double', 'bool', 'duration', 'dyn'), depth)})",
            f"{text}.{self._one('lowerAscii', 'upperAscii', 'trim')}()",
            f"{text}.substring({self.of('int', 0)})",
            f"{text}.charAt({self.of('int', 0)})",
            f"{text}.replace({self.of('string', 0)}, {self.of('string', 0)})",
            f"{text}.find({self._one(repr('[a-z]+'), repr('[0-9]'), self.of('string', 0))})",
            f"{self.of('texts', depth)}.join({self.of('string', 0)})",
            f"{self._one(repr('%s'), repr('%s!'), repr('%d'))}"
            f".format([{self.of(self._one('string', 'int', 'list'), depth)}])",
        )

    def _list(self, depth: int) -> str:
        own = self.of("list", depth)
        return self._one(
            f"[{self.of('int', depth)}, {self.of('int', depth)}]",
            f"({own} + {self.of('list', depth)})",
            f"{own}.{self._one('sort', 'reverse', 'distinct')}()",
            f"{own}.slice({self.of('int', 0)}, {self.of('int', 0)})",
            f"lists.range({self._one('0', '3', '10', '-1')})",
            self._macro("map", "int", depth),
            self._macro("filter", "bool", depth),
            self._macro("transformList", "int", depth),
            f"[{own}, {self.of('list', depth)}].flatten()",
        )

    def _texts(self, depth: int) -> str:
        return self._one(
            f"[{self.of('string', depth)}, {self.of('string', depth)}]",
            f"{self.of('string', depth)}.split({self._one(repr(','), repr(''), repr(' '))})",
            f"{self.of('string', depth)}.findAll('[a-z]')",
            self._macro("map", "string", depth),
        )

    def _map(self, depth: int) -> str:
        return self._one(
            '{"a": ' + self.of("int", depth) + "}",
            "{" + self.of("string", depth) + ": " + self.of("int", depth) + ', "b": 2}',
            self._macro("transformMap", "int", depth),
        )

    def _quantity(self, depth: int) -> str:
        return self._one(
            f"{self.of('quantity', depth)}.{self._one('add', 'sub')}({self.of(self._one('quantity', 'int'), depth)})",
            self._leaf("quantity"),
        )

    def _semver(self, depth: int) -> str:
        return self._one(f"semver({self._random.choice(VERSIONS)}, {self.of('bool', depth)})", self._leaf("semver"))

    def _duration(self, depth: int) -> str:
        return f"({self.of('duration', depth)} {self._one('+', '-')} {self.of('duration', depth)})"

    def _optional(self, depth: int) -> str:
        return self._one(
            f"optional.of({self.of('int', depth)})",
            f"optional.ofNonZeroValue({self.of('int', depth)})",
            f"{self.of('map', depth)}[?{self.of('string', depth)}]",
            f"{self.of('map', depth)}.?a",
            f"{self.of('list', depth)}[?{self.of('int', depth)}]",
            f"{self.of('list', depth)}.{self._one('first', 'last')}()",
            f"{self.of('optional', depth)}.or({self.of('optional', depth)})",
            f"{self.of('optional', depth)}.optMap(o, o + {self.of('int', depth)})",
        )

    def _dyn(self, depth: int) -> str:
        return self._one(f"dyn({self.of(self._random.choice(KINDS), depth)})", self._attribute())
