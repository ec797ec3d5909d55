"""Semantic versions, read and ordered as github.com/blang/semver does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from kube.cel.compare import register_equality
from kube.cel.errors import SelectorFault
from kube.cel.types import SEMVER
from kube.cel.values import UINT_MAX, KubernetesValue, Value, register

_PARTS = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)(?:-([0-9A-Za-z.-]*))?(?:\+([0-9A-Za-z.-]*))?")


@dataclass(frozen=True, slots=True)
class Semver(KubernetesValue):
    """A version; `before`: the parts of the pre-release, numbers as (0, number, ""), words as (1, 0, word)."""

    numbers: tuple[int, int, int]
    before: tuple[tuple[int, int, str], ...] = ()

    def order(self) -> tuple[Value, ...]:
        """Return a key: by numbers, pre-releases before the release."""
        return (self.numbers, not self.before, self.before)


@lru_cache(maxsize=4096)
def parse(text: str) -> Semver:
    """Read a version. Raises SelectorFault."""
    found = _PARTS.fullmatch(text)
    if found is None:
        raise SelectorFault(f"{text!r} is not a semantic version")
    numbers = [_number(found[at], text) for at in (1, 2, 3)]
    before = () if found[4] is None else tuple(_before(part, text) for part in found[4].split("."))
    if found[5] is not None and not all(found[5].split(".")):
        raise SelectorFault(f"{text!r} is not a semantic version: build meta data is empty")
    return Semver((numbers[0], numbers[1], numbers[2]), before)


def _number(digits: str, text: str) -> int:
    if (len(digits) > 1 and digits[0] == "0") or int(digits[:30]) > UINT_MAX:
        raise SelectorFault(f"{text!r} is not a semantic version: invalid number {digits[:30]}")
    return int(digits)


def _before(part: str, text: str) -> tuple[int, int, str]:
    if not part:
        raise SelectorFault(f"{text!r} is not a semantic version: pre-release is empty")
    return (0, _number(part, text), "") if part.isdigit() else (1, 0, part)


def _normalized(text: str) -> str:
    """Drop a leading v, add missing numbers and remove leading zeros."""
    parts = text.removeprefix("v").split(".", 2)
    for at, part in enumerate(parts):
        if len(part) > 1:
            rest = part.lstrip("0")
            parts[at] = rest if rest[:1].isdigit() and rest[:1].isascii() else "0" + rest
    if len(parts) < 3 and re.search(r"[+-]", parts[-1]):
        raise SelectorFault("short version cannot contain PreRelease/Build meta data")
    return ".".join([*parts, "0", "0"][: max(3, len(parts))])


def _parse(text: str, normalize: bool = False) -> Semver:  # noqa: FBT001, FBT002
    return parse(_normalized(text) if normalize else text)


def _is_semver(text: str, normalize: bool = False) -> bool:  # noqa: FBT001, FBT002
    try:
        _parse(text, normalize)
    except SelectorFault:
        return False
    return True


def _compare(one: Semver, two: Semver) -> int:
    return int(one.order() > two.order()) - int(one.order() < two.order())


def _equal(one: Value, two: Value) -> bool:
    if type(two) is not Semver:
        raise SelectorFault("no such overload: == of a version and something else")
    return bool(one == two)


register(Semver, SEMVER)
register_equality(Semver, _equal)

BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "string_to_semver": _parse,
    "string_bool_to_semver": _parse,
    "is_semver_string": _is_semver,
    "is_semver_string_bool": _is_semver,
    "semver_is_greater_than": lambda one, two: _compare(one, two) > 0,
    "semver_is_less_than": lambda one, two: _compare(one, two) < 0,
    "semver_compare_to": _compare,
    "semver_major": lambda version: _signed(version.numbers[0]),
    "semver_minor": lambda version: _signed(version.numbers[1]),
    "semver_patch": lambda version: _signed(version.numbers[2]),
}


def _signed(number: int) -> int:
    """Return a 64-bit number as Go converts it to a signed one."""
    return number - 2**64 if number >= 2**63 else number
