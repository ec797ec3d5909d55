"""Values of our evaluator as the golden table writes them."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from kube.cel.lib.formats import Format
from kube.cel.lib.net import CIDR, IP
from kube.cel.lib.quantity import Quantity
from kube.cel.lib.semver import Semver
from kube.cel.lib.urls import URL
from kube.cel.types import Type
from kube.cel.values import LISTS, Duration, Map, Optional, Timestamp, UInt


def plain(value: Any) -> Any:
    match value:
        case None:
            return {"null": None}
        case bool():
            return {"bool": value}
        case UInt():
            return {"uint": str(int(value))}
        case int():
            return {"int": str(value)}
        case float():
            return {"double": value}
        case str():
            return {"string": value}
        case bytes():
            return {"bytes": value.hex()}
        case Duration():
            return {"duration": str(value.nanos)}
        case Timestamp():
            return {"timestamp": f"{value.nanos // 10**9}.{value.nanos % 10**9:09d}"}
        case Type():
            return {"type": value.name}
        case Optional():
            return {"optional": plain(value.held[0]) if value.held else None}
        case Quantity():
            return {"quantity": Decimal(value.value).scaleb(value.scale)}
        case Semver():
            before = ".".join(word or str(number) for _, number, word in value.before)
            return {"semver": ".".join(map(str, value.numbers)) + (f"-{before}" if before else "")}
        case IP():
            return {"ip": str(value.address)}
        case CIDR():
            return {"cidr": f"{value.address}/{value.bits}"}
        case URL():
            return {"url": value.text}
        case Format():
            return {"format": value.name}
        case Map():
            return {"map": sorted(([plain(key), plain(held)] for key, held in value.items()), key=str)}
    assert type(value) in LISTS
    return {"list": [plain(part) for part in value]}


def read(answer: Any) -> Any:
    """Return a value of the table in the form in which ours compares."""
    ((kind, value),) = answer.items()
    if kind == "double":
        number = float.fromhex(value) if value not in ("+Inf", "-Inf", "NaN") else float(value)
        return {kind: number}
    if kind == "quantity":
        return {kind: Decimal(value)}
    if kind == "optional":
        return {kind: None if value is None else read(value)}
    if kind == "list":
        return {kind: [read(part) for part in value]}
    if kind == "map":
        return {kind: sorted(([read(key), read(held)] for key, held in value), key=str)}
    return answer


def same(ours: Any, theirs: Any) -> bool:
    """Whether two such values are equal; NaN is NaN."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours):
        return math.isnan(theirs)
    return bool(ours == theirs)
