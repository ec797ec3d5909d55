"""Calls of functions, with their costs: also those of a call that fails, since what fails may be absorbed.

cel-go evaluates all of one or two operands, and takes a failed one for a value of size one; of more operands it stops
at the first that fails, and counts nothing unless that was the last.
"""

from __future__ import annotations

from collections.abc import Callable

from kube.cel.cost import Cost
from kube.cel.errors import CostExceeded, SelectorFault
from kube.cel.frame import Eval, Frame
from kube.cel.values import Value

Run = Callable[..., Value]


def non_strict(run: Run, operand: Eval) -> Eval:
    """Return a call that evaluates its operand itself."""

    def call(frame: Frame) -> Value:
        frame.cost += 1
        return run(operand, frame)

    return call


def in_turn(run: Run, operands: list[Eval], price: Cost | None) -> Eval:
    """Return a call that stops at the first operand that fails."""

    def call(frame: Frame) -> Value:
        args: list[Value] = []
        for operand in operands:
            try:
                args.append(operand(frame))
            except CostExceeded:
                raise
            except SelectorFault as fault:
                if len(args) == len(operands) - 1:
                    frame.cost += 1 if price is None else _price_of_failure(price, [*args, fault], fault)
                raise
        return _run(run, args, price, frame)

    return call


def all_at_once(run: Run, operands: list[Eval], price: Cost | None) -> Eval:
    """Return a call that evaluates its one or two operands whatever happens."""
    if price is None:
        return _unary(run, operands[0]) if len(operands) == 1 else _binary(run, operands)

    def call(frame: Frame) -> Value:
        fault: SelectorFault | None = None
        args: list[Value] = []
        for operand in operands:
            try:
                args.append(operand(frame))
            except CostExceeded:
                raise
            except SelectorFault as found:
                fault = fault or found
                args.append(found)
        if fault is not None:
            frame.cost += _price_of_failure(price, args, fault)
            raise fault
        return _run(run, args, price, frame)

    return call


def _unary(run: Run, one: Eval) -> Eval:
    def call(frame: Frame) -> Value:
        frame.cost += 1
        return run(one(frame))

    return call


def _binary(run: Run, operands: list[Eval]) -> Eval:
    if len(operands) != 2:
        return in_turn(run, operands, None)
    one, two = operands

    def call(frame: Frame) -> Value:
        frame.cost += 1
        try:
            left = one(frame)
        except CostExceeded:
            raise
        except SelectorFault:
            _settle(two, frame)
            raise
        return run(left, two(frame))

    return call


def _settle(operand: Eval, frame: Frame) -> None:
    try:
        operand(frame)
    except CostExceeded:
        raise
    except SelectorFault:
        return


def _run(run: Run, args: list[Value], price: Cost | None, frame: Frame) -> Value:
    try:
        result = run(*args)
    except CostExceeded:
        raise
    except SelectorFault as fault:
        frame.cost += 1 if price is None else _price_of_failure(price, args, fault)
        raise
    frame.cost += 1 if price is None else price(args, result)
    frame.check()
    return result


def _price_of_failure(price: Cost, args: list[Value], fault: SelectorFault) -> int:
    try:
        return price(args, fault)
    except (TypeError, AttributeError):  # it looks into an argument that is not what the function takes
        return 1
