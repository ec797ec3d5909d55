"""What an evaluation works on: the values of variables by slot, and the cost so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kube.cel.cost import LIMIT
from kube.cel.errors import CostExceeded
from kube.cel.values import Value


class Frame:
    """Variables and cost of one evaluation. A variable that is a `Lazy` is evaluated when first read."""

    __slots__ = ("cost", "slots")

    def __init__(self, roots: Sequence[Value]) -> None:
        self.slots: dict[int, Value] = dict(enumerate(roots))
        self.cost = 0

    def read(self, slot: int) -> Value:
        """Return a variable."""
        value = self.slots[slot]
        return value.value(self) if type(value) is Lazy else value

    def check(self) -> None:
        """Raise CostExceeded above the limit."""
        if self.cost > LIMIT:
            raise CostExceeded(f"actual cost limit exceeded: more than {LIMIT}")


Eval = Callable[[Frame], Value]


class Lazy:
    """The start of an accumulator, evaluated when first read; a fault is kept as well."""

    __slots__ = ("_evaluate", "_fault", "_known", "_value")

    def __init__(self, evaluate: Eval) -> None:
        self._evaluate = evaluate
        self._known = False
        self._value: Value = None
        self._fault: Exception | None = None

    def value(self, frame: Frame) -> Value:
        """Return the value."""
        if not self._known:
            self._known = True
            try:
                self._value = self._evaluate(frame)
            except Exception as fault:
                self._fault = fault
                raise
        if self._fault is not None:
            raise self._fault
        return self._value
