"""Requests made wrong, from right ones: values of other types, keys lost, doubled and swapped, bytes broken."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from scheduler.wire import SLACK_ANNOTATION

STRANGE: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"a": {}}}, ["a"] * 50),
    *(0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**63, 10**30, 0.5, -0.0, 1e308),
    *(
        "",
        "a",
        "0,5",
        "1_0",
        "1e300",
        "\x00",
        "\u202e",
        "é" * 300,
        "a" * 5000,
        "../../etc/passwd",
        "node-0",
        "1Gi",
        "-1",
        "NaN",
        "9" * 400,
    ),
)
TOKENS = (
    b"NaN",
    b"Infinity",
    b"1e999",
    b"\xff",
    b"\\ud800",
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b":",
    b"\\u0000",
    b"9" * 5000,
    b"\x00",
    b"",
)


class Mutator:
    """An endless source of requests. The same seed gives the same ones."""

    def __init__(self, seeds: list[Any], seed: int) -> None:
        self.seeds = seeds
        self.random = random.Random(seed)
        self.keys = sorted({key for each in seeds for key in _keys(each)})

    def request(self) -> bytes:
        """Return the body of a request."""
        random = self.random
        value = json.loads(json.dumps(random.choice(self.seeds)))
        for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
            value = self._changed(value)
        if random.random() < 0.1:
            self._annotate(value)
        text = json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
        if random.random() < 0.15:
            text = self._nested(text)
        return self._broken(text) if random.random() < 0.3 else text

    def _changed(self, value: Any) -> Any:
        """Change one place, chosen among all of them."""
        places = list(_places(value))
        if not places or self.random.random() < 0.02:
            return self._strange()
        holder, key = self.random.choice(places)
        change = self.random.randrange(6)
        if change == 0:
            del holder[key]
        elif change == 1:
            holder[key] = self._strange()
        elif change == 2:
            other, at = self.random.choice(places)
            holder[key] = json.loads(json.dumps(other[at]))
        elif change == 3 and isinstance(holder, dict):
            holder[self.random.choice(self.keys)] = holder.pop(key)
        elif change == 4 and isinstance(holder, dict):
            holder[key.swapcase()] = holder[key]
        elif isinstance(holder, dict):
            holder[self.random.choice(self.keys)] = self._strange()
        else:
            holder.append(holder[key])
        return value

    def _annotate(self, value: Any) -> None:
        """Give the pod, where there still is one, a strange annotation of ours."""
        metadata = value["Pod"].get("metadata") if isinstance(value, dict) and isinstance(value.get("Pod"), dict) else 0
        if isinstance(metadata, dict):
            metadata["annotations"] = {SLACK_ANNOTATION: self._strange()}

    def _strange(self) -> Any:
        return copy.deepcopy(self.random.choice(STRANGE))

    def _nested(self, text: bytes) -> bytes:
        """Put an array or an object around a part, many times."""
        depth = self.random.choice((50, 99, 101, 500, 3000))
        if self.random.random() < 0.5:
            return b'{"Pod":' + b"[" * depth + b"]" * depth + b"," + text[1:]
        return b'{"a":' * depth + text + b"}" * depth

    def _broken(self, text: bytes) -> bytes:
        at = self.random.randrange(len(text) + 1)
        to = min(len(text), at + self.random.choice((0, 0, 1, 1, 10, 100_000)))
        return text[:at] + self.random.choice(TOKENS) + text[to:]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _keys(item)
