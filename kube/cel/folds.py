"""Comprehensions: what macros over lists and maps, and cel.bind, become."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kube.cel.errors import CostExceeded, SelectorFault
from kube.cel.frame import Eval, Frame, Lazy
from kube.cel.values import LISTS, GrowingList, GrowingMap, Map, Value


def fold(over: Eval, init: Eval, condition: Eval, step: Eval, result: Eval, slots: tuple[int, int, int | None]) -> Eval:
    """Return what runs a comprehension. `slots`: of accumulator, first and second variable."""
    accu, one, two = slots

    def start(frame: Frame) -> Value:
        value = init(frame)
        if type(value) is tuple and not value:
            return GrowingList()
        return GrowingMap() if isinstance(value, Map) and not len(value) else value

    def run(frame: Frame) -> Value:
        slot = frame.slots
        entries = _entries(over(frame), paired=two is not None)
        slot[accu] = Lazy(start)
        for key, value in entries:
            slot[one] = key
            if two is not None:
                slot[two] = value
            if _stops(condition, frame):
                break
            slot[accu] = _kept(step, frame)
            frame.check()
        return _finished(result(frame))

    return run


def _stops(condition: Eval, frame: Frame) -> bool:
    try:
        return condition(frame) is False
    except CostExceeded:
        raise
    except SelectorFault:
        return False


def _kept(step: Eval, frame: Frame) -> Value:
    """Return the next value of the accumulator; a fault is one, raised when it is read."""
    try:
        return step(frame)
    except CostExceeded:
        raise
    except SelectorFault as fault:
        return Lazy(_raiser(fault))


def _raiser(fault: SelectorFault) -> Callable[[Frame], Value]:
    def raises(_frame: Frame) -> Value:
        raise fault

    return raises


def _entries(over: Value, *, paired: bool) -> Iterable[tuple[Value, Value]]:
    if type(over) in LISTS:
        return enumerate(over) if paired else ((value, None) for value in over)
    if isinstance(over, Map):
        return over.items()
    raise SelectorFault(f"unsupported comprehension range type: {type(over).__name__}")


def _finished(value: Value) -> Value:
    if type(value) is GrowingList:
        return tuple(value)
    return Map(value.items()) if type(value) is GrowingMap else value
